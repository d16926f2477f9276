"""The maple tree, read only: lib/maple_tree.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostwalk.errors import WalkError

if TYPE_CHECKING:
    from hostwalk.linux.kernel import Linux

FULL = (1 << 64) - 1


@dataclass(frozen=True)
class Entry:
    """A value that stands for the indices first to last, both included."""

    first: int
    last: int
    value: int


@dataclass(frozen=True)
class Shape:
    """Where a type of node keeps its pivots (the last index of each slot) and slots, in bytes."""

    pivots: int
    slots: int
    count: int


def entries(linux: Linux, tree: int) -> Iterator[Entry]:
    """Yield the entries of the ``struct maple_tree`` at ``tree`` in order, empty ranges left out.

    Raises WalkError for a node of an unknown type, or for one below itself.
    """
    root = linux.member(tree, "struct maple_tree", "ma_root")
    if _is_node(linux, root):
        yield from _node(linux, root, 0, FULL, 0)
    elif root:
        yield Entry(0, 0, root)


def _node(linux: Linux, encoded: int, first: int, last: int, depth: int) -> Iterator[Entry]:
    layout = linux.layout
    if depth > layout["MAPLE_HEIGHT_MAX"]:
        raise WalkError(f"a maple tree is deeper than {depth - 1}")
    kind = encoded >> layout["MAPLE_NODE_TYPE_SHIFT"] & layout["MAPLE_NODE_TYPE_MASK"]
    shape = _shape(linux, kind)
    data = linux.read_virt(encoded & ~layout["MAPLE_NODE_MASK"], layout.sizeof("struct maple_node"))
    for slot, low, high in _slots(data, shape, first, last):
        if kind != layout["maple_leaf_64"]:
            yield from _node(linux, slot, low, high, depth + 1)
        elif slot > layout["MAPLE_RESERVED_RANGE"]:
            yield Entry(low, high, slot)


def _slots(data: bytes, shape: Shape, first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Yield (slot, first, last) of the slots in use; a pivot of 0 after the first slot is the end."""
    for i in range(shape.count):
        pivot = _word(data, shape.pivots + 8 * i) if i < shape.count - 1 else last
        high = last if pivot == 0 and i > 0 else pivot
        slot = _word(data, shape.slots + 8 * i)
        if slot:
            yield slot, first, high
        if high >= last:
            return
        first = high + 1


def _shape(linux: Linux, kind: int) -> Shape:
    layout = linux.layout
    if kind in (layout["maple_leaf_64"], layout["maple_range_64"]):
        name, count = "struct maple_range_64", layout["MAPLE_RANGE64_SLOTS"]
    elif kind == layout["maple_arange_64"]:
        name, count = "struct maple_arange_64", layout["MAPLE_ARANGE64_SLOTS"]
    else:
        raise WalkError(f"a maple tree has a node of type {kind}")
    return Shape(layout.offsetof(name, "pivot"), layout.offsetof(name, "slot"), count)


def _is_node(linux: Linux, root: int) -> bool:
    return root & 3 == 2 and root > linux.layout["MAPLE_RESERVED_RANGE"]


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")
