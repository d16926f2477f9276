// SPDX-License-Identifier: GPL-2.0
/*
 * fork.batch.1 is not kept. fork(2) says: Under Linux, fork() is implemented
 * using copy-on-write pages.
 *
 * It does not hold: (theirs.writable, ours.writable, ours.exclusive) == (0, 0,
 * 0) (1 == 0)
 *
 * Seen on Linux 7.3.4 (x86_64, 256 MiB, 1 CPU), in QEMU 7.2.22 with processor
 * max,la57=off.
 *
 * What fails cannot be seen from inside: the program does the steps, says
 * where to look from outside, and ends with 2; 3 is a step that failed.
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

/* A child that goes through the same steps; each waits while the other does its own. */
struct child {
	pid_t pid;
	int to_parent[2];
	int to_child[2];
};

static struct child fork_child(void)
{
	struct child child;

	if (pipe(child.to_parent) || pipe(child.to_child)) {
		perror("pipe");
		exit(3);
	}
	child.pid = fork();
	if (child.pid < 0) {
		perror("fork");
		exit(3);
	}
	close(child.pid ? child.to_parent[1] : child.to_child[1]);
	close(child.pid ? child.to_child[0] : child.to_parent[0]);
	return child;
}

/* Whether the step that follows is this process's; if not, wait until it is done. */
static int turn(struct child *child, int childs)
{
	char done;

	if (childs == !child->pid)
		return 1;
	if (read(child->pid ? child->to_parent[0] : child->to_child[0], &done, 1) != 1)
		exit(child->pid ? 3 : 0);
	return 0;
}

static void turned(struct child *child)
{
	if (write(child->pid ? child->to_child[1] : child->to_parent[1], "", 1) != 1)
		exit(3);
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

static void set(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0) {
		perror(path);
		exit(3);
	}
	close(fd);
}

/* What one entry of a pmd maps, as one huge page: so many pages. */
static char *huge_page(long pages)
{
	const long size = page / 8 * page;
	char *all = map(NULL, 2 * size / page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *start = all + (size - (unsigned long)all % size) % size;

	if (size != pages * page) {
		fprintf(stderr, "a huge page is of %ld pages here, not of %ld\n", size / page, pages);
		exit(3);
	}
	set("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	set("/proc/sys/vm/compact_memory", "1");
	if (madvise(start, size, MADV_HUGEPAGE)) {
		perror("madvise");
		exit(3);
	}
	*(volatile char *)start = 1;
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
	struct child child;

	page = sysconf(_SC_PAGESIZE);
	area = huge_page(512);
	pins = gup(REPRO_CALL(0), area, 1);
	child = fork_child();
	if (turn(&child, 0)) {
		printf("%s\n", "only from outside can be seen: does not hold: (theirs.writable, ours.writable, ours.exclusive) == (0, 0, 0) (1 == 0)");
		printf("  area: %p, 512 pages of process %d\n", (void *)(area), getpid());
		printf("  child: process %d\n", child.pid);
		printf("%s\n", "look at page tables and struct pages, in QEMU's monitor: gva2gpa and xp; in crash(8): vtop; with drgn: follow_phys(); Enter ends it");
		fflush(stdout);
		getchar();
		return 2;
		turned(&child);
	}
}
