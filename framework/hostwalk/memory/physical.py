"""What every reader of guest physical memory offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hostwalk.memory.regions import Regions, covers

Words = NDArray[np.uint64]


class PhysicalMemory(Protocol):
    """Guest physical memory, little endian. Reads outside RAM raise MemoryReadError."""

    @property
    def name(self) -> str:
        """How it reads, in a word or two."""

    @property
    def regions(self) -> Regions:
        """Where the guest has RAM."""

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``."""

    def gather(self, addresses: Words, size: int) -> Words:
        """Return blocks of ``size`` bytes (a multiple of 8), one row of 64-bit words per address."""


class WritableMemory(PhysicalMemory, Protocol):
    """Memory that can be altered, to sabotage a claim."""

    def write(self, address: int, data: bytes) -> None:
        """Put ``data`` at guest physical ``address``."""


class Reader(ABC):
    """The part that readers share: the map of RAM, and ``gather`` by one read per contiguous run."""

    name = "reader"

    def __init__(self, regions: Regions) -> None:
        self._regions = regions

    @property
    def regions(self) -> Regions:
        """Where the guest has RAM."""
        return self._regions

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``."""

    def covers(self, address: int, size: int) -> bool:
        """Return whether all of [address, address + size) is RAM."""
        return covers(self._regions, address, size)

    def gather(self, addresses: Words, size: int) -> Words:
        """Return blocks of ``size`` bytes (a multiple of 8), one row of 64-bit words per address."""
        rows = np.empty((len(addresses), size // 8), dtype=np.uint64)
        for first, last in runs(addresses, size):
            data = self.read(int(addresses[first]), (last - first) * size)
            rows[first:last] = np.frombuffer(data, dtype="<u8").reshape(last - first, size // 8)
        return rows


def runs(addresses: Words, size: int) -> list[tuple[int, int]]:
    """Return the index ranges [first, last) in which each address is the one before plus ``size``."""
    if len(addresses) == 0:
        return []
    cuts = np.flatnonzero(np.diff(addresses) != np.uint64(size)) + 1
    borders = [0, *cuts.tolist(), len(addresses)]
    return list(pairwise(borders))


def u64(memory: PhysicalMemory, address: int) -> int:
    """Return the 64-bit word at guest physical ``address``."""
    return int.from_bytes(memory.read(address, 8), "little")
