"""Memory for tests: sparse, and it counts what is read."""

from __future__ import annotations

from collections.abc import Iterator

from hostwalk.memory.physical import Reader
from hostwalk.memory.regions import Region, Regions, pieces

PAGE = 4096
EVERYWHERE = (Region(0, 1 << 52),)


class FakeMemory(Reader):
    """Sparse memory of zeros over the given regions; ``reads`` and ``bytes_read`` count the reads."""

    name = "fake"

    def __init__(self, regions: Regions = EVERYWHERE) -> None:
        super().__init__(regions)
        self._pages: dict[int, bytearray] = {}
        self.reads = 0
        self.bytes_read = 0

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``."""
        self.reads += 1
        self.bytes_read += size
        parts = []
        for _, start, length in pieces(self._regions, address, size):
            for page, at, take in _spans(start, length):
                parts.append(bytes(self._pages[page][at : at + take]) if page in self._pages else bytes(take))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Put ``data`` at guest physical ``address``."""
        done = 0
        for _, start, length in pieces(self._regions, address, len(data)):
            for page, at, take in _spans(start, length):
                self._pages.setdefault(page, bytearray(PAGE))[at : at + take] = data[done : done + take]
                done += take

    def write_u64(self, address: int, value: int) -> None:
        """Put a 64-bit word at guest physical ``address``."""
        self.write(address, value.to_bytes(8, "little"))


def _spans(address: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (page number, offset in it, size) for a range."""
    while size > 0:
        at = address % PAGE
        take = min(size, PAGE - at)
        yield address // PAGE, at, take
        address, size = address + take, size - take
