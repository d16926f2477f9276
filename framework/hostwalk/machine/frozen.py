"""Machines that are held still for ever: their RAM in a file, the state of their devices in another.

A machine that goes on from there maps the RAM file copy-on-write, so that any number of them share what none of
them has changed, and the file keeps the frozen machine's bytes. The devices' state is QEMU's migration stream
without the RAM (QMP xen-save-devices-state, which has nothing of Xen but the name): a file of some 70 KiB.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from hostwalk.machine.machine import Machine
from hostwalk.memory import ProcessVm, Region, file_ranges

RAM_FILE, STATE_FILE = "ram", "devices"
BLOCK = mmap.PAGESIZE
PAGEMAP_ENTRY = 8
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61


@dataclass(frozen=True)
class Frozen:
    """The directory that :func:`freeze` has filled."""

    directory: Path

    def open_ram(self) -> int:
        """Return a descriptor of the RAM file; QEMU insists on one that could write."""
        return os.open(self.directory / RAM_FILE, os.O_RDWR | os.O_CLOEXEC)

    def open_state(self) -> int:
        """Return a descriptor of the devices' state."""
        return os.open(self.directory / STATE_FILE, os.O_RDONLY | os.O_CLOEXEC)


def freeze(machine: Machine, directory: Path) -> Frozen:
    """Write a machine that was booted here into a directory; it runs on afterwards.

    Raises QmpCommandError where this QEMU cannot, OSError.
    """
    with machine.stopped():
        state = {"filename": str(directory / STATE_FILE), "live": False}
        machine.qmp.execute("xen-save-devices-state", state)
        copy_sparsely(machine.ram_fd, machine.ram_size, directory / RAM_FILE)
    return Frozen(directory)


def copy_sparsely(source: int, size: int, target: Path) -> None:
    """Copy a file, leaving holes where it has holes or blocks of zeros."""
    with target.open("xb") as copy, mmap.mmap(source, size, mmap.MAP_SHARED, mmap.PROT_READ) as data:
        copy.truncate(size)
        for start, end in _extents(source):
            for first, last in _filled(data, start, end):
                os.pwrite(copy.fileno(), data[first:last], first)


def _extents(fd: int) -> Iterator[tuple[int, int]]:
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _filled(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of blocks that are not all zeros."""
    count = (end - start) // BLOCK
    words = np.frombuffer(data, dtype=np.uint64, count=count * BLOCK // 8, offset=start)
    used = words.reshape(count, -1).any(axis=1)
    del words
    edges = np.flatnonzero(np.diff(used, prepend=False, append=False))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        yield start + int(first) * BLOCK, start + int(last) * BLOCK


def rewind(machine: Machine, frozen: Frozen) -> int:
    """Take a fork back to where it began, in the same process; return how many blocks it had dirtied.

    Raises QmpCommandError, MemoryReadError.
    """
    ram, state = frozen.open_ram(), frozen.open_state()
    try:
        machine.qmp.execute("stop")
        dirty = _restore(machine, ram)
        machine.qmp.execute("xen-load-devices-state", {"filename": f"/proc/{os.getpid()}/fd/{state}"})
        machine.qmp.execute("cont")
    finally:
        os.close(ram)
        os.close(state)
    return dirty


def _restore(machine: Machine, ram: int) -> int:
    """Put the RAM file's bytes back into every page that QEMU has a copy of its own of."""
    size = machine.ram_size
    whole = file_ranges(machine.pid, ram, (Region(0, size),))
    pages = own_pages(machine.pid, whole[0].host, size)
    memory = ProcessVm(machine.pid, whole)
    for first, last in _runs(pages):
        memory.write(first * BLOCK, os.pread(ram, (last - first) * BLOCK, first * BLOCK))
    return len(pages)


def own_pages(pid: int, host: int, size: int) -> np.typing.NDArray[np.intp]:
    """Return the numbers of the pages of a private mapping that are copies (Linux, admin-guide/mm/pagemap.rst)."""
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(host // BLOCK * PAGEMAP_ENTRY)
        entries = np.frombuffer(pagemap.read(size // BLOCK * PAGEMAP_ENTRY), dtype=np.uint64)
    swapped = (entries & np.uint64(_SWAPPED)) != 0
    present = (entries & np.uint64(_PRESENT)) != 0
    return np.flatnonzero(swapped | (present & ((entries & np.uint64(_OF_FILE)) == 0)))


def _runs(pages: np.typing.NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Yield [first, last) of each run of consecutive numbers."""
    if len(pages):
        cuts = (np.flatnonzero(np.diff(pages) != 1) + 1).tolist()
        for first, last in pairwise([0, *cuts, len(pages)]):
            yield int(pages[first]), int(pages[last - 1]) + 1


def own_memory(pid: int) -> int:
    """Return the bytes that a process shares with no other."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if line.startswith("Private_"))
    return sum(int(words[1]) << 10 for words in lines)
