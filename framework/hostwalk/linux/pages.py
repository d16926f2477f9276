"""``struct page``: what the kernel keeps about each page frame, one frame at a time or as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hostwalk.memory.physical import Words
from hostwalk.target import Arch

if TYPE_CHECKING:
    from hostwalk.linux.kernel import Linux

Pfns = Sequence[int] | Words
Ints = NDArray[np.int64]
FULL = (1 << 64) - 1
HEAD = "PG_head"
OWN = ("PG_anon_exclusive", "PG_hwpoison")
TYPE_PREFIX = "PGTY_"
OLD_TYPES = ("PG_buddy", "PG_offline", "PG_table", "PG_guard")
NOT_FLAGS = (*OLD_TYPES, "PG_slab")
# page_has_type(): counts below this are types (include/linux/page-flags.h), before and since PAGE_TYPE_BYTE.
TYPED_BELOW = (-128, -(1 << 24))
ALIASES = {"PG_owner_priv_1", "PG_mappedtodisk", "PG_checked", "PG_readahead", "PG_reported"}


@dataclass(frozen=True)
class Page:
    """One page frame. For a tail of a large folio, ``refcount`` and ``pincount`` are those of the folio.

    ``mapcount`` counts mappings of this page (the kernel stores one less), those of the whole folio too.
    ``pincount`` is exact for large folios, else refcount // GUP_PIN_COUNTING_BIAS. ``flags`` are the folio's,
    and the page's own where a flag is kept per page. ``type`` is what the page is used for instead of being
    mapped (buddy, slab, table ...), or "".
    """

    pfn: int
    address: int
    flags: int
    refcount: int
    mapcount: int
    pincount: int
    head: int
    order: int
    mapping: int
    index: int
    zone: int
    node: int
    type: str
    names: frozenset[str]

    @property
    def compound(self) -> bool:
        """Whether it is part of a large folio."""
        return self.order > 0

    @property
    def tail(self) -> bool:
        """Whether it is a tail of a large folio."""
        return self.head != self.pfn

    @property
    def anon(self) -> bool:
        """Whether it is anonymous memory (PAGE_MAPPING_ANON)."""
        return bool(self.mapping & 1)

    @property
    def anon_exclusive(self) -> bool:
        """PG_anon_exclusive: one process has it for itself."""
        return self.anon and "PG_anon_exclusive" in self.names

    def has(self, name: str) -> bool:
        """Return whether a flag is set: ``page.has("PG_dirty")``."""
        return name in self.names

    def __str__(self) -> str:
        large = f" order {self.order} head {self.head:#x}" if self.compound else ""
        use = self.type or (
            "anon" if self.anon else f"mapping {self.mapping:#x}" if self.mapping else "free use"
        )
        names = " ".join(sorted(name[3:] for name in self.names - ALIASES))
        counts = f"refcount {self.refcount} mapcount {self.mapcount} pincount {self.pincount}"
        return f"pfn {self.pfn:#x} {counts}{large} {use} [{names}]"


@dataclass(frozen=True, eq=False)
class Pages:
    """Page frames as columns, with the meanings of Page. ``page_type`` is the folio's raw word."""

    array: PageArray
    pfn: Words
    flags: Words
    refcount: Ints
    mapcount: Ints
    pincount: Ints
    head: Words
    order: Ints
    mapping: Words
    index: Words
    page_type: Ints

    def __len__(self) -> int:
        return len(self.pfn)

    def __iter__(self) -> Iterator[Page]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Page:
        pfn, flags = int(self.pfn[i]), int(self.flags[i])
        zone, node = self.array.zone_and_node(flags)
        kind, names = self.array.type_name(int(self.page_type[i]), flags), self.array.flag_names(flags)
        return Page(
            pfn, self.array.address(pfn), flags, int(self.refcount[i]), int(self.mapcount[i]),
            int(self.pincount[i]), int(self.head[i]), int(self.order[i]), int(self.mapping[i]),
            int(self.index[i]), zone, node, kind, names,
        )  # fmt: skip

    @property
    def anon(self) -> NDArray[np.bool_]:
        """Which are anonymous memory."""
        return (self.mapping & 1).astype(bool)

    def has(self, name: str) -> NDArray[np.bool_]:
        """Return which have a flag."""
        return (self.flags >> self.array.flag_bit(name) & 1).astype(bool)


@dataclass(frozen=True)
class Rows:
    """Structures of one type as they are in memory, one row of 64-bit words each."""

    linux: Linux
    type: str
    words: Words

    def column(self, name: str) -> Ints:
        """Return an integer member of each, 32-bit ones signed; 64-bit ones keep their bits."""
        layout = self.linux.layout
        offset, size = layout.offsetof(self.type, name), layout.member_size(self.type, name)
        kinds: dict[int, type] = {1: np.uint8, 4: np.int32, 8: np.int64}
        return self.words.view(kinds[size])[:, offset // size].astype(np.int64)

    def has(self, name: str) -> bool:
        """Return whether the type has the member in this build."""
        return self.linux.layout.has_member(self.type, name)


class PageArray:
    """vmemmap: where the ``struct page`` of each frame is, and how to read it."""

    def __init__(self, linux: Linux) -> None:
        self.linux = linux
        self.size = linux.layout.sizeof("struct page")
        self.base = vmemmap(linux)

    def address(self, pfn: int) -> int:
        """Return the kernel address of a frame's ``struct page``."""
        return (self.base + pfn * self.size) & FULL

    def pfn(self, address: int) -> int:
        """Return the frame of a ``struct page *``."""
        return ((address - self.base) & FULL) // self.size

    @cached_property
    def _flags(self) -> dict[str, int]:
        layout = self.linux.layout
        return {key: layout[key] for key in layout if key.startswith("PG_") and key not in NOT_FLAGS}

    def flag_bit(self, name: str) -> int:
        """Return the number of a flag's bit; raise LayoutError for a flag that the build does not have."""
        return self.linux.layout[name]

    def flag_names(self, flags: int) -> frozenset[str]:
        """Return the names of the flags that are set; some bits have more than one name."""
        return frozenset(name for name, bit in self._flags.items() if flags >> bit & 1)

    def zone_and_node(self, flags: int) -> tuple[int, int]:
        """Return the numbers of zone and node in ``page->flags``."""
        layout = self.linux.layout
        zone = flags >> layout["ZONES_PGSHIFT"] & layout["ZONES_MASK"]
        return zone, flags >> layout["NODES_PGSHIFT"] & layout["NODES_MASK"]

    def type_name(self, page_type: int, flags: int) -> str:
        """Return what ``page_type`` says that the page is used for; "" when it is a count of mappings."""
        layout, typed = self.linux.layout, page_type < TYPED_BELOW[self._type_byte]
        if self._type_byte:
            code = page_type >> 24 & 0xFF
            return self._types.get(code, f"type {code:#x}") if typed else ""
        if flags >> layout["PG_slab"] & 1:
            return "slab"
        return next((key[3:] for key in OLD_TYPES if typed and not page_type & layout[key]), "")

    @cached_property
    def _type_byte(self) -> int:
        return self.linux.layout["PAGE_TYPE_BYTE"]

    @cached_property
    def _types(self) -> dict[int, str]:
        layout = self.linux.layout
        return {layout[key]: key[len(TYPE_PREFIX) :] for key in layout if key.startswith(TYPE_PREFIX)}

    def pages(self, pfns: Pfns) -> Pages:
        """Return the frames' columns. Raises WalkError for a frame that has no ``struct page``."""
        wanted = np.asarray(pfns, dtype=np.uint64).reshape(-1)
        own = self._rows(wanted, "struct page", 1)
        head = self._heads(wanted, own)
        first = self._rows(head, "struct page", 1)
        large = np.flatnonzero(first.column("flags") >> self.flag_bit(HEAD) & 1)
        folio = self.folios(head[large])
        refcount = first.column("_refcount")
        pincount = refcount // self.linux.layout["GUP_PIN_COUNTING_BIAS"]
        pincount[large] = folio.column("_pincount")
        order = np.zeros(len(wanted), dtype=np.int64)
        order[large] = (
            folio.column("_folio_order") if folio.has("_folio_order") else folio.column("_flags_1") & 0xFF
        )
        return Pages(
            self, wanted, self._folio_flags(own, first), refcount, self._mapcount(own, folio, large),
            pincount, head, order, first.column("mapping").view(np.uint64), self._index(wanted, head, first),
            first.column("_mapcount"),
        )  # fmt: skip

    def folios(self, heads: Words) -> Rows:
        """Return the ``struct folio`` of large folios, by the frames of their heads."""
        return self._rows(heads, "struct folio", 2)

    def _heads(self, pfns: Words, own: Rows) -> Words:
        """Return the frame of each page's head."""
        if self.linux.layout["COMPOUND_INFO_HAS_MASK"]:
            info = own.column("compound_info").view(np.uint64)
            addresses = (np.uint64(self.base) + pfns * np.uint64(self.size)) & info
        else:
            name = "compound_head" if own.has("compound_head") else "compound_info"
            info = own.column(name).view(np.uint64)
            addresses = info - np.uint64(1)
        heads = (addresses - np.uint64(self.base)) // np.uint64(self.size)
        return np.where((info & 1).astype(bool), heads, pfns)

    def _folio_flags(self, own: Rows, first: Rows) -> Words:
        """Return the folio's flags, and the page's own for those that each page has for itself."""
        mask = sum(1 << self._flags[name] for name in OWN if name in self._flags)
        mine, folios = own.column("flags").view(np.uint64), first.column("flags").view(np.uint64)
        hugetlb = self._types_are(first, "hugetlb")
        return np.where(hugetlb, folios, folios & (FULL ^ mask) | mine & mask)

    def _types_are(self, rows: Rows, name: str) -> NDArray[np.bool_]:
        codes = [code for code, known in self._types.items() if known == name] if self._type_byte else []
        raw = rows.column("_mapcount")
        return np.isin(raw >> 24 & 0xFF, codes) & (raw < TYPED_BELOW[self._type_byte])

    def _mapcount(self, own: Rows, folio: Rows, large: NDArray[np.intp]) -> Ints:
        raw = own.column("_mapcount")
        counts = np.where(raw < TYPED_BELOW[self._type_byte], 0, raw + 1)
        whole = "_entire_mapcount" if folio.has("_entire_mapcount") else "_total_mapcount"
        counts[large] += folio.column(whole) + 1
        return counts

    def _index(self, pfns: Words, head: Words, first: Rows) -> Words:
        name = "index" if first.has("index") else "__folio_index"
        return first.column(name).view(np.uint64) + (pfns - head)

    def _rows(self, pfns: Words, type_: str, pages: int) -> Rows:
        """Read ``pages`` consecutive ``struct page`` from each frame's on."""
        virt = np.uint64(self.base) + pfns * np.uint64(self.size)
        size = self.size * pages
        if self.size & (self.size - 1):
            data = b"".join(self.linux.read_virt(int(at), size) for at in virt)
            return Rows(self.linux, type_, np.frombuffer(data, dtype="<u8").reshape(-1, size // 8))
        return Rows(self.linux, type_, self.linux.memory.gather(self._phys(virt), size))

    def _phys(self, virt: Words) -> Words:
        """Translate kernel addresses, one walk per leaf."""
        phys, left = np.zeros_like(virt), np.ones(len(virt), dtype=bool)
        while left.any():
            run = self.linux.run(int(virt[left.argmax()]))
            here = virt - np.uint64(run.virt_addr) < run.size
            phys[here] = virt[here] - np.uint64(run.virt_addr) + np.uint64(run.phys_addr)
            left &= ~here
        return phys


def vmemmap(linux: Linux) -> int:
    """Return the address of frame 0's ``struct page``, where there is one or would be."""
    layout, symbols = linux.layout, linux.symbols
    if linux.kernel_space.format.arch is Arch.X86_64:
        if "vmemmap_base" in symbols:
            return linux.uint(symbols["vmemmap_base"])
        return layout["__VMEMMAP_BASE_L4"]
    first = linux.sint(symbols["memstart_addr"]) >> layout["PAGE_SHIFT"]
    return (layout["VMEMMAP_START"] - first * layout.sizeof("struct page")) & FULL
