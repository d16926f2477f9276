"""Readings: what the witness saw at one moment. Frozen values, printed for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hostwalk.column import Column
from hostwalk.errors import WalkError
from hostwalk.linux import Page, Vma
from hostwalk.paging import Leaf, Walk

NO_PFN = -1


@dataclass(frozen=True)
class Record:
    """One page of a reading: the walk that led to it (if there was one) and its struct page (if it has one)."""

    pfn: int
    frame: Page | None
    walk: Walk | None = None

    @property
    def leaf(self) -> Leaf | None:
        """The leaf entry; None where nothing is mapped."""
        return self.walk.leaf if self.walk is not None else None

    @property
    def entry(self) -> int:
        """The last entry that the walk read; 0 when empty."""
        return self.walk.entry if self.walk is not None else 0

    @property
    def entry_phys(self) -> int:
        """Guest physical address of that entry."""
        return (self.walk.entry_phys if self.walk is not None else None) or 0

    @property
    def level(self) -> str:
        """Linux's name of the level at which the walk ended."""
        return self.walk.levels[-1].name if self.walk is not None and self.walk.levels else ""

    def __str__(self) -> str:
        parts = []
        if self.walk is not None:
            parts.append(
                str(self.leaf) if self.leaf is not None else f"{self.walk.virt_addr:#018x} {self.walk.end}"
            )
        parts.append(f"{self.frame}" if self.frame is not None else "")
        return "; ".join(filter(None, parts))


@dataclass(frozen=True, repr=False)
class Reading:
    """What was read. ``kind`` is pages, frames, vma or mm; ``address`` that of the kernel object, for the last two."""

    kind: str
    title: str
    records: tuple[Record, ...] = ()
    address: int = 0

    def __repr__(self) -> str:
        return f"<{self.title}>"

    def lines(self) -> list[str]:
        """Return the reading as lines for a report."""
        return [self.title, *(f"  {index}: {record}" for index, record in enumerate(self.records))]


@dataclass(frozen=True, repr=False)
class Frames(Reading):
    """The struct pages of some page frames, one column entry per page; -1 where a page has none."""

    def _frame(self, name: str, value: Callable[[Page], int]) -> Column:
        return Column((-1 if record.frame is None else value(record.frame) for record in self.records), name)

    @property
    def pfns(self) -> Column:
        """Page frame numbers; NO_PFN where nothing is mapped."""
        return Column((record.pfn for record in self.records), "pfns", in_hex=True)

    @property
    def refcounts(self) -> Column:
        """page_count(): the head's _refcount."""
        return self._frame("refcounts", lambda page: page.refcount)

    @property
    def mapcounts(self) -> Column:
        """How often the page is mapped: _mapcount + 1."""
        return self._frame("mapcounts", lambda page: page.mapcount)

    @property
    def pincounts(self) -> Column:
        """How often the page is pinned: a large folio's _pincount, else what the bias says."""
        return self._frame("pincounts", lambda page: page.pincount)

    @property
    def heads(self) -> Column:
        """The page frame of the folio's first page."""
        return self._frame("heads", lambda page: page.head)

    @property
    def orders(self) -> Column:
        """folio_order()."""
        return self._frame("orders", lambda page: page.order)

    @property
    def zones(self) -> Column:
        """page_zonenum()."""
        return self._frame("zones", lambda page: page.zone)

    @property
    def anon(self) -> Column:
        """PageAnon()."""
        return self._frame("anon", lambda page: page.anon)

    @property
    def exclusive(self) -> Column:
        """PG_anon_exclusive of an anonymous page."""
        return self._frame("exclusive", lambda page: page.anon_exclusive)

    def flag(self, name: str) -> Column:
        """Return one of enum pageflags, such as ``PG_dirty``."""
        return self._frame(name, lambda page: page.has(name))


@dataclass(frozen=True, repr=False)
class Pages(Frames):
    """The pages of an area: their entries and their struct pages."""

    def _leaf(self, name: str, value: Callable[[Leaf], int]) -> Column:
        return Column((value(record.leaf) if record.leaf is not None else 0 for record in self.records), name)

    @property
    def entries(self) -> Column:
        """The entries as they stand in memory; 0 where there is none."""
        return Column((record.entry for record in self.records), "entries", in_hex=True)

    @property
    def huge(self) -> Column:
        """Whether one entry above the last level maps the page."""
        return self._leaf("huge", lambda leaf: leaf.level != "pte")

    @property
    def present(self) -> Column:
        """pte_present(): a page is there, PROT_NONE ones included."""
        return self._leaf("present", lambda leaf: leaf.linux.present)

    @property
    def writable(self) -> Column:
        """pte_write()."""
        return self._leaf("writable", lambda leaf: leaf.writable)

    @property
    def contiguous(self) -> Column:
        """pte_cont() of arm64; x86-64 has no such bit."""
        return self._leaf("contiguous", lambda leaf: "CONT" in leaf.flags)

    @property
    def user(self) -> Column:
        """Whether user space may read the page."""
        return self._leaf("user", lambda leaf: leaf.user)

    @property
    def executable(self) -> Column:
        """Whether user space may execute the page."""
        return self._leaf("executable", lambda leaf: leaf.executable)

    @property
    def young(self) -> Column:
        """pte_young()."""
        return self._leaf("young", lambda leaf: leaf.young)

    @property
    def dirty(self) -> Column:
        """pte_dirty()."""
        return self._leaf("dirty", lambda leaf: leaf.dirty)

    @property
    def special(self) -> Column:
        """pte_special()."""
        return self._leaf("special", lambda leaf: leaf.special)

    @property
    def prot_none(self) -> Column:
        """A populated entry that no access is allowed to."""
        return self._leaf("prot_none", lambda leaf: leaf.prot_none)

    @property
    def soft_dirty(self) -> Column:
        """pte_soft_dirty(), pte_swp_soft_dirty()."""
        return self._leaf("soft_dirty", lambda leaf: (leaf.swap or leaf).soft_dirty)

    @property
    def uffd_wp(self) -> Column:
        """pte_uffd_wp(), pte_swp_uffd_wp()."""
        return self._leaf("uffd_wp", lambda leaf: (leaf.swap or leaf).uffd_wp)

    @property
    def swaps(self) -> tuple[str, ...]:
        """What entries are that stand for no page: ``"swap"``, ``"marker"``, ``"hwpoison"``; empty for others."""
        leaves = (record.leaf for record in self.records)
        return tuple(leaf.swap.name if leaf is not None and leaf.swap is not None else "" for leaf in leaves)

    @property
    def swap_offsets(self) -> Column:
        """swp_offset(): where in its swap area each page is; 0 where it is not swapped out."""
        return self._leaf("swap_offsets", lambda leaf: leaf.swap.offset if leaf.swap is not None else 0)

    @property
    def swap_exclusive(self) -> Column:
        """pte_swp_exclusive()."""
        return self._leaf("swap_exclusive", lambda leaf: leaf.swap is not None and leaf.swap.exclusive)

    @property
    def memory_types(self) -> tuple[str, ...]:
        """Names of the memory types, from PAT or MAIR: ``"WB"``, ``"Normal"``; empty where nothing is mapped."""
        leaves = (record.leaf for record in self.records)
        return tuple(leaf.memory_type if leaf is not None else "" for leaf in leaves)

    @property
    def tables(self) -> frozenset[int]:
        """Guest physical addresses of the page tables that lead to the pages, the root among them."""
        walks = (record.walk for record in self.records if record.walk is not None)
        return frozenset(level.table_phys for walk in walks for level in walk.levels)


@dataclass(frozen=True, repr=False)
class Contents(Pages):
    """The pages of an area with their bytes."""

    data: bytes = b""


@dataclass(frozen=True, eq=False, repr=False)
class VmaReading(Reading):
    """One mapping; two readings are equal when range, flags and file are."""

    vma: Vma | None = None

    @property
    def _vma(self) -> Vma:
        if self.vma is None:
            raise WalkError(f"{self.title}: there is no vma")
        return self.vma

    @property
    def mapped(self) -> bool:
        """Whether there is a mapping at all."""
        return self.vma is not None

    @property
    def page_prot(self) -> int:
        """vm_page_prot: what a new entry's protection bits are."""
        return self._vma.page_prot

    @property
    def pgoff(self) -> int:
        """vm_pgoff: in pages, the offset in the file; in a private remapped mapping its first page frame."""
        return self._vma.pgoff

    @property
    def start(self) -> int:
        """First address."""
        return self._vma.start

    @property
    def end(self) -> int:
        """First address behind it."""
        return self._vma.end

    @property
    def flags(self) -> frozenset[str]:
        """Names of the VM_ flags that are set."""
        return self._vma.names

    def _key(self) -> tuple[int, int, frozenset[str], str | None]:
        return (self.start, self.end, self.flags, self._vma.file)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, VmaReading) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def lines(self) -> list[str]:
        """Return the reading as lines for a report."""
        return [self.title, f"  {self.vma or 'none'}"]


@dataclass(frozen=True, repr=False)
class MmReading(Reading):
    """One address space; counters in pages, ``pgtables_bytes`` in bytes.

    ``mmap_lock`` is the lock's count, 0 when nobody holds it (-1 where the kernel has no such count).
    ``def_flags`` names the VM_ flags that each new mapping gets.
    """

    rss_file: int = 0
    rss_anon: int = 0
    rss_swap: int = 0
    rss_shmem: int = 0
    total_vm: int = 0
    locked_vm: int = 0
    pinned_vm: int = 0
    map_count: int = 0
    pgtables_bytes: int = 0
    mmap_lock: int = -1
    flag_names: frozenset[str] = frozenset()
    def_flags: frozenset[str] = frozenset()
    data_vm: int = 0

    def has_flag(self, name: str) -> bool:
        """Whether a flag of mm->flags is set, by its MMF_ name."""
        return name in self.flag_names

    def lines(self) -> list[str]:
        """Return the reading as lines for a report."""
        names = (
            "rss_anon",
            "rss_file",
            "rss_shmem",
            "rss_swap",
            "total_vm",
            "locked_vm",
            "pinned_vm",
            "map_count",
        )
        counters = " ".join(f"{name} {getattr(self, name)}" for name in names)
        return [self.title, f"  {counters} {' '.join(sorted(self.flag_names))}"]


@dataclass(frozen=True, repr=False)
class CountersReading(Reading):
    """The counters of node 0 (enum node_stat_item), exact; ``address`` is that of its pglist_data."""

    values: tuple[tuple[str, int], ...] = ()

    def __getitem__(self, name: str) -> int:
        """Return a counter by its name: ``counters["NR_FOLL_PIN_ACQUIRED"]``."""
        return dict(self.values)[name]

    def lines(self) -> list[str]:
        """Return the reading as lines for a report."""
        return [self.title, *(f"  {name} {value}" for name, value in self.values)]


@dataclass(frozen=True, repr=False)
class CommittedReading(Reading):
    """vm_committed_as: pages that the kernel has promised, exact; ``address`` is that of the percpu_counter."""

    pages: int = 0

    def lines(self) -> list[str]:
        """Return the reading as lines for a report."""
        return [self.title, f"  {self.pages} pages"]


@dataclass(frozen=True, eq=False, repr=False)
class VmasReading(Reading):
    """All mappings of an address space, in the order of their addresses; ``address`` is that of the first."""

    vmas: tuple[Vma, ...] = ()

    def lines(self) -> list[str]:
        """Return the reading as lines for a report."""
        return [self.title, *(f"  {vma}" for vma in self.vmas)]
