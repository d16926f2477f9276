"""Where entries may be, and which page belongs there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hostwalk.audit.evidence import Evidence
from hostwalk.audit.invariant import Breach, at, invariant
from hostwalk.paging.format import Mask, Words

# PAGE_MAPPING_ANON alone: a page of KSM (both bits) has no place of its own.
ANON, FLAGS = 1, 3


@invariant("11.vma", "No entry lies outside the mappings", "mm/memory.c, unmap_vmas, free_pgtables")
def entries_lie_in_mappings(seen: Evidence) -> Iterator[Breach]:
    """Entries of every kind, swap entries and markers too."""
    yield from at(~seen.mapped, "no mapping holds this address")


@invariant("11.end", "No page of a file is mapped beyond the file's end", "mm/truncate.c, truncate_pagecache")
def file_pages_end_with_the_file(seen: Evidence) -> Iterator[Breach]:
    """Shared memory is left out: its huge pages may reach beyond."""
    beyond = _linear(seen, seen.vmas.pgoff) >= seen.vmas.pages[seen.vma]
    yield from at(
        _of_its_file(seen) & ~seen.page_flag("PG_swapbacked") & beyond, "beyond the end of its file"
    )


@invariant(
    "11.place", "A page is mapped where its index says, for the reverse map finds it there",
    "mm/rmap.c, page_address_in_vma; include/linux/pagemap.h, linear_page_index",
)  # fmt: skip
def pages_are_where_their_index_says(seen: Evidence) -> Iterator[Breach]:
    """Pages of the mapping's file, and anonymous ones; the pool's huge pages count in their own units."""
    low = seen.frames.mapping & np.uint64(FLAGS)
    anon = (low == ANON)[seen.frame] & seen.normal & ~seen.hugetlb & seen.mapped
    index = seen.frames.index[seen.frame]
    astray = anon & (index != _linear(seen, seen.vmas.anon_pgoff))
    misplaced = _of_its_file(seen) & (index != _linear(seen, seen.vmas.pgoff))
    yield from at(astray | misplaced, "its page belongs at another offset")


def _of_its_file(seen: Evidence) -> Mask:
    mapping = seen.frames.mapping[seen.frame]
    same = (mapping != 0) & (mapping == seen.vmas.mapping[seen.vma])
    of_file: Mask = same & seen.normal & ~seen.hugetlb & seen.mapped
    return of_file


def _linear(seen: Evidence, pgoff: Words) -> Words:
    """linear_page_index() of each leaf, or linear_anon_page_index(): counted from one of the vma's offsets."""
    shift = np.uint64(seen.leaves.space.format.page_shift)
    return (seen.leaves.virt_addr - seen.vmas.start[seen.vma] >> shift) + pgoff[seen.vma]
