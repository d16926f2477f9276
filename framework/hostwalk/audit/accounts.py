"""What each ``mm_struct`` says of itself, against what a walk of its mappings and tables adds up to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hostwalk.audit.evidence import KINDS, Evidence, Ints
from hostwalk.audit.invariant import Breach, invariant
from hostwalk.paging.format import Mask

SLAB = KINDS.index("slab")


@invariant(
    "13.rss", "RSS is what the entries add up to: by kind of page, swap entries too",
    "include/linux/mm.h, mm_counter; mm/memory.c, zap_pte_range",
)  # fmt: skip
def rss_is_what_entries_add_up_to(seen: Evidence) -> Iterator[Breach]:
    """Leave out special entries, the zero page and the pool; count pages under migration."""
    counted = _resident(seen)
    for i, space in enumerate(seen.spaces):
        said = {name: getattr(space.rss, name) for name in counted}
        yield from _differ(i, "rss", said, {name: int(column[i]) for name, column in counted.items()})


def _resident(seen: Evidence) -> dict[str, Ints]:
    page = seen.normal & ~seen.hugetlb
    backed = seen.page_flag("PG_swapbacked")
    kinds = {"anon": seen.anon, "shmem": ~seen.anon & backed, "file": ~seen.anon & ~backed}
    counts = {name: _sum(seen, page & mask) for name, mask in kinds.items()}
    counts["anon"] += _migrating(seen)
    counts["swap"] = _count(seen, seen.swaps.leaf[seen.swaps.real])
    return counts


def _migrating(seen: Evidence) -> Ints:
    """Return what stands for pages on their way, by space; those of files come back by a fault instead."""
    where = seen.swaps.leaf[seen.swaps.migration]
    where = where[~seen.hugetlb[where]]
    return np.bincount(seen.space[where], seen.base_pages[where], len(seen.spaces)).astype(np.int64)


def _sum(seen: Evidence, which: Mask) -> Ints:
    weights = seen.base_pages[which]
    return np.bincount(seen.space[which], weights, len(seen.spaces)).astype(np.int64)


def _count(seen: Evidence, leaves: Ints) -> Ints:
    return np.bincount(seen.space[leaves], minlength=len(seen.spaces)).astype(np.int64)


@invariant(
    "13.total_vm",
    "total_vm, data_vm, exec_vm and stack_vm are the sizes of the mappings",
    "mm/mmap.c, vm_stat_account",
)
def sizes_are_those_of_the_mappings(seen: Evidence) -> Iterator[Breach]:
    """In pages, mappings of the kernel's own making included."""
    layout = seen.layout
    write, shared = layout["VM_WRITE"], layout["VM_SHARED"]
    stack = layout["VM_GROWSDOWN"] | layout.get("VM_SHADOW_STACK", 0)
    flags = seen.vmas.flags
    grows = flags & np.uint64(stack) != 0
    code = flags & np.uint64(layout["VM_EXEC"] | write | stack) == layout["VM_EXEC"]
    data = flags & np.uint64(write | shared | stack) == write
    yield from _sizes(
        seen,
        {
            "total_vm": np.ones(len(flags), dtype=bool),
            "stack_vm": grows & ~code,
            "exec_vm": code,
            "data_vm": data,
        },
    )


@invariant("13.locked_vm", "locked_vm is the size of the mappings with VM_LOCKED", "mm/mlock.c, mlock_fixup")
def locked_is_what_is_marked_so(seen: Evidence) -> Iterator[Breach]:
    """In pages, those locked on fault included."""
    yield from _sizes(seen, {"locked_vm": seen.vmas.flags & np.uint64(seen.layout["VM_LOCKED"]) != 0})


@invariant("13.map_count", "map_count is the number of mappings", "mm/mmap.c")
def mappings_are_counted(seen: Evidence) -> Iterator[Breach]:
    """All that the maple tree holds."""
    counted = np.bincount(seen.vmas.space[:-1], minlength=len(seen.spaces))
    for i, space in enumerate(seen.spaces):
        yield from _differ(
            i, "mm", {"map_count": space.counters["map_count"]}, {"map_count": int(counted[i])}
        )


def _sizes(seen: Evidence, which: dict[str, Mask]) -> Iterator[Breach]:
    vmas, shift = seen.vmas, np.uint64(seen.leaves.space.format.page_shift)
    pages = (vmas.end - vmas.start >> shift)[:-1].astype(np.int64)
    count = len(seen.spaces)
    sums = {name: np.bincount(vmas.space[:-1], pages * mask[:-1], count) for name, mask in which.items()}
    for i, space in enumerate(seen.spaces):
        said = {name: space.counters[name] for name in which}
        yield from _differ(i, "mm", said, {name: int(column[i]) for name, column in sums.items()})


@invariant(
    "13.tables", "pgtables_bytes are the bytes of the tables below the root, those put by for huge pages included",
    "include/linux/mm.h, mm_inc_nr_ptes; mm/huge_memory.c, pgtable_trans_huge_deposit",
)  # fmt: skip
def tables_are_accounted(seen: Evidence) -> Iterator[Breach]:
    """Count a table more for each transparent huge page, anonymous or zero: it is kept for the split."""
    size = seen.leaves.space.format.levels[-1].table_size
    spare = seen.leaves.linux_present & seen.large & ~seen.hugetlb & (seen.anon | seen.zero)
    kept = np.bincount(seen.space[spare], minlength=len(seen.spaces))
    for i, space in enumerate(seen.spaces):
        counted = {"pgtables_bytes": space.tables + int(kept[i]) * size}
        yield from _differ(i, "mm", {"pgtables_bytes": space.counters["pgtables_bytes"]}, counted)


def _differ(space: int, what: str, said: dict[str, int], counted: dict[str, int]) -> Iterator[Breach]:
    """Yield a breach that names each counter which is not what was counted."""
    wrong = [name for name in said if said[name] != counted[name]]
    if wrong:
        told = ", ".join(
            f"{what} {name} is {said[name]}, the walk adds up to {counted[name]}" for name in wrong
        )
        yield Breach(told, space=space)
