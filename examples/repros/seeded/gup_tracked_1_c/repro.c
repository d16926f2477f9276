// SPDX-License-Identifier: GPL-2.0
/*
 * gup.tracked.1 is not kept. mm/gup.c says: Writing to file-backed mappings
 * which require folio dirty tracking using GUP is a fundamentally broken
 * operation [...] A long term pin is the most egregious case so this is the
 * case we disallow.
 *
 * It does not hold: after.refcounts == before.refcounts (3 == 2)
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

/* What a call reads, or writes. */
static char scratch[65536];

static void store(char *start, long pages, char byte)
{
	for (long i = 0; i < pages; i++)
		((volatile char *)start)[i * page] = byte;
}

/* A page's entry in /proc/self/pagemap: page frame in bits 54:0 (for root), present in bit 63. */
static unsigned long long pagemap_entry(const char *at)
{
	unsigned long long entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (fd < 0 || pread(fd, &entry, 8, (unsigned long)at / page * 8) != 8) {
		perror("/proc/self/pagemap");
		exit(3);
	}
	close(fd);
	return entry;
}

/* -1 where nothing is mapped. */
static long long pagemap_pfn(const char *at)
{
	unsigned long long entry = pagemap_entry(at);

	return entry >> 63 ? (long long)(entry & ((1ULL << 55) - 1)) : -1;
}

/* Have the kernel empty its per-CPU batches of pages, which hold references of their own. */
static void settle(void)
{
	unsigned long node = 1;

	syscall(SYS_migrate_pages, 0, 2, &node, &node);
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

static long long refcount(const char *at)
{
	long long pfn = pagemap_pfn(at);
	struct repro_pages pages = { .pfn = { pfn } };

	if (pfn < 0)
		return -1;
	must(ioctl(device(), REPRO_COUNT, &pages), "ioctl of /dev/repro");
	return pages.ret;
}

int main(void)
{
	long fd;
	char *area;
	long long before_refcounts[1];
	struct repro_pages pins2;
	int kept;
	long long after_refcounts[1];

	page = sysconf(_SC_PAGESIZE);
	(memcpy(scratch, "/tmp/gup-ramfs\000", 15), syscall(SYS_mkdirat, (-0 % (1 << 0)), (long)scratch, 0));
	must((memcpy(scratch, "/tmp/gup-ramfs\000ramfs\000", 21), syscall(SYS_mount, ((long)scratch + 0), (long)scratch, ((long)scratch + 15), 0, 0)), "subject.call('mount', subject.scratch + 0, subject.scratch, subject.scratch + 15, 0, 0, payload=b'/tmp/gup-ramfs\\x00ramfs\\x00')");
	fd = must(open("/tmp/gup-ramfs/file", O_RDWR | O_CREAT, 0600), "subject.open('/tmp/gup-ramfs/file', 'O_RDWR|O_CREAT')");
	must(ftruncate(fd, 1 * page), "subject.ftruncate(fd, 1)");
	area = map(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	store(area, 1, 1);
	settle();
	for (long i = 0; i < 1; i++)
		before_refcounts[i] = refcount(area + i * page);
	pins2 = gup(REPRO_CALL(0), area, 1);
	kept = pins2.ret == -EFAULT;
	printf("%s%s\n", "pins2.errno == 'EFAULT': ", kept ? "it holds" : "it does not hold");
	if (!kept)
		return 3;
	settle();
	for (long i = 0; i < 1; i++)
		after_refcounts[i] = refcount(area + i * page);
	kept = 1;
	for (long i = 0; i < 1; i++)
		kept = kept && after_refcounts[i] == before_refcounts[i];
	printf("%s%s\n", "after.refcounts == before.refcounts: ", kept ? "it holds" : "it does not hold");
	return kept ? 0 : 1;
}
