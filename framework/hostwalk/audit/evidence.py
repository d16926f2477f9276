"""Evidence: everything that the entries, mappings and page frames of a guest's processes say at one moment.

Columns are numpy arrays. ``vmas`` and ``frames`` end with a row of nothing, so that the index -1 of a leaf
without a mapping, or without a ``struct page``, reads as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hostwalk.memory.regions import Regions
from hostwalk.paging import Leaves
from hostwalk.paging.format import Mask, Words

if TYPE_CHECKING:
    from hostwalk.linux import Linux, Rss

Ints = NDArray[np.int64]
# What a frame is used for instead of being mapped; the index is in Frames.kind.
KINDS = ("", "buddy", "offline", "table", "guard", "slab", "hugetlb", "other")
NOWHERE = -1


@dataclass(frozen=True)
class Space:
    """What one ``mm_struct`` says of itself. ``tables`` are its tables in bytes, those that Linux accounts for."""

    pid: int
    comm: str
    address: int
    rss: Rss
    counters: Mapping[str, int]
    tables: int
    oddities: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.comm} (pid {self.pid})"


@dataclass(frozen=True, eq=False)
class Vmas:
    """Mappings. ``mapping`` is the address_space of the file (0 without one), ``pages`` its size in pages.

    ``anon_pgoff`` is what the index of an anonymous page counts from: vm_pgoff, but for files since Linux 7.3.
    """

    address: Words
    space: Ints
    start: Words
    end: Words
    flags: Words
    pgoff: Words
    mapping: Words
    pages: Words
    anon_pgoff: Words


@dataclass(frozen=True, eq=False)
class Frames:
    """Page frames that some entry points to. ``maps`` is the page's own _mapcount + 1, whole mappings left out.

    ``flags`` are the folio's, but for PG_anon_exclusive. ``folio`` indexes the large folios, -1 for a small one.
    """

    pfn: Words
    flags: Words
    refcount: Ints
    maps: Ints
    head: Words
    mapping: Words
    index: Words
    kind: NDArray[np.uint8]
    folio: Ints


@dataclass(frozen=True, eq=False)
class Folios:
    """Large folios: ``entire`` mappings by one entry, ``total`` mappings in all (-1 where not counted)."""

    head: Words
    order: Ints
    flags: Words
    entire: Ints
    total: Ints
    pins: Ints
    refcount: Ints
    doubled: Mask


@dataclass(frozen=True, eq=False)
class Swaps:
    """Entries that are neither empty nor present: ``real`` is in a swap file, ``pfn`` that of a migration."""

    leaf: NDArray[np.intp]
    real: Mask
    migration: Mask
    pfn: Words


@dataclass(frozen=True, eq=False)
class Evidence:
    """All leaves of all processes; ``space``, ``vma`` and ``frame`` give each leaf's row in the other tables.

    ``held`` is how many pins the node's counters say are held.
    """

    layout: Mapping[str, int]
    regions: Regions
    leaves: Leaves
    space: Ints
    vma: Ints
    frame: Ints
    spaces: tuple[Space, ...]
    vmas: Vmas
    frames: Frames
    folios: Folios
    swaps: Swaps
    zero_pfn: int
    huge_zero_pfn: int
    held: int
    linux: Linux | None = None

    def vm(self, *names: str) -> Mask:
        """Return which leaves lie in a mapping with one of these flags; a flag that the build lacks is on nowhere."""
        wanted = np.uint64(sum(self.layout.get(name, 0) for name in names))
        has: Mask = (self.vmas.flags & wanted != 0)[self.vma]
        return has

    def is_(self, name: str) -> Mask:
        """Return one of Linux's terms of each leaf: ``writable``, ``special`` ..."""
        return self.leaves.linux(name)

    def page_flag(self, name: str) -> Mask:
        """Return which leaves point to a page with a flag."""
        has: Mask = self.frame_flag(name)[self.frame]
        return has

    def frame_flag(self, name: str) -> Mask:
        """Return which frames have a flag; their folio's, but for PG_anon_exclusive."""
        has: Mask = (self.frames.flags >> np.uint64(self.layout[name]) & np.uint64(1)).astype(bool)
        return has

    @cached_property
    def mapped(self) -> Mask:
        """Which leaves lie in a mapping."""
        inside: Mask = self.vma != NOWHERE
        return inside

    @cached_property
    def hugetlb(self) -> Mask:
        """Which leaves are of the pool of huge pages."""
        return self.vm("VM_HUGETLB")

    @cached_property
    def large(self) -> Mask:
        """Which leaves are above the last level."""
        above: Mask = self.leaves.level != len(self.leaves.space.format.levels) - 1
        return above

    @cached_property
    def zero(self) -> Mask:
        """Which leaves point to the shared zero page or to the huge one."""
        pfn = self.leaves.pfn
        zero: Mask = pfn == np.where(self.large, np.uint64(self.huge_zero_pfn), np.uint64(self.zero_pfn))
        return zero & self.leaves.linux_present

    @cached_property
    def normal(self) -> Mask:
        """vm_normal_page(): which leaves stand for a page that counts, in RSS, mapcount and refcount."""
        huge_zero = self.zero & self.large
        real: Mask = self.leaves.linux_present & ~self.is_("special") & ~huge_zero & (self.frame != NOWHERE)
        return real

    @cached_property
    def anon(self) -> Mask:
        """Which leaves point to anonymous memory."""
        has: Mask = (self.frames.mapping & np.uint64(1)).astype(bool)[self.frame]
        return has

    @cached_property
    def base_pages(self) -> Ints:
        """Base pages that each leaf stands for."""
        shift = np.uint64(self.leaves.space.format.page_shift)
        return (self.leaves.size >> shift).astype(np.int64)

    @cached_property
    def own_maps(self) -> Ints:
        """How many entries of the last level point to each frame, of all processes."""
        single = self.frame[self.normal & ~self.large & ~self.hugetlb]
        return np.bincount(single, minlength=len(self.frames.pfn)).astype(np.int64)

    @cached_property
    def whole_maps(self) -> Ints:
        """How many entries map each large folio as a whole; a run of entries for one huge page counts once."""
        first = self.leaves.pfn == self.frames.head[self.frame]
        whole = self.normal & (self.large | self.hugetlb) & first
        folio = self.frames.folio[self.frame[whole]]
        return np.bincount(folio[folio >= 0], minlength=len(self.folios.head)).astype(np.int64)

    @cached_property
    def folio_maps(self) -> Ints:
        """How many entries in all map some of each large folio."""
        inside = self.frames.folio >= 0
        weights = self.own_maps[inside]
        single = np.bincount(self.frames.folio[inside], weights=weights, minlength=len(self.folios.head))
        return single.astype(np.int64) + self.whole_maps

    def leaves_of(self, frames: Mask) -> Mask:
        """Return which leaves point to marked frames and count there."""
        return frames[self.frame] & self.normal

    def leaves_of_folios(self, folios: Mask) -> Mask:
        """Return which leaves point into marked large folios and count there."""
        of = self.frames.folio
        marked = np.zeros(len(of), dtype=bool)
        marked[of >= 0] = folios[of[of >= 0]]
        return self.leaves_of(marked)
