"""Leaves as columns: numpy arrays of equal length, one row per leaf entry, in the order of addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from hostwalk.memory.regions import Regions
from hostwalk.paging.format import ALL_RIGHTS, PRESENT, Mask, Match, Rights, Rule, Words, number
from hostwalk.paging.leaf import Leaf
from hostwalk.paging.space import AddressSpace

Bytes = NDArray[np.uint8]
FULL = (1 << 64) - 1


@dataclass(frozen=True)
class Finding:
    """Something odd in the tables: what it is, and the entry that leads to it."""

    what: str
    level: str
    virt_addr: int
    entry_phys: int
    entry: int

    def __str__(self) -> str:
        return f"{self.virt_addr:#018x}: {self.level} {self.entry:#018x} at {self.entry_phys:#x}: {self.what}"


@dataclass(frozen=True, eq=False)
class Leaves:
    """The leaves of a scan.

    ``virt_addr``, ``entry`` and ``entry_phys`` are what was read, ``level`` indexes the format's levels,
    ``upper`` is the rights that the tables above leave. Index with a number for a Leaf, with a slice, a mask
    or numbers for Leaves. ``findings`` lists oddities; ``unlisted`` counts those beyond the list.
    ``tables`` is how many tables were read.
    """

    space: AddressSpace
    virt_addr: Words
    entry: Words
    entry_phys: Words
    level: Bytes
    upper: Bytes
    findings: tuple[Finding, ...] = ()
    unlisted: int = 0
    tables: int = 0

    def __len__(self) -> int:
        return len(self.entry)

    def __iter__(self) -> Iterator[Leaf]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, which: int) -> Leaf: ...
    @overload
    def __getitem__(self, which: slice | Mask | NDArray[np.intp]) -> Leaves: ...
    def __getitem__(self, which: int | slice | Mask | NDArray[np.intp]) -> Leaf | Leaves:
        if isinstance(which, (int, np.integer)):
            return self._leaf(int(which))
        return replace(
            self, virt_addr=self.virt_addr[which], entry=self.entry[which], entry_phys=self.entry_phys[which],
            level=self.level[which], upper=self.upper[which],
        )  # fmt: skip

    def _leaf(self, i: int) -> Leaf:
        level = self.space.format.levels[int(self.level[i])]
        return Leaf(
            self.space, level, int(self.virt_addr[i]), int(self.entry[i]), int(self.entry_phys[i]),
            Rights(int(self.rights[i])),
        )  # fmt: skip

    @cached_property
    def present(self) -> Mask:
        """Whether the hardware takes each for present."""
        return PRESENT.holds(self.entry)

    @cached_property
    def size(self) -> Words:
        """Bytes that each maps."""
        return self._by_level([level.size for level in self.space.format.levels])

    @cached_property
    def phys_addr(self) -> Words:
        """First guest physical address of each page, as in Leaf.phys_addr."""
        entry = self.entry
        if self.space.linux.inverted and not self.present.all():
            entry = np.where(self.present, entry, ~entry)
        masks = [FULL & -level.size for level in self.space.format.levels]
        if len(self) and (self.level == self.level[0]).all():
            return number(self.space.format.address, entry) & np.uint64(masks[self.level[0]])
        return number(self.space.format.address, entry) & self._by_level(masks)

    @cached_property
    def pfn(self) -> Words:
        """First page frame of each; of no meaning where ``linux_present`` is false."""
        return self.phys_addr >> np.uint64(self.space.format.page_shift)

    @cached_property
    def rights(self) -> Bytes:
        """Effective rights, all levels counted: values of Rights."""
        rights = self.upper & allowed(self.space.format.leaf_rules, self.entry)
        for has, removes in self.space.format.final_rules:
            rights = np.where(rights & has, rights & ~np.uint8(removes), rights)
        return rights * self.present

    @cached_property
    def linux_present(self) -> Mask:
        """pte_present() of each: populated PROT_NONE entries count."""
        return self._any_of(self.space.linux.present)

    @cached_property
    def dirty(self) -> Mask:
        """pte_dirty() of each."""
        return self._any_of(self.space.linux.dirty) & self.linux_present

    def flag(self, name: str) -> Mask:
        """Return a hardware flag of each, by the name in the manual; raise KeyError when no level has it."""
        levels = self.space.format.levels
        known = [{flag.name: flag.when for flag in level.leaf_flags} for level in levels]
        if not any(name in flags for flags in known):
            raise KeyError(name)
        column = np.zeros(len(self), dtype=bool)
        for depth, flags in enumerate(known):
            if name in flags:
                column |= (self.level == depth) & flags[name].holds(self.entry)
        return column

    def linux(self, name: str) -> Mask:
        """Return one of Linux's terms of each, as in Meaning: ``writable``, ``special``, ``uffd_wp`` ..."""
        if name == "dirty":
            return self.dirty
        column: Mask = getattr(self.space.linux, name).holds(self.entry) & self.linux_present
        return column & ~self.space.linux.prot_none.holds(self.entry) if name == "executable" else column

    def inside(self, regions: Regions) -> Mask:
        """Return which map nothing but RAM."""
        column = np.zeros(len(self), dtype=bool)
        for region in regions:
            column |= (self.phys_addr >= region.start) & (self.phys_addr + (self.size - 1) < region.end)
        return column

    def between(self, start: int, end: int) -> Leaves:
        """Return those that map some of [start, end)."""
        return self[(self.virt_addr <= max(end - 1, 0)) & (self.virt_addr + (self.size - 1) >= start)]

    def _any_of(self, matches: tuple[Match, ...]) -> Mask:
        column = np.zeros(len(self), dtype=bool)
        for match in matches:
            column |= match.holds(self.entry)
        return column

    def _by_level(self, values: list[int]) -> Words:
        return np.array(values, dtype=np.uint64)[self.level]


def allowed(rules: tuple[Rule, ...], entries: Words) -> Bytes:
    """Return what the rules leave of all rights, for each entry.

    Works on the bytes of the entries that the rules look at: an eighth of the work of whole entries.
    """
    rights = np.full(len(entries), ALL_RIGHTS, dtype=np.uint8)
    planes = np.ascontiguousarray(entries).view(np.uint8).reshape(-1, 8)
    cut: dict[int, Bytes] = {}
    for rule in rules:
        holds = np.ones(len(entries), dtype=bool)
        for i in range(8):
            mask, value = rule.when.mask >> 8 * i & 0xFF, rule.when.value >> 8 * i & 0xFF
            if mask:
                if i not in cut:
                    cut[i] = np.ascontiguousarray(planes[:, i])
                holds &= (cut[i] & mask) == value
        rights &= ~(holds.view(np.uint8) * np.uint8(rule.removes))
    return rights
