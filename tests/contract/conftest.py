"""What some claims need besides a machine."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from hostwalk.cells import Cell
from hostwalk.claim import not_applicable
from hostwalk.guest import SyscallFailed
from hostwalk.kernels import modules
from hostwalk.target import Arch

DISK, DISK_KB = "/dev/ram0", 16 << 10
HEADER, MAGIC = 1024, b"SWAPSPACE2"  # union swap_header, include/linux/swap.h


@pytest.fixture
def disk(cell: Cell) -> Iterator[str]:
    """Give the guest a RAM disk; returns its path."""
    there = modules.files(cell.prepared.kernel.modules) if cell.prepared.kernel.modules else {}
    if "brd" not in there:
        not_applicable("the kernel has no RAM disk")
    with cell.agent.spawn() as root:
        name = root.load_module(modules.read(there["brd"]), f"rd_nr=1 rd_size={DISK_KB}")
        yield DISK
        if not cell.agent.broken:
            with suppress(SyscallFailed):
                root.unload_module(name)


@pytest.fixture
def swap(cell: Cell, disk: str) -> Iterator[None]:
    """Have the guest swap to a RAM disk."""
    with cell.agent.spawn() as root:
        fd = root.open(disk, "O_RDWR")
        header = bytearray(root.page_size)
        struct.pack_into("<III", header, HEADER, 1, (DISK_KB << 10) // root.page_size - 1, 0)
        header[-len(MAGIC) :] = MAGIC
        root.write(fd, bytes(header))
        root.close(fd)
        root.call("swapon", root.scratch, 0, payload=disk.encode() + b"\0")
        yield
        if not cell.agent.broken:
            with suppress(SyscallFailed):
                root.call("swapoff", root.scratch, payload=disk.encode() + b"\0")


@pytest.fixture
def young_is_cont(cell: Cell) -> bool:
    """Whether the young bit of a migration entry is the bit that arm64's set_ptes() clears as PTE_CONT, bit 52.

    SWP_MIG_YOUNG_BIT is PHYS_MASK_SHIFT - PAGE_SHIFT (include/linux/swapops.h), offsets begin at bit 12 of an entry.
    """
    target, layout = cell.prepared.target, cell.prepared.image.layout
    wide = target.arch is Arch.ARM64 and target.format.endswith("52bit") and cell.agent.page_size == 4096
    return wide and bool(layout["CONFIG_ARM64_CONTPTE"])
