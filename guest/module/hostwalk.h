/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the exerciser share. */
#ifndef HOSTWALK_H
#define HOSTWALK_H

#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/xarray.h>

#include "hostwalk_uapi.h"

/* Entries of a pages[] array: 8 MiB of pointers. */
#define HOSTWALK_PAGES_MAX	(1024 * 1024)

/* References that a get_user_pages() call has handed out. */
struct hostwalk_pins {
	bool pinned;			/* FOLL_PIN; else FOLL_GET */
	u32 nr;
	struct page **pages;		/* NULL where given back */
};

/* Pages of one HOSTWALK_IOC_ALLOC; lives until HOSTWALK_IOC_FREE or the file's release. */
struct hostwalk_block {
	u32 kind;
	u32 order;
	u32 nr;				/* entries of pages[] */
	u32 users;			/* requests that work with it; plan_lock */
	bool uncounted;			/* has been mapped without references */
	void *object;			/* HOSTWALK_PAGE_SLAB */
	struct page **pages;
};

/* One insertion: what to insert where, and when. */
struct hostwalk_plan {
	struct list_head node;
	struct hostwalk_file *file;
	struct hostwalk_block *block;
	struct hostwalk_insert in;
	unsigned long vm_pgoff;		/* of the mapping when it was made */
};

/*
 * State of an open file. A mapping of the file holds a reference to it, so it
 * is released after the last close and the last munmap.
 */
struct hostwalk_file {
	struct mutex release_lock;	/* contents of pins; no user memory inside */
	struct xarray pins;
	struct xarray blocks;
	spinlock_t plan_lock;		/* the rest; nests in mmap_lock */
	struct list_head plans;
	struct hostwalk_plan *armed;
	struct hostwalk_insert_result result;
};

extern bool hostwalk_allow_bug;

long hostwalk_gup(struct hostwalk_file *file, struct hostwalk_gup *gup);
long hostwalk_release(struct hostwalk_file *file, const struct hostwalk_release *release);
void hostwalk_pins_free(struct hostwalk_pins *pins);

long hostwalk_alloc(struct hostwalk_file *file, struct hostwalk_alloc *alloc);
void hostwalk_block_free(struct hostwalk_block *block);
long hostwalk_free(struct hostwalk_file *file, const struct hostwalk_free *free);

/* An insertion about to be made: a plan, resolved for one mapping. */
struct hostwalk_run {
	struct hostwalk_plan *plan;
	struct vm_area_struct *vma;
	struct page **pages;
	unsigned long addr;		/* of pages[0]; may be anything */
	u32 when;			/* enum hostwalk_when */
	u64 num;			/* out: pages that were not inserted */
};

bool hostwalk_is_vmf(u32 call);
bool hostwalk_is_map_pages(u32 call);
bool hostwalk_is_remap(u32 call);
phys_addr_t hostwalk_run_phys(const struct hostwalk_run *run);

unsigned long hostwalk_run_size(const struct hostwalk_run *run);
bool hostwalk_run_crashes(const struct hostwalk_run *run);
long hostwalk_insert(struct hostwalk_file *file, struct hostwalk_insert *in);
int hostwalk_mmap(struct hostwalk_file *file, struct vm_area_struct *vma);

bool hostwalk_has_pte_table(struct mm_struct *mm, unsigned long addr);
bool hostwalk_range_is_empty(struct mm_struct *mm, unsigned long start, unsigned long end);

/* Writes the pfns of pages to user memory. */
int hostwalk_put_pfns(u64 address, struct page **pages, u32 nr);

#endif
