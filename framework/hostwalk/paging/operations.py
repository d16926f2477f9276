"""What can be asked of scans: runs of like mappings, who maps a page, what changed between two moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hostwalk.paging.columns import Leaves
from hostwalk.paging.format import Mask, Words
from hostwalk.paging.leaf import Leaf, size_text


@dataclass(frozen=True)
class Run:
    """``count`` neighbouring leaves, alike but for where they point: ``size`` bytes from ``first`` on.

    ``contiguous``: their pages are neighbours in physical memory too.
    """

    first: Leaf
    count: int
    contiguous: bool = True

    @property
    def virt_addr(self) -> int:
        """Where it begins."""
        return self.first.virt_addr

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.first.size

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.virt_addr + self.size

    def __str__(self) -> str:
        first = self.first
        where = f"{self.virt_addr:#018x}-{self.end:#018x} {size_text(self.size):>6} {first.level:<4}"
        target = f" -> {first.phys_addr:#x}" if first.linux.present else ""
        return f"{where}{target} [{' '.join(first.flags)}] {first.describe()}"


def merge(leaves: Leaves, *, ignore: tuple[str, ...] = (), contiguous: bool = True) -> tuple[Run, ...]:
    """Return the runs of like mappings: neighbours, of one size, with the same flags and rights.

    ``ignore`` names hardware flags that may differ (``("A", "D")``). With ``contiguous`` a run's pages are
    neighbours in physical memory too. Swap entries and their like never merge.
    """
    if not len(leaves):
        return ()
    jumps = _jumps(leaves)
    breaks = _breaks(leaves, ignore)
    starts = np.flatnonzero(breaks | jumps if contiguous else breaks)
    inside = jumps & ~breaks & (not contiguous)
    scattered = np.add.reduceat(inside, starts, dtype=np.intp) > 0
    ends = pairwise([*starts.tolist(), len(leaves)])
    return tuple(
        Run(leaves[first], last - first, not apart)
        for (first, last), apart in zip(ends, scattered.tolist(), strict=True)
    )


def _jumps(leaves: Leaves) -> Mask:
    """Return which leaves' pages do not follow on the one before in physical memory."""
    jumps = np.ones(len(leaves), dtype=bool)
    jumps[1:] = leaves.phys_addr[1:] != leaves.phys_addr[:-1] + leaves.size[:-1]
    return jumps


def _breaks(leaves: Leaves, ignore: tuple[str, ...]) -> Mask:
    """Return which leaves begin a run, wherever their pages lie."""
    attributes = leaves.entry & ~_unlike(leaves, ignore)
    broken = np.ones(len(leaves), dtype=bool)
    broken[1:] = leaves.virt_addr[1:] != leaves.virt_addr[:-1] + leaves.size[:-1]
    for column in (attributes, leaves.level, leaves.upper):
        broken[1:] |= column[1:] != column[:-1]
    broken |= ~leaves.linux_present
    broken[1:] |= ~leaves.linux_present[:-1]
    return broken


def _unlike(leaves: Leaves, ignore: tuple[str, ...]) -> Words:
    """Return the bits of each entry in which the entries of a run may differ: the address and ``ignore``."""
    masks = []
    for level in leaves.space.format.levels:
        fields = leaves.space.format.address
        address = sum(f.mask & -level.size if f.to == f.low else f.mask for f in fields)
        masks.append(address | sum(flag.when.mask for flag in level.leaf_flags if flag.name in ignore))
    return np.array(masks, dtype=np.uint64)[leaves.level]


def find(leaves: Leaves, phys_addr: int, size: int = 1) -> Leaves:
    """Return the leaves that map some of the physical range: the reverse map."""
    first, last = leaves.phys_addr, leaves.phys_addr + (leaves.size - 1)
    return leaves[leaves.linux_present & (first <= phys_addr + size - 1) & (last >= phys_addr)]


def addresses_of(leaves: Leaves, phys_addr: int) -> list[int]:
    """Return the virtual addresses at which a physical address is mapped."""
    found = find(leaves, phys_addr)
    return [leaf.virt_addr + phys_addr - leaf.phys_addr for leaf in found]


@dataclass(frozen=True)
class Change:
    """One entry before and after."""

    before: Leaf
    after: Leaf

    @property
    def bits(self) -> int:
        """The bits that differ."""
        return self.before.entry ^ self.after.entry

    @property
    def moved(self) -> bool:
        """Whether it points elsewhere."""
        return self.before.phys_addr != self.after.phys_addr

    @property
    def words(self) -> tuple[str, ...]:
        """What it lost and got, flags of the hardware and Linux's terms: ``-RW``, ``+dirty``."""
        gone, come = _difference(self.before, self.after), _difference(self.after, self.before)
        return (*(f"-{name}" for name in gone), *(f"+{name}" for name in come))

    def __str__(self) -> str:
        target = f" {self.before.phys_addr:#x} -> {self.after.phys_addr:#x}" if self.moved else ""
        return f"~ {self.after.virt_addr:#018x} {self.after.level}{target} {' '.join(self.words)}".rstrip()


def _difference(one: Leaf, other: Leaf) -> list[str]:
    hardware = [flag for flag in one.flags if flag not in other.flags]
    return hardware + sorted(one.linux.names - other.linux.names)


@dataclass(frozen=True)
class Diff:
    """What happened between two scans of one space."""

    appeared: Leaves
    vanished: Leaves
    changed: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(len(self.appeared) or len(self.vanished) or self.changed)

    def lines(self) -> Iterator[str]:
        """Yield a line for each leaf concerned."""
        yield from (f"+ {leaf}" for leaf in self.appeared)
        yield from (f"- {leaf}" for leaf in self.vanished)
        yield from map(str, self.changed)

    def __str__(self) -> str:
        return "\n".join(self.lines()) or "no change"


def diff(before: Leaves, after: Leaves) -> Diff:
    """Return what appeared, vanished and changed.

    A large page that was split vanishes, and small ones appear.
    """
    old, new = _keys(before), _keys(after)
    _, in_old, in_new = np.intersect1d(old, new, assume_unique=True, return_indices=True)
    differ = np.flatnonzero(before.entry[in_old] != after.entry[in_new])
    changed = tuple(Change(before[int(in_old[i])], after[int(in_new[i])]) for i in differ)
    return Diff(after[~np.isin(new, old)], before[~np.isin(old, new)], changed)


def _keys(leaves: Leaves) -> Words:
    """Return a number per leaf for its place: addresses are multiples of a page, so the level fits below."""
    return leaves.virt_addr | leaves.level.astype(np.uint64)
