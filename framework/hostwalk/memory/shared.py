"""Guest RAM through a shared mapping of its backing file: the fastest way."""

from __future__ import annotations

import mmap
import os
from types import TracebackType
from typing import Self

import numpy as np

from hostwalk.errors import MemoryReadError
from hostwalk.memory.physical import Reader, Words
from hostwalk.memory.regions import Regions, pieces


class SharedMap(Reader):
    """A shared mapping of the file that backs guest RAM (memory-backend-memfd or -file with share=on).

    Needs each region's ``offset`` in that file. Owns its mapping, not ``fd``; use it as a context manager.
    Raises MemoryReadError when the file is too small for the regions or cannot be mapped.
    """

    name = "shared map"

    def __init__(self, fd: int, regions: Regions) -> None:
        super().__init__(regions)
        size = os.fstat(fd).st_size
        needed = max((region.offset + region.size for region in regions), default=0)
        if needed == 0 or needed > size:
            raise MemoryReadError(f"the RAM file has {size} bytes, the RAM map needs {needed}")
        try:
            self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            raise MemoryReadError(f"the RAM file cannot be mapped: {error}") from error
        self._words: Words | None = np.frombuffer(self._map, dtype="<u8", count=size // 8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the mapping; reads raise MemoryReadError from then on."""
        self._words = None
        self._map.close()

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``."""
        self._open()
        parts = [
            self._slice(region.offset + at - region.start, take)
            for region, at, take in pieces(self._regions, address, size)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Put ``data`` at guest physical ``address``."""
        self._open()
        done = 0
        for region, at, take in pieces(self._regions, address, len(data)):
            offset = region.offset + at - region.start
            self._map[offset : offset + take] = data[done : done + take]
            done += take

    def gather(self, addresses: Words, size: int) -> Words:
        """Return blocks of ``size`` bytes (a multiple of 8), one row of 64-bit words per address."""
        words = self._open()
        offsets, plain = self._offsets(addresses, size)
        if not plain:
            return super().gather(addresses, size)
        blocks = words[: len(words) - len(words) % (size // 8)].reshape(-1, size // 8)
        return blocks[(offsets // np.uint64(size)).astype(np.intp)]

    def _offsets(self, addresses: Words, size: int) -> tuple[Words, bool]:
        """Return file offsets, and whether each block is aligned in the file and within one region."""
        offsets = np.zeros_like(addresses)
        known = np.zeros(len(addresses), dtype=bool)
        for region in self._regions:
            inside = (addresses >= np.uint64(region.start)) & (
                addresses <= np.uint64(max(region.end - size, 0))
            )
            offsets[inside] = addresses[inside] - np.uint64(region.start) + np.uint64(region.offset)
            known |= inside
        return offsets, bool(known.all() and not (offsets % np.uint64(size)).any())

    def _slice(self, offset: int, size: int) -> bytes:
        return self._map[offset : offset + size]

    def _open(self) -> Words:
        if self._words is None:
            raise MemoryReadError("the shared map has been closed")
        return self._words
