// SPDX-License-Identifier: GPL-2.0
/*
 * Which insertions would be a BUG, or damage, rather than an error: read from
 * mm/memory.c of 6.1, 6.12 and 7.3.
 */
#include <linux/io.h>
#include <linux/mm.h>

#include "compat.h"
#include "hostwalk.h"

bool hostwalk_is_map_pages(u32 call)
{
	return call == HOSTWALK_VM_MAP_PAGES || call == HOSTWALK_VM_MAP_PAGES_ZERO;
}

bool hostwalk_is_vmf(u32 call)
{
	return call == HOSTWALK_VMF_INSERT_PFN || call == HOSTWALK_VMF_INSERT_MIXED ||
	       call == HOSTWALK_VMF_INSERT_PFN_PROT;
}

/* Takes a range of pfns, by the first of them. */
bool hostwalk_is_remap(u32 call)
{
	return call == HOSTWALK_REMAP_PFN_RANGE || call == HOSTWALK_VM_IOMAP_MEMORY;
}

static bool hostwalk_is_cow(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE;
}

static bool hostwalk_can_write_page(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == (VM_SHARED | VM_MAYWRITE);
}

/* Bytes. */
unsigned long hostwalk_run_size(const struct hostwalk_run *run)
{
	return (unsigned long)run->plan->in.nr << PAGE_SHIFT;
}

/* Where vm_iomap_memory() is told that the memory starts; may be anything. */
phys_addr_t hostwalk_run_phys(const struct hostwalk_run *run)
{
	return page_to_phys(run->pages[0]) + run->plan->in.offset;
}

static bool hostwalk_run_inside(const struct hostwalk_run *run)
{
	unsigned long size = hostwalk_run_size(run);

	return run->addr >= run->vma->vm_start && run->addr <= run->vma->vm_end &&
	       size <= run->vma->vm_end - run->addr;
}

/* Does the call answer with an error before it looks at the flags? */
static bool hostwalk_run_refused(const struct hostwalk_run *run)
{
	struct vm_area_struct *vma = run->vma;
	const struct hostwalk_insert *in = &run->plan->in;
	unsigned long skip = in->call == HOSTWALK_VM_MAP_PAGES ? vma->vm_pgoff : 0;

	if (!in->nr)
		return true;
	if (hostwalk_is_map_pages(in->call) &&
	    (skip >= in->nr || vma_pages(vma) > in->nr - skip))
		return true;
	if (in->call == HOSTWALK_VM_INSERT_PAGES && !hostwalk_run_inside(run))
		return true;
	if (in->call == HOSTWALK_VM_INSERT_PAGE &&
	    (run->addr < vma->vm_start || run->addr >= vma->vm_end))
		return true;
	return !HOSTWALK_INSERT_ZEROPAGE && in->call != HOSTWALK_VM_INSERT_PAGES &&
	       !page_count(run->pages[skip]);
}

/* vm_insert_page() and the calls made of it: BUGs on how VM_MIXEDMAP gets set. */
static bool hostwalk_insert_crashes(const struct hostwalk_run *run)
{
	const struct vm_area_struct *vma = run->vma;
	unsigned long end = run->addr + hostwalk_run_size(run);

	/* The range test of vm_insert_pages() looks at the last byte only. */
	if (run->plan->in.call == HOSTWALK_VM_INSERT_PAGES && run->addr >= vma->vm_start &&
	    (end < run->addr || (end == run->addr && run->addr == vma->vm_end)))
		return true;
	if (vma->vm_flags & VM_MIXEDMAP || hostwalk_run_refused(run))
		return false;
	return run->when == HOSTWALK_WHEN_FAULT || vma->vm_flags & VM_PFNMAP;
}

/* BUGs on an empty range and on a populated entry; tests of the range: none. */
static bool hostwalk_remap_crashes(const struct hostwalk_run *run)
{
	const struct vm_area_struct *vma = run->vma;
	unsigned long end = run->addr + hostwalk_run_size(run);

	/* It changes vm_flags, so it needs mmap_lock for writing. */
	if (run->when == HOSTWALK_WHEN_FAULT)
		return true;
	/* Refused, and zapped: a walk that misses its end where that is aligned. */
	if (run->addr & ~PAGE_MASK)
		return !hostwalk_run_inside(run) || (run->addr ^ end) & PMD_MASK;
	if (hostwalk_is_cow(vma)) {
		if (run->addr != vma->vm_start || end != vma->vm_end)
			return false;
		/* It changes vm_pgoff, by which the mapping is in i_mmap by now. */
		if (run->when == HOSTWALK_WHEN_NOW)
			return true;
	}
	return !run->plan->in.nr || !hostwalk_run_inside(run) ||
	       !hostwalk_range_is_empty(vma->vm_mm, run->addr, end);
}

/* Remaps the whole vma, unless it refuses before; must not reach beyond the pages. */
static bool hostwalk_iomap_crashes(const struct hostwalk_run *run)
{
	struct vm_area_struct *vma = run->vma;
	phys_addr_t start = hostwalk_run_phys(run), first = page_to_phys(run->pages[0]);
	unsigned long size = hostwalk_run_size(run);
	unsigned long pages = PAGE_ALIGN(size + (start & ~PAGE_MASK)) >> PAGE_SHIFT;

	if (start + size < start || vma->vm_pgoff > pages ||
	    vma_pages(vma) > pages - vma->vm_pgoff)
		return false;
	if (start < first || start - first > size ||
	    ((start - first) >> PAGE_SHIFT) + vma->vm_pgoff + vma_pages(vma) >
	    run->plan->in.nr)
		return true;
	return run->when != HOSTWALK_WHEN_MMAP;
}

static bool hostwalk_vmf_crashes(const struct hostwalk_run *run)
{
	unsigned long flags = run->vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP);

	if (!run->plan->in.nr)
		return false;
	/* pfn_valid() holds for all our pages, so VM_MIXEDMAP will not do either. */
	if (run->plan->in.call != HOSTWALK_VMF_INSERT_MIXED)
		return flags != VM_PFNMAP || hostwalk_is_cow(run->vma);
	return !HOSTWALK_INSERT_ZEROPAGE && !(flags & VM_MIXEDMAP) &&
	       run->plan->block->kind != HOSTWALK_PAGE_ZERO;
}

/* Would a user be able to write to the zero page? */
static bool hostwalk_exposes_zero_page(const struct hostwalk_run *run)
{
	u32 call = run->plan->in.call;

	if (run->plan->block->kind != HOSTWALK_PAGE_ZERO || !hostwalk_can_write_page(run->vma))
		return false;
	return !HOSTWALK_INSERT_ZEROPAGE || hostwalk_is_remap(call) ||
	       (hostwalk_is_vmf(call) && call != HOSTWALK_VMF_INSERT_MIXED);
}

bool hostwalk_run_crashes(const struct hostwalk_run *run)
{
	if (hostwalk_exposes_zero_page(run))
		return true;
	switch (run->plan->in.call) {
	case HOSTWALK_REMAP_PFN_RANGE:
		return hostwalk_remap_crashes(run);
	case HOSTWALK_VM_IOMAP_MEMORY:
		return hostwalk_iomap_crashes(run);
	case HOSTWALK_VMF_INSERT_PFN:
	case HOSTWALK_VMF_INSERT_MIXED:
	case HOSTWALK_VMF_INSERT_PFN_PROT:
		return hostwalk_vmf_crashes(run);
	default:
		return hostwalk_insert_crashes(run);
	}
}
