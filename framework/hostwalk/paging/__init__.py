"""Page tables: formats as data, and pure functions over them. Bytes in, values out."""

from hostwalk.paging.columns import Finding, Leaves
from hostwalk.paging.format import Format, Kind, Level, Rights
from hostwalk.paging.leaf import Leaf
from hostwalk.paging.meaning import LinuxBits, Meaning, Swap
from hostwalk.paging.registers import Registers, spaces, with_layout
from hostwalk.paging.scan import scan
from hostwalk.paging.space import AddressSpace, Spaces, with_root
from hostwalk.paging.walk import End, Step, Walk, walk

__all__ = [
    "AddressSpace",
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
    "Spaces",
    "Step",
    "Swap",
    "Walk",
    "scan",
    "spaces",
    "walk",
    "with_layout",
    "with_root",
]
