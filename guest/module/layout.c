// SPDX-License-Identifier: GPL-2.0
/*
 * What this kernel was compiled with, for the host to read from the .ko file.
 *
 * Only constant expressions: a section without relocations. Macros that the
 * kernel computes while it boots (x86: PGDIR_SHIFT, PTRS_PER_P4D, PAGE_OFFSET,
 * VMEMMAP_START with five levels or KASLR) are given as the constants they are
 * computed from.
 */
#define HOSTWALK_TABLE_SECTION ".hostwalk.layout"

#include <linux/fs.h>
#include <linux/maple_tree.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/path.h>
#include <linux/percpu_counter.h>
#include <linux/pgtable.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/xarray.h>

#include "compat.h"
#include "hostwalk_table.h"

HOSTWALK_CONST(LINUX_VERSION_CODE);

/* Pages and page tables. */
HOSTWALK_CONST(PAGE_SHIFT);
HOSTWALK_CONST(PAGE_SIZE);
HOSTWALK_CONST(CONFIG_PGTABLE_LEVELS);
HOSTWALK_CONST(PTRS_PER_PGD);
HOSTWALK_CONST(PTRS_PER_PUD);
HOSTWALK_CONST(PTRS_PER_PMD);
HOSTWALK_CONST(PTRS_PER_PTE);
HOSTWALK_CONST(P4D_SHIFT);
HOSTWALK_CONST(PUD_SHIFT);
HOSTWALK_CONST(PMD_SHIFT);
HOSTWALK_SIZEOF(pgd_t);
HOSTWALK_SIZEOF(pte_t);
HOSTWALK_ENTRY("MAX_PAGE_ORDER", HOSTWALK_MAX_PAGE_ORDER);
HOSTWALK_CONST(SECTION_SIZE_BITS);
#ifndef CONFIG_HUGETLB_PAGE_SIZE_VARIABLE
HOSTWALK_CONST(pageblock_order);
#endif
HOSTWALK_CONST(THREAD_SIZE);

#ifdef CONFIG_X86
/*
 * With CR4.LA57 clear PGDIR_SHIFT is 39 and the p4d is folded; with it set
 * PGDIR_SHIFT is 48 and a p4d has 512 entries.
 *
 * struct page of a pfn: *(u64 *)vmemmap_base + pfn * sizeof(struct page),
 * vmemmap_base being a kernel symbol. Without CONFIG_DYNAMIC_MEMORY_LAYOUT
 * there is no such symbol and the base is __VMEMMAP_BASE_L4.
 * The direct map is at *(u64 *)page_offset_base, likewise __PAGE_OFFSET_BASE_L4.
 */
HOSTWALK_CONST(__VMEMMAP_BASE_L4);
HOSTWALK_CONST(__VMEMMAP_BASE_L5);
HOSTWALK_CONST(__PAGE_OFFSET_BASE_L4);
HOSTWALK_CONST(__PAGE_OFFSET_BASE_L5);
HOSTWALK_CONST(__VMALLOC_BASE_L4);
HOSTWALK_CONST(__VMALLOC_BASE_L5);
HOSTWALK_CONST(__START_KERNEL_map);
HOSTWALK_CONST(KERNEL_IMAGE_SIZE);
HOSTWALK_CONST(__PHYSICAL_MASK_SHIFT);
HOSTWALK_CONST(DEFAULT_MAP_WINDOW);
HOSTWALK_CONST(MAX_POSSIBLE_PHYSMEM_BITS);
#endif

#ifdef CONFIG_ARM64
HOSTWALK_CONST(PTRS_PER_P4D);
HOSTWALK_CONST(PGDIR_SHIFT);
HOSTWALK_CONST(VA_BITS);
HOSTWALK_CONST(VA_BITS_MIN);
HOSTWALK_CONST(CONFIG_ARM64_PA_BITS);
/*
 * struct page of a pfn: VMEMMAP_START +
 * (pfn - (*(s64 *)memstart_addr >> PAGE_SHIFT)) * sizeof(struct page),
 * an arithmetic shift, memstart_addr being a kernel symbol. The kernel lowers
 * memstart_addr when it was built for 52-bit addresses and the CPU has 48
 * (or 47), so VMEMMAP_START and PAGE_OFFSET are the same on both; then
 * memstart_addr is negative. The direct map: phys - memstart_addr + PAGE_OFFSET.
 */
HOSTWALK_CONST(VMEMMAP_START);
HOSTWALK_CONST(VMEMMAP_SIZE);
HOSTWALK_CONST(PAGE_OFFSET);
HOSTWALK_CONST(KIMAGE_VADDR);
HOSTWALK_CONST(MODULES_VADDR);
HOSTWALK_CONST(MODULES_END);
HOSTWALK_CONST(CONT_PTES);
/* Whether runs of entries are marked as contiguous: arch/arm64/mm/contpte.c, 6.9. */
HOSTWALK_ENTRY("CONFIG_ARM64_CONTPTE", IS_ENABLED(CONFIG_ARM64_CONTPTE));
HOSTWALK_CONST(CONT_PMDS);
#endif

/* struct page and struct folio. */
HOSTWALK_SIZEOF(struct page);
HOSTWALK_MEMBER(struct page, flags);
HOSTWALK_MEMBER(struct page, lru);
HOSTWALK_MEMBER(struct page, mapping);
HOSTWALK_MEMBER(struct page, private);
HOSTWALK_MEMBER(struct page, _mapcount);
HOSTWALK_MEMBER(struct page, page_type);
HOSTWALK_MEMBER(struct page, _refcount);
#ifdef CONFIG_MEMCG
HOSTWALK_MEMBER(struct page, memcg_data);
#endif
#if HOSTWALK_PAGE_FOLIO_INDEX
HOSTWALK_MEMBER(struct page, __folio_index);
#else
HOSTWALK_MEMBER(struct page, index);
#endif

/*
 * Bit 0 set says tail. The rest is the address of the head page or, where
 * COMPOUND_INFO_HAS_MASK is 1, the mask that makes a tail's address its head's.
 */
#if HOSTWALK_PAGE_COMPOUND_INFO
HOSTWALK_MEMBER(struct page, compound_info);
HOSTWALK_ENTRY("COMPOUND_INFO_HAS_MASK",
	       IS_ENABLED(CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP) &&
	       !(sizeof(struct page) & (sizeof(struct page) - 1)));
#else
HOSTWALK_MEMBER(struct page, compound_head);
HOSTWALK_ENTRY("COMPOUND_INFO_HAS_MASK", 0);
#endif

/* Members of a large folio; 6.1 has _total_mapcount: whole mappings, less one. */
HOSTWALK_SIZEOF(struct folio);
HOSTWALK_MEMBER(struct folio, _flags_1);
HOSTWALK_MEMBER(struct folio, _pincount);
#if HOSTWALK_FOLIO_ENTIRE_MAPCOUNT
HOSTWALK_MEMBER(struct folio, _entire_mapcount);
HOSTWALK_MEMBER(struct folio, _nr_pages_mapped);
#else
HOSTWALK_MEMBER(struct folio, _total_mapcount);
HOSTWALK_MEMBER(struct folio, _folio_order);
#endif
#if HOSTWALK_FOLIO_LARGE_MAPCOUNT
HOSTWALK_MEMBER(struct folio, _large_mapcount);
#endif
#ifdef CONFIG_64BIT
#if !HOSTWALK_FOLIO_NR_PAGES
HOSTWALK_MEMBER(struct folio, _folio_nr_pages);
#elif defined(NR_PAGES_IN_LARGE_FOLIO)
HOSTWALK_MEMBER(struct folio, _nr_pages);
#endif
#endif

/* Zone, node and section in page->flags. */
HOSTWALK_CONST(ZONES_PGSHIFT);
HOSTWALK_CONST(ZONES_MASK);
HOSTWALK_CONST(NODES_PGSHIFT);
HOSTWALK_CONST(NODES_MASK);
HOSTWALK_CONST(SECTIONS_PGSHIFT);
HOSTWALK_CONST(SECTIONS_WIDTH);
HOSTWALK_CONST(MAX_NR_ZONES);
#ifdef CONFIG_ZONE_DMA
HOSTWALK_CONST(ZONE_DMA);
#endif
#ifdef CONFIG_ZONE_DMA32
HOSTWALK_CONST(ZONE_DMA32);
#endif
HOSTWALK_CONST(ZONE_NORMAL);
HOSTWALK_CONST(ZONE_MOVABLE);

/* Tasks. */
HOSTWALK_MEMBER(struct task_struct, tasks);
HOSTWALK_MEMBER(struct task_struct, thread_node);
HOSTWALK_MEMBER(struct task_struct, signal);
HOSTWALK_MEMBER(struct task_struct, pid);
HOSTWALK_MEMBER(struct task_struct, tgid);
HOSTWALK_MEMBER(struct task_struct, comm);
HOSTWALK_MEMBER(struct task_struct, mm);
HOSTWALK_MEMBER(struct task_struct, active_mm);
HOSTWALK_MEMBER(struct task_struct, stack);
HOSTWALK_MEMBER(struct task_struct, flags);
HOSTWALK_MEMBER(struct task_struct, __state);
HOSTWALK_MEMBER(struct task_struct, exit_state);
HOSTWALK_MEMBER(struct task_struct, real_parent);
HOSTWALK_MEMBER(struct task_struct, min_flt);
HOSTWALK_MEMBER(struct task_struct, maj_flt);
HOSTWALK_MEMBER(struct signal_struct, thread_head);
HOSTWALK_MEMBER(struct signal_struct, nr_threads);
HOSTWALK_MEMBER(struct signal_struct, min_flt);
HOSTWALK_MEMBER(struct signal_struct, maj_flt);
HOSTWALK_MEMBER(struct list_head, next);
HOSTWALK_MEMBER(struct list_head, prev);

/* Address spaces. */
HOSTWALK_SIZEOF(struct mm_struct);
HOSTWALK_MEMBER(struct mm_struct, pgd);
HOSTWALK_MEMBER(struct mm_struct, mm_mt);
HOSTWALK_MEMBER(struct mm_struct, map_count);
HOSTWALK_MEMBER(struct mm_struct, total_vm);
HOSTWALK_MEMBER(struct mm_struct, locked_vm);
HOSTWALK_MEMBER(struct mm_struct, pinned_vm);
HOSTWALK_MEMBER(struct mm_struct, data_vm);
HOSTWALK_MEMBER(struct mm_struct, exec_vm);
HOSTWALK_MEMBER(struct mm_struct, stack_vm);
HOSTWALK_MEMBER(struct mm_struct, def_flags);
HOSTWALK_MEMBER(struct mm_struct, flags);
HOSTWALK_MEMBER(struct mm_struct, rss_stat);
HOSTWALK_MEMBER(struct mm_struct, pgtables_bytes);
HOSTWALK_MEMBER(struct mm_struct, mm_users);
HOSTWALK_MEMBER(struct mm_struct, mm_count);
HOSTWALK_MEMBER(struct mm_struct, mmap_lock);
HOSTWALK_MEMBER(struct mm_struct, write_protect_seq);
HOSTWALK_MEMBER(struct mm_struct, mmap_base);
HOSTWALK_MEMBER(struct mm_struct, task_size);
HOSTWALK_MEMBER(struct mm_struct, start_code);
HOSTWALK_MEMBER(struct mm_struct, end_code);
HOSTWALK_MEMBER(struct mm_struct, start_data);
HOSTWALK_MEMBER(struct mm_struct, end_data);
HOSTWALK_MEMBER(struct mm_struct, start_brk);
HOSTWALK_MEMBER(struct mm_struct, brk);
HOSTWALK_MEMBER(struct mm_struct, start_stack);
HOSTWALK_MEMBER(struct mm_struct, arg_start);
HOSTWALK_MEMBER(struct mm_struct, arg_end);
HOSTWALK_MEMBER(struct mm_struct, env_start);
HOSTWALK_MEMBER(struct mm_struct, env_end);
HOSTWALK_MEMBER(struct mm_struct, context);
HOSTWALK_MEMBER(seqcount_t, sequence);
#ifdef CONFIG_PREEMPT_RT
HOSTWALK_MEMBER(struct rw_semaphore, rwbase);
#else
HOSTWALK_MEMBER(struct rw_semaphore, count);
HOSTWALK_MEMBER(struct rw_semaphore, owner);
#endif

/*
 * rss_stat[i]: since 6.2 a struct percpu_counter, whose value is count plus the
 * s32 at counters + __per_cpu_offset[cpu] of every CPU; before, an atomic_long_t
 * plus what each task still holds back in task->rss_stat.count[i].
 */
HOSTWALK_ENTRY("RSS_STAT_IS_PERCPU", HOSTWALK_RSS_PERCPU);
HOSTWALK_SIZEOF(struct percpu_counter);
HOSTWALK_MEMBER(struct percpu_counter, count);
#ifdef CONFIG_SMP
HOSTWALK_MEMBER(struct percpu_counter, counters);
#endif
#if !HOSTWALK_RSS_PERCPU
HOSTWALK_MEMBER(struct mm_rss_stat, count);
#ifdef SPLIT_RSS_COUNTING
HOSTWALK_MEMBER(struct task_struct, rss_stat);
HOSTWALK_MEMBER(struct task_rss_stat, count);
HOSTWALK_MEMBER(struct task_rss_stat, events);
#endif
#endif
HOSTWALK_CONST(MM_FILEPAGES);
HOSTWALK_CONST(MM_ANONPAGES);
HOSTWALK_CONST(MM_SWAPENTS);
HOSTWALK_CONST(MM_SHMEMPAGES);
HOSTWALK_CONST(NR_MM_COUNTERS);

/* Mappings. */
HOSTWALK_SIZEOF(struct vm_area_struct);
HOSTWALK_MEMBER(struct vm_area_struct, vm_start);
HOSTWALK_MEMBER(struct vm_area_struct, vm_end);
HOSTWALK_MEMBER(struct vm_area_struct, vm_mm);
HOSTWALK_MEMBER(struct vm_area_struct, vm_flags);
HOSTWALK_MEMBER(struct vm_area_struct, vm_page_prot);
HOSTWALK_MEMBER(struct vm_area_struct, vm_pgoff);
#if HOSTWALK_VMA_ANON_PGOFF
HOSTWALK_MEMBER(struct vm_area_struct, __vm_anon_pgoff_lo);
HOSTWALK_MEMBER(struct vm_area_struct, __vm_anon_pgoff_hi);
#endif
HOSTWALK_MEMBER(struct vm_area_struct, vm_file);
HOSTWALK_MEMBER(struct vm_area_struct, vm_ops);
HOSTWALK_MEMBER(struct vm_area_struct, anon_vma);
HOSTWALK_MEMBER(struct vm_area_struct, vm_private_data);

/*
 * The maple tree. ma_root with bit 1 set and above MAPLE_RESERVED_RANGE is an
 * encoded node: type = (node >> MAPLE_NODE_TYPE_SHIFT) & MAPLE_NODE_TYPE_MASK,
 * address = node & ~MAPLE_NODE_MASK. Pivots are inclusive ends.
 */
HOSTWALK_CONST(MAPLE_NODE_SLOTS);
HOSTWALK_CONST(MAPLE_RANGE64_SLOTS);
HOSTWALK_CONST(MAPLE_ARANGE64_SLOTS);
HOSTWALK_CONST(MAPLE_NODE_MASK);
HOSTWALK_CONST(MAPLE_NODE_TYPE_MASK);
HOSTWALK_CONST(MAPLE_NODE_TYPE_SHIFT);
HOSTWALK_CONST(MAPLE_RESERVED_RANGE);
HOSTWALK_CONST(MAPLE_HEIGHT_MAX);
HOSTWALK_CONST(MT_FLAGS_HEIGHT_OFFSET);
HOSTWALK_CONST(MT_FLAGS_HEIGHT_MASK);
HOSTWALK_CONST(MT_FLAGS_ALLOC_RANGE);
HOSTWALK_CONST(maple_dense);
HOSTWALK_CONST(maple_leaf_64);
HOSTWALK_CONST(maple_range_64);
HOSTWALK_CONST(maple_arange_64);
HOSTWALK_MEMBER(struct maple_tree, ma_root);
HOSTWALK_MEMBER(struct maple_tree, ma_flags);
HOSTWALK_SIZEOF(struct maple_node);
HOSTWALK_MEMBER(struct maple_node, parent);
HOSTWALK_MEMBER(struct maple_node, slot);
HOSTWALK_MEMBER(struct maple_node, mr64);
HOSTWALK_MEMBER(struct maple_node, ma64);
HOSTWALK_MEMBER(struct maple_range_64, parent);
HOSTWALK_MEMBER(struct maple_range_64, pivot);
HOSTWALK_MEMBER(struct maple_range_64, slot);
HOSTWALK_MEMBER(struct maple_range_64, meta);
HOSTWALK_MEMBER(struct maple_arange_64, parent);
HOSTWALK_MEMBER(struct maple_arange_64, pivot);
HOSTWALK_MEMBER(struct maple_arange_64, slot);
HOSTWALK_MEMBER(struct maple_arange_64, gap);
HOSTWALK_MEMBER(struct maple_arange_64, meta);
HOSTWALK_MEMBER(struct maple_metadata, end);
HOSTWALK_MEMBER(struct maple_metadata, gap);

/* Files. */
HOSTWALK_MEMBER(struct file, f_path);
HOSTWALK_MEMBER(struct file, f_inode);
HOSTWALK_MEMBER(struct file, f_mapping);
HOSTWALK_MEMBER(struct path, dentry);
HOSTWALK_MEMBER(struct dentry, d_name);
HOSTWALK_MEMBER(struct dentry, d_parent);
HOSTWALK_MEMBER(struct dentry, d_inode);
HOSTWALK_MEMBER(struct qstr, name);
HOSTWALK_MEMBER(struct qstr, len);
HOSTWALK_MEMBER(struct inode, i_ino);
HOSTWALK_MEMBER(struct inode, i_size);
HOSTWALK_MEMBER(struct inode, i_mapping);
HOSTWALK_MEMBER(struct address_space, host);
HOSTWALK_MEMBER(struct address_space, i_pages);
HOSTWALK_MEMBER(struct address_space, nrpages);
HOSTWALK_MEMBER(struct xarray, xa_head);

/*
 * Counters of a node or zone: vm_stat[i] plus the s8 diff of every CPU, at
 * per_cpu_nodestats (per_cpu_zonestats) + __per_cpu_offset[cpu].
 */
HOSTWALK_MEMBER(struct pglist_data, vm_stat);
HOSTWALK_MEMBER(struct pglist_data, node_zones);
HOSTWALK_MEMBER(struct pglist_data, per_cpu_nodestats);
HOSTWALK_MEMBER(struct pglist_data, node_start_pfn);
HOSTWALK_MEMBER(struct pglist_data, node_spanned_pages);
HOSTWALK_SIZEOF(struct zone);
HOSTWALK_MEMBER(struct zone, vm_stat);
HOSTWALK_MEMBER(struct zone, per_cpu_zonestats);
HOSTWALK_MEMBER(struct zone, zone_start_pfn);
HOSTWALK_MEMBER(struct zone, spanned_pages);
#ifdef CONFIG_SMP
HOSTWALK_MEMBER(struct per_cpu_nodestat, vm_node_stat_diff);
HOSTWALK_MEMBER(struct per_cpu_zonestat, vm_stat_diff);
#endif
