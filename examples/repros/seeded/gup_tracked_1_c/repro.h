/* SPDX-License-Identifier: GPL-2.0 */
#ifndef REPRO_H
#define REPRO_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define REPRO_TYPE 'R'
#define REPRO_CALLS 1
#define REPRO_PAGES 64

/* A call for nr pages from start; what it returned, how many it gave, and their page frames. */
struct repro_pages {
	__u64 start;
	__s64 nr;
	__s64 ret;
	__s64 filled;
	__u64 pfn[REPRO_PAGES];
};

#define REPRO_CALL(n) _IOWR(REPRO_TYPE, n, struct repro_pages)
#define REPRO_PUT(n) _IOWR(REPRO_TYPE, 0x40 + (n), struct repro_pages)
#define REPRO_COUNT _IOWR(REPRO_TYPE, 0x80, struct repro_pages)

#endif
