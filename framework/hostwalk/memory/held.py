"""Guest RAM while the machine is held still: what was read once need not be read again."""

from __future__ import annotations

import numpy as np

from hostwalk.memory.physical import Words, WritableMemory
from hostwalk.memory.regions import Regions, covers

BLOCK = 4096
LIKELY_BLOCKS = 512


class HeldMemory:
    """Another reader's memory, read block by block and remembered; valid until the guest runs on.

    Writes go through, and what they touch is read anew. ``gather`` asks the other reader each time. ``likely`` are
    the blocks that were read before now, and will be at other moments: all of them are read at once.
    """

    def __init__(self, memory: WritableMemory, likely: set[int] | None = None) -> None:
        self._memory = memory
        self._likely = likely if likely is not None else set()
        self.name = memory.name
        self.regions: Regions = memory.regions
        self._blocks = self._at_once()

    def _at_once(self) -> dict[int, bytes]:
        if len(self._likely) > LIKELY_BLOCKS:
            self._likely.clear()
        starts = tuple(self._likely)
        data = self._memory.gather(np.array(starts, dtype=np.uint64), BLOCK).tobytes() if starts else b""
        return {
            start: data[at : at + BLOCK] for start, at in zip(starts, range(0, len(data), BLOCK), strict=True)
        }

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``; raises MemoryReadError outside RAM."""
        start = address & -BLOCK
        if address + size > start + BLOCK:
            return self._memory.read(address, size)
        data = self._blocks.get(start)
        if data is None:
            if not covers(self.regions, start, BLOCK):
                return self._memory.read(address, size)
            data = self._blocks[start] = self._memory.read(start, BLOCK)
            self._likely.add(start)
        return data[address - start : address - start + size]

    def gather(self, addresses: Words, size: int) -> Words:
        """Return blocks of ``size`` bytes (a multiple of 8), one row of 64-bit words per address."""
        return self._memory.gather(addresses, size)

    def write(self, address: int, data: bytes) -> None:
        """Put ``data`` at guest physical ``address``."""
        self._memory.write(address, data)
        for start in range(address & -BLOCK, address + len(data), BLOCK):
            self._blocks.pop(start, None)
