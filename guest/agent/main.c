// SPDX-License-Identifier: GPL-2.0
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define MMAP_THRESHOLD	(128 * 1024)

extern char __executable_start[], etext[];

/* The host looks for code where something is mapped executable. */
static void map_own_code(void)
{
	unsigned long page = getpagesize();
	unsigned long start = (unsigned long)__executable_start & ~(page - 1);

	madvise((void *)start, (unsigned long)etext - start,
		MADV_POPULATE_READ);
}

int main(int argc, char **argv)
{
	/* Given, it stays: what one process more takes goes with that process. */
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	mallopt(M_TRIM_THRESHOLD, MMAP_THRESHOLD);
	if (getpid() == 1) {
		map_own_code();
		init_system();
		broker_run(init_find_port(), false);
	}
	if (argc == 4 && !strcmp(argv[1], "--subject"))
		subject_main(strtoul(argv[2], NULL, 10), atoi(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "--socket"))
		broker_run(atoi(argv[2]), true);

	dprintf(2, "usage: %s --socket FD\n"
		"As PID 1 the agent needs no arguments.\n", argv[0]);
	return 2;
}
