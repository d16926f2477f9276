/* SPDX-License-Identifier: GPL-2.0 */
/* Every difference between the supported kernels, with the change that made it. */
#ifndef HOSTWALK_COMPAT_H
#define HOSTWALK_COMPAT_H

#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0) || \
	LINUX_VERSION_CODE >= KERNEL_VERSION(8, 0, 0)
#error "hostwalk supports Linux 6.1 to 7.x"
#endif

#define HOSTWALK_SINCE(major, minor) \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0))

/* 6.2, f1a7941243c1 ("mm: convert mm's rss stats into percpu_counter") */
#define HOSTWALK_RSS_PERCPU		HOSTWALK_SINCE(6, 2)
/* 6.3, 2c2241081f7d ("mm/gup: move private gup FOLL_ flags to internal.h") */
#define HOSTWALK_FOLL_ENUM		HOSTWALK_SINCE(6, 3)
/* 6.5, d74943a2f3cd ("mm/gup: reintroduce FOLL_NUMA as FOLL_HONOR_NUMA_FAULT") */
#define HOSTWALK_FOLL_HONOR_NUMA	HOSTWALK_SINCE(6, 5)
/* 6.2, cb67f4282bf9 ("mm,thp,rmap: simplify compound page mapcount handling") and 6.3 after it */
#define HOSTWALK_FOLIO_ENTIRE_MAPCOUNT	HOSTWALK_SINCE(6, 3)
/* 6.10, 05c5323b2a34 ("mm: track mapcount of large folios in single value") */
#define HOSTWALK_FOLIO_LARGE_MAPCOUNT	HOSTWALK_SINCE(6, 10)
/* 6.15, 845d2be6c8bb ("mm: move _pincount in folio to page[2] on 32bit"): _nr_pages */
#define HOSTWALK_FOLIO_NR_PAGES		HOSTWALK_SINCE(6, 15)
/* 6.16, acc53a0b4c15 ("mm: rename page->index to page->__folio_index") */
#define HOSTWALK_PAGE_FOLIO_INDEX	HOSTWALK_SINCE(6, 16)
/* 7.1, compound_head became compound_info, which may hold a mask */
#define HOSTWALK_PAGE_COMPOUND_INFO	HOSTWALK_SINCE(7, 1)
/* 7.3, vma_start_anon_pgoff(): anonymous pages of files have an index of their own */
#define HOSTWALK_VMA_ANON_PGOFF		HOSTWALK_SINCE(7, 3)
/* 6.12, 4ffca5a96678 ("mm: support only one page_type per page") */
#define HOSTWALK_PAGE_TYPE_BYTE		HOSTWALK_SINCE(6, 12)
/*
 * 6.11, fce831c92092 ("mm/memory: cleanly support zeropage in vm_insert_page*(),
 * vm_map_pages*() and vmf_insert_mixed()"): the tests of the page come after
 * VM_MIXEDMAP was set, and the zero page is never made writable.
 */
#define HOSTWALK_INSERT_ZEROPAGE	HOSTWALK_SINCE(6, 11)
/* 6.3, the rework of is_valid_gup_args(): every call checks pages and flags */
#define HOSTWALK_GUP_CHECKS_ARGS	HOSTWALK_SINCE(6, 3)

/* 6.13 and 6.12.5 ("mm/gup: handle NULL pages in unpin_user_pages()") */
#define HOSTWALK_UNPIN_SKIPS_NULL \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 5))

/* 6.5, 54d020692b34 and three more ("mm/gup: remove ... vmas parameter") */
#if HOSTWALK_SINCE(6, 5)
#define hostwalk_get_user_pages(start, nr, flags, pages) \
	get_user_pages(start, nr, flags, pages)
#define hostwalk_get_user_pages_remote(mm, start, nr, flags, pages, locked) \
	get_user_pages_remote(mm, start, nr, flags, pages, locked)
#define hostwalk_pin_user_pages(start, nr, flags, pages) \
	pin_user_pages(start, nr, flags, pages)
#define hostwalk_pin_user_pages_remote(mm, start, nr, flags, pages, locked) \
	pin_user_pages_remote(mm, start, nr, flags, pages, locked)
#else
#define hostwalk_get_user_pages(start, nr, flags, pages) \
	get_user_pages(start, nr, flags, pages, NULL)
#define hostwalk_get_user_pages_remote(mm, start, nr, flags, pages, locked) \
	get_user_pages_remote(mm, start, nr, flags, pages, NULL, locked)
#define hostwalk_pin_user_pages(start, nr, flags, pages) \
	pin_user_pages(start, nr, flags, pages, NULL)
#define hostwalk_pin_user_pages_remote(mm, start, nr, flags, pages, locked) \
	pin_user_pages_remote(mm, start, nr, flags, pages, NULL, locked)
#endif

/* 6.3, bc292ab00f6c ("mm: introduce vma->vm_flags wrapper functions") */
#if HOSTWALK_SINCE(6, 3)
#define hostwalk_vm_flags_set(vma, flags)	vm_flags_set(vma, flags)
#else
#define hostwalk_vm_flags_set(vma, flags)	((vma)->vm_flags |= (flags))
#endif

/* 6.17, 21aa65bf82a7 ("mm: remove callers of pfn_t functionality") */
#if HOSTWALK_SINCE(6, 17)
#define hostwalk_vmf_insert_mixed(vma, addr, pfn) \
	vmf_insert_mixed(vma, addr, pfn)
#else
#include <linux/pfn_t.h>
#define hostwalk_vmf_insert_mixed(vma, addr, pfn) \
	vmf_insert_mixed(vma, addr, __pfn_to_pfn_t(pfn, PFN_DEV))
#endif

/* 6.8, 5e0a760b4441 ("mm, treewide: rename MAX_ORDER to MAX_PAGE_ORDER") */
#if HOSTWALK_SINCE(6, 8)
#define HOSTWALK_MAX_PAGE_ORDER		MAX_PAGE_ORDER
/* 6.4, 23baf831a32c ("mm, treewide: redefine MAX_ORDER sanely") */
#elif HOSTWALK_SINCE(6, 4)
#define HOSTWALK_MAX_PAGE_ORDER		MAX_ORDER
#else
#define HOSTWALK_MAX_PAGE_ORDER		(MAX_ORDER - 1)
#endif

#endif
