"""Sabotage: alter the evidence in guest memory, so that a claim must be found broken.

A sabotage waits for the ``at``-th reading of its kind. With the machine stopped, it changes guest memory, the
witness reads what is there now, and the old bytes go back before the guest runs on: the kernel never sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostwalk.errors import HostwalkError
from hostwalk.linux import Node
from hostwalk.target import Arch

if TYPE_CHECKING:
    from hostwalk.moment import Moment
    from hostwalk.readings import Reading

ENTRY_KINDS = frozenset({"pages"})
FRAME_KINDS = frozenset({"pages", "frames"})


class SabotageError(HostwalkError):
    """A sabotage could not be done: the evidence that it wants to alter is not there."""


@dataclass(frozen=True)
class Write:
    """Bytes for a guest physical address."""

    address: int
    data: bytes


@dataclass(frozen=True)
class Sabotage:
    """What to alter, and at which reading of its kinds (counted from 1)."""

    name: str
    kinds: frozenset[str]
    at: int
    alter: Callable[[Moment, Reading], tuple[Write, ...]]

    def __str__(self) -> str:
        return f"{self.name} at reading {self.at}"


class Saboteur:
    """Carries one sabotage through one claim; ``done`` tells whether it has struck."""

    def __init__(self, sabotage: Sabotage) -> None:
        self.sabotage = sabotage
        self.done = False
        self._seen = 0

    @contextmanager
    def strike(self, moment: Moment, reading: Reading) -> Iterator[bool]:
        """Alter memory while the block runs, if this reading is the one; yields whether it is."""
        self._seen += reading.kind in self.sabotage.kinds
        if self.done or reading.kind not in self.sabotage.kinds or self._seen != self.sabotage.at:
            yield False
            return
        writes = self.sabotage.alter(moment, reading)
        if all(moment.memory.read(write.address, len(write.data)) == write.data for write in writes):
            raise SabotageError(f"the sabotage would alter nothing: {self.sabotage}")
        with altered(moment, writes):
            self.done = True
            yield True


@contextmanager
def altered(moment: Moment, writes: tuple[Write, ...]) -> Iterator[None]:
    """Alter memory while the block runs; what was there goes back afterwards."""
    old = [Write(write.address, moment.memory.read(write.address, len(write.data))) for write in writes]
    try:
        _apply(moment, writes)
        yield
    finally:
        _apply(moment, tuple(reversed(old)))


def _apply(moment: Moment, writes: tuple[Write, ...]) -> None:
    for write in writes:
        moment.memory.write(write.address, write.data)


@dataclass(frozen=True)
class _Bits:
    """What an entry's bits must become: (bits to set, bits to clear)."""

    on: tuple[int, int]
    off: tuple[int, int]


_ENTRY_BITS = {
    Arch.X86_64: {
        "writable": _Bits((1 << 1, 0), (0, 1 << 1)),
        "user": _Bits((1 << 2, 0), (0, 1 << 2)),
        "young": _Bits((1 << 5, 0), (0, 1 << 5)),
        "dirty": _Bits((1 << 6, 0), (0, 1 << 6 | 1 << 58)),
        "special": _Bits((1 << 9, 0), (0, 1 << 9)),
        "executable": _Bits((0, 1 << 63), (1 << 63, 0)),
        "soft_dirty": _Bits((1 << 11, 0), (0, 1 << 11)),
        "uffd_wp": _Bits((1 << 10, 0), (0, 1 << 10)),
        "uncached": _Bits((1 << 4, 1 << 3 | 1 << 7), (0, 1 << 4 | 1 << 3 | 1 << 7)),
        "global": _Bits((1 << 8, 0), (0, 1 << 8)),
    },
    Arch.ARM64: {
        "writable": _Bits((1 << 51, 1 << 7), (1 << 7, 1 << 51)),
        "user": _Bits((1 << 6, 0), (0, 1 << 6)),
        "young": _Bits((1 << 10, 0), (0, 1 << 10)),
        "dirty": _Bits((1 << 55, 0), (1 << 7, 1 << 55)),
        "special": _Bits((1 << 56, 0), (0, 1 << 56)),
        "executable": _Bits((0, 1 << 54), (1 << 54, 0)),
        "uffd_wp": _Bits((1 << 58, 0), (0, 1 << 58)),
        "uncached": _Bits((3 << 2, 7 << 2), (0, 7 << 2)),
        "global": _Bits((0, 1 << 11), (1 << 11, 0)),
    },
}
# A user-readable, not writable leaf: x86-64 P US A NX (PS for a large one); arm64 V AF USER RDONLY nG PXN UXN.
_LEAF = {
    (Arch.X86_64, False): 1 << 63 | 1 << 5 | 1 << 2 | 1,
    (Arch.X86_64, True): 1 << 63 | 1 << 7 | 1 << 5 | 1 << 2 | 1,
    (Arch.ARM64, False): 1 << 54 | 1 << 53 | 1 << 11 | 1 << 10 | 1 << 7 | 1 << 6 | 0b11,
    (Arch.ARM64, True): 1 << 54 | 1 << 53 | 1 << 11 | 1 << 10 | 1 << 7 | 1 << 6 | 0b01,
}


def entry_bit(bit: str, *, set: bool, at: int = 1, page: int | None = None) -> Sabotage:  # noqa: A002
    """Set or clear one property of a page-table entry: ``present`` or one of the names in CLAIMS' vocabulary.

    The entry is that of ``page``, or of the first page that has one (for ``present`` to be set: that has none).
    """

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        if bit == "present":
            return _make_present(moment, reading, page) if set else (_entry(reading, page, 0),)
        record = reading.records[_index(reading, page)]
        bits = _ENTRY_BITS[moment.arch][bit]
        on, off = bits.on if set else bits.off
        return (_entry(reading, page, record.entry & ~off | on),)

    return Sabotage(f"{'set' if set else 'clear'} {bit} in an entry", ENTRY_KINDS, at, alter)


def entry_pfn(delta: int, *, at: int = 1, page: int | None = None) -> Sabotage:
    """Make an entry map another page frame, ``delta`` frames further."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        record = reading.records[_index(reading, page)]
        return (_entry(reading, page, record.entry + (delta << moment.layout["PAGE_SHIFT"])),)

    return Sabotage(f"map a page frame {delta:+} away", ENTRY_KINDS, at, alter)


def refcount(delta: int, *, at: int = 1, page: int | None = None) -> Sabotage:
    """Change the reference count of a page (of its head, in a compound page)."""
    return _counter("_refcount", delta, at, page)


def mapcount(delta: int, *, at: int = 1, page: int | None = None) -> Sabotage:
    """Change the map count of a page."""
    return _counter("_mapcount", delta, at, page)


def page_flag(flag: str, *, set: bool, at: int = 1, page: int | None = None) -> Sabotage:  # noqa: A002
    """Set or clear one of enum pageflags in a struct page."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        address = _page_field(moment, reading, page, "flags")
        old = int.from_bytes(moment.memory.read(address, 8), "little")
        bit = 1 << moment.layout[flag]
        return (Write(address, (old | bit if set else old & ~bit).to_bytes(8, "little")),)

    return Sabotage(f"{'set' if set else 'clear'} {flag}", FRAME_KINDS, at, alter)


def vm_flag(flag: str, *, at: int = 1) -> Sabotage:
    """Toggle a flag of the vma that was read."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        address = moment.field(reading.address, "struct vm_area_struct", "vm_flags")
        old = int.from_bytes(moment.memory.read(address, 8), "little")
        return (Write(address, (old ^ moment.layout[flag]).to_bytes(8, "little")),)

    return Sabotage(f"toggle {flag}", frozenset({"vma"}), at, alter)


def vm_pgoff(pages: int, *, at: int = 1) -> Sabotage:
    """Change ``vm_pgoff`` of the vma that was read."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        return (_add(moment, moment.field(reading.address, "struct vm_area_struct", "vm_pgoff"), 8, pages),)

    return Sabotage(f"vm_pgoff {pages:+}", frozenset({"vma"}), at, alter)


def vm_edge(member: str, pages: int, *, at: int = 1) -> Sabotage:
    """Move ``vm_start`` or ``vm_end`` of the vma that was read."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        address = moment.field(reading.address, "struct vm_area_struct", member)
        return (_add(moment, address, 8, pages * moment.layout["PAGE_SIZE"]),)

    return Sabotage(f"{member} {pages:+} pages", frozenset({"vma"}), at, alter)


def committed(delta: int, *, at: int = 1) -> Sabotage:
    """Change vm_committed_as, in pages."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        return (_add(moment, moment.field(reading.address, "struct percpu_counter", "count"), 8, delta),)

    return Sabotage(f"vm_committed_as {delta:+}", frozenset({"committed"}), at, alter)


def def_flag(flag: str, *, at: int = 1) -> Sabotage:
    """Toggle a flag in ``mm->def_flags``."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        address = moment.field(reading.address, "struct mm_struct", "def_flags")
        old = int.from_bytes(moment.memory.read(address, 8), "little")
        return (Write(address, (old ^ moment.layout[flag]).to_bytes(8, "little")),)

    return Sabotage(f"toggle {flag} in def_flags", frozenset({"mm"}), at, alter)


def mm_flag(flag: str, *, at: int = 1) -> Sabotage:
    """Toggle a flag (a bit number MMF_) of the mm that was read."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        address = moment.field(reading.address, "struct mm_struct", "flags")
        old = int.from_bytes(moment.memory.read(address, 8), "little")
        return (Write(address, (old ^ 1 << moment.layout[flag]).to_bytes(8, "little")),)

    return Sabotage(f"toggle {flag}", frozenset({"mm"}), at, alter)


def mm_counter(field: str, delta: int, *, at: int = 1) -> Sabotage:
    """Change a plain counter of the mm that was read, such as ``locked_vm`` (pages)."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        return (_add(moment, moment.field(reading.address, "struct mm_struct", field), 8, delta),)

    return Sabotage(f"{field} {delta:+}", frozenset({"mm"}), at, alter)


def node_counter(name: str, delta: int, *, at: int = 1) -> Sabotage:
    """Change a counter of the node that was read, such as ``NR_FOLL_PIN_ACQUIRED``."""

    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        address = Node(moment.linux, reading.address).stat_address(name)
        return (_add(moment, moment.linux.phys(address), 8, delta),)

    return Sabotage(f"{name} {delta:+}", frozenset({"counters"}), at, alter)


def _counter(member: str, delta: int, at: int, page: int | None) -> Sabotage:
    def alter(moment: Moment, reading: Reading) -> tuple[Write, ...]:
        return (_add(moment, _page_field(moment, reading, page, member), 4, delta),)

    return Sabotage(f"{member} {delta:+}", FRAME_KINDS, at, alter)


def _add(moment: Moment, address: int, size: int, delta: int) -> Write:
    old = int.from_bytes(moment.memory.read(address, size), "little")
    return Write(address, ((old + delta) % (1 << 8 * size)).to_bytes(size, "little"))


def _index(reading: Reading, page: int | None, *, present: bool = True) -> int:
    if page is not None:
        return page
    for index, record in enumerate(reading.records):
        if (record.entry != 0) is present:
            return index
    raise SabotageError(f"no page of the reading is {'mapped' if present else 'unmapped'}")


def _entry(reading: Reading, page: int | None, value: int) -> Write:
    record = reading.records[_index(reading, page)]
    return Write(record.entry_phys, value.to_bytes(8, "little"))


def _make_present(moment: Moment, reading: Reading, page: int | None) -> tuple[Write, ...]:
    record = reading.records[_index(reading, page, present=False)]
    large = record.level != "pte"
    frame = moment.memory.regions[0].start if large else moment.zero_pfn << moment.layout["PAGE_SHIFT"]
    return (Write(record.entry_phys, (_LEAF[moment.arch, large] | frame).to_bytes(8, "little")),)


def _page_field(moment: Moment, reading: Reading, page: int | None, member: str) -> int:
    wanted = [index for index, record in enumerate(reading.records) if record.frame is not None]
    if not wanted:
        raise SabotageError("no page of the reading has a struct page")
    frame = reading.records[wanted[0] if page is None else page].frame
    if frame is None:
        raise SabotageError(f"page {page} of the reading has no struct page")
    return moment.page_field(frame, member)
