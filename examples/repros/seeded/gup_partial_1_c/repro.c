// SPDX-License-Identifier: GPL-2.0
/*
 * gup.partial.1 is not kept. __get_user_pages(9) says: This may be fewer than
 * the number requested.
 *
 * It does not hold: (pins.returned, pins.filled) == (4, 4) (-14 == 4)
 *
 * Seen on Linux 7.3.4 (x86_64, 256 MiB, 1 CPU), in QEMU 7.2.22 with processor
 * max,la57=off.
 *
 * Exit status: 1 it reproduces, 0 it does not, 3 a step failed and nothing is
 * proven.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "repro.h"

/* A step that has to succeed, or nothing is proven. */
static long must(long ret, const char *call)
{
	if (ret < 0) {
		fprintf(stderr, "%s: %s\n", call, strerror(errno));
		exit(3);
	}
	return ret;
}

static long page;

static char *map(char *at, long pages, int prot, int flags, int fd, long offset)
{
	char *start = mmap(at, pages * page, prot, flags, fd, offset);

	if (start == MAP_FAILED) {
		perror("mmap");
		exit(3);
	}
	return start;
}

static int device(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/repro", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		perror("/dev/repro (load the module first: insmod repro_mod.ko)");
		exit(3);
	}
	return fd;
}

static struct repro_pages gup(unsigned int call, char *start, long nr)
{
	struct repro_pages pages = { .start = (unsigned long)start, .nr = nr };

	must(ioctl(device(), call, &pages), "ioctl of /dev/repro");
	return pages;
}

int main(void)
{
	char *area;
	struct repro_pages pins;
	int kept;

	page = sysconf(_SC_PAGESIZE);
	area = map(NULL, 5, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(munmap(area + 4 * page, 1 * page), "subject.munmap(area[4:])");
	pins = gup(REPRO_CALL(0), area, 5);
	kept = (pins.ret == 4) && (pins.filled == 4);
	printf("%s%s\n", "(pins.returned, pins.filled) == (4, 4): ", kept ? "it holds" : "it does not hold");
	return kept ? 0 : 1;
}
