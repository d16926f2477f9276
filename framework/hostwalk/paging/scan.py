"""Scan a range of an address space: every leaf in it, as columns.

All tables of a level are read together and nothing is done per entry in Python, so a scan costs what the
tables that are there cost, however wide the range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hostwalk.memory.physical import PhysicalMemory
from hostwalk.paging.columns import Bytes, Finding, Leaves, allowed
from hostwalk.paging.format import ALL_RIGHTS, PRESENT, Level, Mask, Words, number
from hostwalk.paging.space import AddressSpace

CHUNK = 1 << 24
REVISITS = 4096
MAX_TABLES = 1 << 18
LISTED = 100
SEGMENTS = 64
_T = TypeVar("_T", np.uint64, np.uint8)
# glibc hands freed memory back at once until a large block was freed (mallopt(3), M_MMAP_THRESHOLD), and then every
# column of every scan would fault its pages in anew, which takes longer than the scan: so one is freed here, unused.
np.empty(31 << 20, dtype=np.uint8)


def scan(
    memory: PhysicalMemory,
    space: AddressSpace,
    start: int | None = None,
    end: int | None = None,
    *,
    non_present: bool = False,
) -> Leaves:
    """Return the leaves that map some of [start, end), by default of the whole space.

    With ``non_present``, also the entries that are not present and not empty (PROT_NONE, swap, migration).
    Whatever the tables hold is a result: oddities become findings, a table that leads back to itself is not
    entered again, and at most MAX_TABLES are read. Raises MemoryReadError only when memory cannot be read.
    """
    first = space.start if start is None else max(start, space.start)
    last = (space.end if end is None else min(end, space.end)) - 1
    work = _Scan(memory, space, first, last, non_present)
    if first <= last:
        work.run()
    return work.leaves()


@dataclass
class _Tables:
    """Tables of one level, still to be read. ``above`` has a column per level that led to them."""

    phys: Words
    virt: Words
    rights: Bytes
    above: Words

    def __len__(self) -> int:
        return len(self.phys)

    def take(self, which: Mask | slice | NDArray[np.intp]) -> _Tables:
        return _Tables(self.phys[which], self.virt[which], self.rights[which], self.above[which])

    def chunks(self, count: int) -> Iterator[_Tables]:
        for at in range(0, len(self), count):
            yield self.take(slice(at, at + count))


@dataclass
class _Entries:
    """Entries of one level that are not empty. ``row`` is the table that each is in."""

    value: Words
    virt: Words
    phys: Words
    row: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.value)

    def take(self, which: Mask) -> _Entries:
        if which.all():
            return self
        return _Entries(self.value[which], self.virt[which], self.phys[which], self.row[which])


@dataclass(frozen=True)
class _Found:
    """Leaves of one level; ``upper`` are the rights that the tables above leave."""

    depth: int
    value: Words
    virt: Words
    phys: Words
    upper: Bytes


@dataclass
class _Scan:
    """A scan under way: what has been found so far."""

    memory: PhysicalMemory
    space: AddressSpace
    first: int
    last: int
    non_present: bool
    found: list[_Found] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unlisted: int = 0
    tables: int = 0
    revisits: int = 0

    def run(self) -> None:
        """Go down level by level, all tables of a level in chunks of CHUNK bytes."""
        tables = self._root()
        for depth, level in enumerate(self.space.format.levels):
            tables = self._affordable(level, tables)
            count = max(1, CHUNK // level.table_size)
            below = [self._read(depth, level, chunk) for chunk in tables.chunks(count)]
            tables = self._once(level, _join(below, depth + 1))

    def leaves(self) -> Leaves:
        """Return all that was found, in the order of addresses."""
        parts = self.found
        leaves = Leaves(
            self.space,
            _concat([part.virt for part in parts], np.uint64),
            _concat([part.value for part in parts], np.uint64),
            _concat([part.phys for part in parts], np.uint64),
            _concat([np.full(len(part.value), part.depth, dtype=np.uint8) for part in parts], np.uint8),
            _concat([part.upper for part in parts], np.uint8),
            tuple(self.findings), self.unlisted, self.tables,
        )  # fmt: skip
        one_level = len({part.depth for part in parts}) < 2
        return leaves if one_level else leaves[np.argsort(leaves.virt_addr, kind="stable")]

    def _root(self) -> _Tables:
        """Return the root; its index 0 stands for the lowest address that the format has in this half."""
        low = 0 if self.space.start == 0 else self.space.end - (1 << self.space.format.va_bits)
        phys, virt = (np.array([value], dtype=np.uint64) for value in (self.space.root, low))
        root = _Tables(phys, virt, np.array([ALL_RIGHTS], dtype=np.uint8), np.empty((1, 0), dtype=np.uint64))
        return self._readable(self.space.format.levels[0], root, virt, phys)

    def _affordable(self, level: Level, tables: _Tables) -> _Tables:
        room = MAX_TABLES - self.tables
        if len(tables) > room:
            rest = tables.take(slice(room, None))
            self._note(f"not read: more than {MAX_TABLES} tables", level, rest.virt, rest.phys)
        self.tables += min(len(tables), room)
        return tables.take(slice(0, room))

    def _read(self, depth: int, level: Level, tables: _Tables) -> _Tables:
        """Read some tables of one level, keep their leaves, return the tables below."""
        rows = self.memory.gather(tables.phys, level.table_size)
        below = []
        for first, last, full in _segments(self._full(level, tables, rows)):
            part, words = tables.take(slice(first, last)), rows[first:last].ravel()
            if full:
                self.found.append(_every(depth, level, part, words))
            else:
                below.append(self._pick(depth, level, part, words))
        return _join(below, depth + 1)

    def _full(self, level: Level, tables: _Tables, rows: Words) -> Mask:
        """Return which tables hold nothing but leaves, all in the range: so it is when their AND and OR are."""
        both, either = np.bitwise_and.reduce(rows, axis=1), np.bitwise_or.reduce(rows, axis=1)
        zero = level.leaf_zero | self.space.format.address_zero
        leaves = level.leaf.holds(both) & level.leaf.holds(either) & (either & zero == 0)
        span = (1 << level.shift + level.bits) - 1
        full: Mask = leaves & (tables.virt >= self.first) & (tables.virt + span <= self.last)
        return full

    def _pick(self, depth: int, level: Level, tables: _Tables, words: Words) -> _Tables:
        """Do the same for tables whose entries are of several kinds."""
        entries = self._entries(level, tables, words)
        value = entries.value
        table, leaf = level.table.holds(value), level.leaf.holds(value)
        high = self.space.format.address_zero
        wrong = np.where(table, value & (level.table_zero | high), value & (level.leaf_zero | high)) != 0
        absent = ~PRESENT.holds(value)
        reserved = ~absent & (wrong | ~(leaf | table))
        self._note_entries("reserved bits or a reserved type", level, entries.take(reserved))
        self._keep(depth, entries.take(absent | (leaf & ~reserved)), tables)
        return self._below(depth, level, tables, entries.take(table & ~reserved))

    def _entries(self, level: Level, tables: _Tables, words: Words) -> _Entries:
        """Return the entries of interest, with their addresses, those outside the range left out."""
        at = np.flatnonzero(words if self.non_present else (words & 1).astype(bool))
        row, index, span = at >> level.bits, at.view(np.uint64), level.shift + level.bits
        number_of = np.arange(len(tables), dtype=np.uint64)
        virt = (index << level.shift) + (tables.virt - (number_of << span))[row]
        phys = (index << 3) + (tables.phys - (number_of << (3 + level.bits)))[row]
        entries = _Entries(words[at], virt, phys, row)
        return entries.take((virt <= self.last) & (virt + (level.size - 1) >= self.first))

    def _below(self, depth: int, level: Level, tables: _Tables, entries: _Entries) -> _Tables:
        format_ = self.space.format
        phys: Words = number(format_.address, entries.value) & np.uint64((1 << 64) - format_.page_size)
        above = np.column_stack([tables.above[entries.row], tables.phys[entries.row]])
        circular = (above == phys[:, None]).any(axis=1)
        self._note_entries("leads back to a table above it", level, entries.take(circular))
        rights = tables.rights[entries.row] & allowed(format_.table_rules, entries.value)
        lower, go = _Tables(phys, entries.virt, rights, above), ~circular
        values, places = entries.value[go], entries.phys[go]
        return self._readable(format_.levels[depth + 1], lower.take(go), values, places) if len(go) else lower

    def _readable(self, level: Level, tables: _Tables, values: Words, places: Words) -> _Tables:
        """Return the tables that are in RAM, and note the others."""
        inside = np.zeros(len(tables), dtype=bool)
        for region in self.memory.regions:
            last = region.end - level.table_size
            if last >= region.start:
                inside |= (tables.phys >= region.start) & (tables.phys <= last)
        out = ~inside
        self._note(f"{level.name} table outside RAM", level, tables.virt[out], places[out], values[out])
        return tables.take(inside)

    def _once(self, level: Level, tables: _Tables) -> _Tables:
        """Return the tables; when too many have been entered again and again, each of them once."""
        _, first = np.unique(tables.phys, return_index=True)
        self.revisits += len(tables) - len(first)
        if self.revisits <= REVISITS or len(first) == len(tables):
            return tables
        again = np.ones(len(tables), dtype=bool)
        again[first] = False
        rest = tables.take(again)
        self._note("leads to a table that was entered elsewhere", level, rest.virt, rest.phys)
        return tables.take(np.sort(first))

    def _keep(self, depth: int, entries: _Entries, tables: _Tables) -> None:
        if len(entries):
            upper = tables.rights[entries.row]
            self.found.append(_Found(depth, entries.value, entries.virt, entries.phys, upper))

    def _note_entries(self, what: str, level: Level, entries: _Entries) -> None:
        self._note(what, level, entries.virt, entries.phys, entries.value)

    def _note(self, what: str, level: Level, virt: Words, phys: Words, value: Words | None = None) -> None:
        room = max(0, LISTED - len(self.findings))
        for i in range(min(room, len(virt))):
            entry = 0 if value is None else int(value[i])
            self.findings.append(Finding(what, level.name, int(virt[i]), int(phys[i]), entry))
        self.unlisted += max(0, len(virt) - room)


def _join(parts: list[_Tables], columns: int) -> _Tables:
    if not parts:
        none = np.empty(0, dtype=np.uint64)
        return _Tables(none, none, np.empty(0, dtype=np.uint8), np.empty((0, columns), dtype=np.uint64))
    return _Tables(*(np.concatenate([getattr(part, name) for part in parts]) for name in TABLE_COLUMNS))


def _segments(full: Mask) -> Iterator[tuple[int, int, bool]]:
    """Yield (first, last + 1, full) of neighbours that are alike; as one mixed run when they alternate a lot."""
    cuts = (np.flatnonzero(full[1:] != full[:-1]) + 1).tolist()
    if len(cuts) > SEGMENTS:
        yield 0, len(full), False
        return
    for first, last in pairwise([0, *cuts, len(full)]):
        yield first, last, bool(full[first])


def _every(depth: int, level: Level, tables: _Tables, words: Words) -> _Found:
    """Return all entries of the tables, which are leaves."""
    index = np.arange(1 << level.bits, dtype=np.uint64)
    virt = (tables.virt[:, None] + (index << level.shift)).ravel()
    phys = (tables.phys[:, None] + (index << 3)).ravel()
    return _Found(depth, words, virt, phys, np.repeat(tables.rights, 1 << level.bits))


def _concat(parts: list[NDArray[_T]], kind: type[_T]) -> NDArray[_T]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype=kind)


TABLE_COLUMNS = ("phys", "virt", "rights", "above")
