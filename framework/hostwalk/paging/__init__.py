"""Page tables: formats as data, and pure functions over them. Bytes in, values out."""

from hostwalk.paging.columns import Finding, Leaves
from hostwalk.paging.format import Format, Kind, Level, Rights
from hostwalk.paging.leaf import Leaf
from hostwalk.paging.meaning import LinuxBits, Meaning, Swap
from hostwalk.paging.operations import Change, Diff, Run, addresses_of, diff, find, merge
from hostwalk.paging.plain import plain_leaf, plain_walk
from hostwalk.paging.registers import Registers, spaces, with_layout
from hostwalk.paging.scan import scan
from hostwalk.paging.space import AddressSpace, Spaces, with_root
from hostwalk.paging.walk import End, Step, Walk, walk

__all__ = [
    "AddressSpace",
    "Change",
    "Diff",
    "End",
    "Finding",
    "Format",
    "Kind",
    "Leaf",
    "Leaves",
    "Level",
    "LinuxBits",
    "Meaning",
    "Registers",
    "Rights",
    "Run",
    "Spaces",
    "Step",
    "Swap",
    "Walk",
    "addresses_of",
    "diff",
    "find",
    "merge",
    "plain_leaf",
    "plain_walk",
    "scan",
    "spaces",
    "walk",
    "with_layout",
    "with_root",
]
