"""Guest RAM while the machine is held still: what was read once need not be read again."""

from __future__ import annotations

from hostwalk.memory.physical import Words, WritableMemory
from hostwalk.memory.regions import Regions, covers

BLOCK = 4096


class HeldMemory:
    """Another reader's memory, read block by block and remembered; valid until the guest runs on.

    Writes go through, and what they touch is read anew. ``gather`` asks the other reader each time.
    """

    def __init__(self, memory: WritableMemory) -> None:
        self._memory = memory
        self._blocks: dict[int, bytes] = {}
        self.name = memory.name
        self.regions: Regions = memory.regions

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
        return data[address - start : address - start + size]

    def gather(self, addresses: Words, size: int) -> Words:
        """Return blocks of ``size`` bytes (a multiple of 8), one row of 64-bit words per address."""
        return self._memory.gather(addresses, size)

    def write(self, address: int, data: bytes) -> None:
        """Put ``data`` at guest physical ``address``."""
        self._memory.write(address, data)
        for start in range(address & -BLOCK, address + len(data), BLOCK):
            self._blocks.pop(start, None)
