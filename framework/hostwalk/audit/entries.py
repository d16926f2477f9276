"""What each entry may say, given its mapping and its page."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hostwalk.audit.evidence import NOWHERE, Evidence
from hostwalk.audit.invariant import Breach, at, invariant
from hostwalk.paging.format import Mask

ACCESS = ("VM_READ", "VM_WRITE", "VM_EXEC")
TOP_ADDRESS_BIT = 51
X86_DIRTY = 1 << 6


@invariant("0.tables", "Page tables hold nothing that their format forbids", "arch/*/include/asm/pgtable*.h")
def tables_are_well_formed(seen: Evidence) -> Iterator[Breach]:
    """Reserved bits, tables outside RAM, tables that lead back: what the scan noted."""
    for i, space in enumerate(seen.spaces):
        if space.oddities:
            yield Breach("; ".join(space.oddities), space=i)


@invariant("1", "A writable entry lies in a mapping with VM_WRITE", "mm/memory.c, maybe_mkwrite")
def writable_needs_vm_write(seen: Evidence) -> Iterator[Breach]:
    """pte_write() of entries that deny all access counts too."""
    yield from at(seen.is_("writable") & seen.mapped & ~seen.vm("VM_WRITE"), "writable, but no VM_WRITE")


@invariant("2", "An executable entry lies in a mapping with VM_EXEC", "mm/mmap.c, vm_get_page_prot")
def executable_needs_vm_exec(seen: Evidence) -> Iterator[Breach]:
    """READ_IMPLIES_EXEC is no exception: mmap(2) gives such mappings VM_EXEC."""
    yield from at(seen.is_("executable") & seen.mapped & ~seen.vm("VM_EXEC"), "executable, but no VM_EXEC")


@invariant("3", "An entry that user space may use lies in a mapping with some access", "mm/mprotect.c")
def access_needs_vm_flags(seen: Evidence) -> Iterator[Breach]:
    """Take the entry's user bit for it; arm64's execute-only pages have none."""
    yield from at(
        seen.is_("user") & seen.mapped & ~seen.vm(*ACCESS), "user access, but neither r nor w nor x"
    )


@invariant(
    "4", "A writable entry of a private mapping points to exclusive anonymous memory",
    "mm/memory.c, wp_page_reuse; PG_anon_exclusive",
)  # fmt: skip
def private_writable_is_exclusive(seen: Evidence) -> Iterator[Breach]:
    """Look for PG_anon_exclusive on the head of a huge page of the pool, else on each page."""
    private = seen.is_("writable") & seen.mapped & ~seen.vm("VM_SHARED")
    yield from at(private & ~seen.anon, "writable and private, but not anonymous")
    yield from at(private & seen.anon & ~_exclusive(seen), "writable and private, but not exclusive")


def _exclusive(seen: Evidence) -> Mask:
    own, folio = seen.page_flag("PG_anon_exclusive"), seen.frames.folio[seen.frame]
    pooled = seen.hugetlb & (folio >= 0)
    heads = (seen.folios.flags >> np.uint64(seen.layout["PG_anon_exclusive"]) & np.uint64(1)).astype(bool)
    own[pooled] = heads[folio[pooled]]
    return own


@invariant("5", "The zero page is special, and never writable", "mm/memory.c, do_anonymous_page")
def zero_page_is_special(seen: Evidence) -> Iterator[Breach]:
    """Leave out, in builds before page types had a byte, what vm_insert_page() did with it: as with any page."""
    zero = seen.zero if seen.layout.get("PAGE_TYPE_BYTE") else seen.zero & ~seen.vm("VM_MIXEDMAP")
    yield from at(zero & seen.is_("writable"), "the zero page, writable")
    yield from at(zero & ~seen.large & ~seen.is_("special"), "the zero page, not special")


@invariant(
    "6", "No entry is write-protected for userfaultfd and writable", "include/linux/mm.h, pte_mkuffd_wp",
    needs=("CONFIG_HAVE_ARCH_USERFAULTFD_WP",),
)  # fmt: skip
def uffd_wp_is_not_writable(seen: Evidence) -> Iterator[Breach]:
    """Also of entries that deny all access."""
    yield from at(seen.is_("uffd_wp") & seen.is_("writable"), "uffd_wp and writable")


@invariant(
    "7", "x86: an entry that is not writable has no hardware dirty bit",
    "arch/x86/include/asm/pgtable.h, pte_mksaveddirty", needs=("_PAGE_BIT_SAVED_DIRTY",),
)  # fmt: skip
def dirty_needs_writable(seen: Evidence) -> Iterator[Breach]:
    """Not writable and dirty means shadow stack to the hardware."""
    dirty = seen.leaves.linux_present & (seen.leaves.entry & np.uint64(X86_DIRTY) != 0)
    yield from at(dirty & ~seen.is_("writable") & ~seen.vm("VM_SHADOW_STACK"), "dirty (D), but not writable")


@invariant(
    "8", "arm64: an entry is never dirty, writable and read-only to the hardware at once",
    "arch/arm64/include/asm/pgtable.h, pte_mkdirty", needs=("PTE_DBM", "PTE_DIRTY", "PTE_RDONLY"),
)  # fmt: skip
def dirty_writable_is_not_readonly(seen: Evidence) -> Iterator[Breach]:
    """Look at valid entries and at those that deny all access."""
    bits = np.uint64(seen.layout["PTE_DBM"] | seen.layout["PTE_DIRTY"] | seen.layout["PTE_RDONLY"])
    all_three = seen.leaves.linux_present & (seen.leaves.entry & bits == bits)
    yield from at(all_three, "PTE_DIRTY, PTE_DBM and PTE_RDONLY")


@invariant(
    "9", "arm64: CONT is set in whole runs of neighbours only",
    "arch/arm64/mm/contpte.c", needs=("PTE_CONT", "CONT_PTES", "CONT_PMDS"),
)  # fmt: skip
def contiguous_in_whole_runs(seen: Evidence) -> Iterator[Breach]:
    """Require runs to begin at multiples of their size, and so the frames that they map."""
    leaves, last = seen.leaves, len(seen.leaves.space.format.levels) - 1
    cont = leaves.linux_present & (leaves.entry & np.uint64(seen.layout["PTE_CONT"]) != 0)
    yield from at(cont & ~leaves.present & ~seen.hugetlb, "CONT, but not valid")
    for depth, name in ((last, "CONT_PTES"), (last - 1, "CONT_PMDS")):
        run = cont & leaves.present & (leaves.level == depth)
        yield from at(_broken_runs(seen, run, seen.layout[name]), f"CONT, but not a run of {name} neighbours")


def _broken_runs(seen: Evidence, run: Mask, count: int) -> Mask:
    """Return which of the marked leaves are in no run of ``count`` leaves onto ``count`` frames."""
    where, leaves = np.flatnonzero(run), seen.leaves
    size = leaves.size[where] * np.uint64(count)
    block = leaves.virt_addr[where] // np.maximum(size, np.uint64(1)) + (
        seen.space[where].astype(np.uint64) << np.uint64(56)
    )
    shift = leaves.phys_addr[where] - leaves.virt_addr[where]
    _, group, length = np.unique(block, return_inverse=True, return_counts=True)
    straight = shift == shift[np.unique(group, return_index=True)[1]][group] if len(where) else shift == 0
    wrong = (length[group] != count) | ~straight | (shift % np.maximum(size, np.uint64(1)) != 0)
    marked = np.zeros(len(run), dtype=bool)
    marked[where[wrong]] = True
    return marked


@invariant(
    "10", "x86-64: a populated entry that denies all access has its frame number inverted",
    "arch/x86/include/asm/pgtable-invert.h", needs=("_PAGE_BIT_PROTNONE",),
)  # fmt: skip
def prot_none_is_inverted(seen: Evidence) -> Iterator[Breach]:
    """So that the L1 cache holds nothing at the address that a speculative load sees (L1TF)."""
    hidden = seen.leaves.linux_present & ~seen.leaves.present
    plain = seen.leaves.entry >> np.uint64(TOP_ADDRESS_BIT) & np.uint64(1) == 0
    yield from at(hidden & plain, "not present, and its frame number stands there as it is")


@invariant("12.frame", "An entry that is not special points to RAM", "mm/memory.c, vm_normal_page")
def normal_entries_point_to_ram(seen: Evidence) -> Iterator[Breach]:
    """Only special entries map what has no ``struct page``."""
    normal = seen.leaves.linux_present & ~seen.is_("special")
    yield from at(normal & (seen.frame == NOWHERE), "not special, but no RAM there")
