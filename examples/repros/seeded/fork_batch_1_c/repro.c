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
	fflush(stdout);
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

/* Files of one value that are set for a while; what was there is put back, at the end at the latest. */
static struct setting {
	char path[256];
	char old[128];
} settings[16];
static int nr_settings;
static pid_t setter;

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	int done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/* Of "always [madvise] never" the word in brackets; nothing of what is too long. */
static int read_text(const char *path, char *text, int size)
{
	int fd = open(path, O_RDONLY);
	int got = fd < 0 ? -1 : read(fd, text, size - 1);
	char *chosen;

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	chosen = strchr(text, '[');
	if (chosen && strchr(chosen, ']')) {
		*strchr(chosen, ']') = '\0';
		memmove(text, chosen + 1, strlen(chosen));
	}
	return got > 0 && got < size - 1;
}

static void put_back(void)
{
	struct setting *last = &settings[--nr_settings];

	if (!write_text(last->path, last->old))
		perror(last->path);
}

static void put_all_back(void)
{
	while (nr_settings && getpid() == setter)
		put_back();
}

/* Remember what is in a file, if it tells. */
static int keep(const char *path)
{
	struct setting *next = &settings[nr_settings];

	if (nr_settings == 16 || !read_text(path, next->old, sizeof(next->old)))
		return 0;
	snprintf(next->path, sizeof(next->path), "%s", path);
	if (!setter)
		atexit(put_all_back);
	setter = getpid();
	nr_settings++;
	return 1;
}

/* Set a file until it is put back. */
static void set(const char *path, const char *text)
{
	if (!keep(path) || !write_text(path, text)) {
		perror(path);
		exit(3);
	}
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
	if (!write_text("/proc/sys/vm/compact_memory", "1") || madvise(start, size, MADV_HUGEPAGE)) {
		perror("no huge page");
		exit(3);
	}
	*(volatile char *)start = 1;
	put_back();
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
	struct child child;

	page = sysconf(_SC_PAGESIZE);
	area = huge_page(512);
	pins = gup(REPRO_CALL(0), area, 1);
	kept = pins.ret == 1;
	printf("%s%s\n", "pins.returned == area[0].pages: ", kept ? "it holds" : "it does not hold");
	if (!kept)
		return 3;
	child = fork_child();
	if (turn(&child, 0)) {
		printf("%s\n", "only from outside can be seen: does not hold: (theirs.writable, ours.writable, ours.exclusive) == (0, 0, 0) (1 == 0)");
		printf("  area: %p, 512 pages of process %d\n", (void *)(area), getpid());
		printf("  child: process %d\n", child.pid);
		printf("%s\n", "look at page tables and struct pages, in QEMU's monitor: gva2gpa and xp; in crash(8): vtop; with drgn: follow_phys(); Enter ends it");
		fflush(stdout);
		getchar();
		return 2;
	}
}
