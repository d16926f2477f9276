"""Memory that is read once while the machine is held still."""

import numpy as np
import pytest

from hostwalk.errors import MemoryReadError
from hostwalk.memory import FakeMemory, HeldMemory, Region

SIZE = 1 << 22


class Counting:
    """Counts how often another memory is asked."""

    name = "counting"

    def __init__(self):
        self._memory = FakeMemory((Region(0, SIZE),))
        self.regions, self.write = self._memory.regions, self._memory.write
        self.reads = self.gathers = 0

    def read(self, address, size):
        self.reads += 1
        return self._memory.read(address, size)

    def gather(self, addresses, size):
        self.gathers += 1
        return self._memory.gather(addresses, size)


@pytest.fixture
def memory():
    made = Counting()
    for place in range(0, SIZE, 4096):
        made.write(place, place.to_bytes(4, "little") * 2)
    return made


def test_a_block_is_read_once(memory):
    held = HeldMemory(memory)
    assert [held.read(0x5000 + at, 4)[1] for at in (0, 4)] == [0x50, 0x50]
    assert memory.reads == 1


def test_what_one_moment_has_read_the_next_reads_at_once(memory):
    likely: set[int] = set()
    first = HeldMemory(memory, likely)
    for place in (0x5000, 0x9000, 0x2000):
        first.read(place, 8)
    memory.write(0x9000, b"changed!")
    memory.reads = 0
    second = HeldMemory(memory, likely)
    assert [second.read(place, 8) for place in (0x5000, 0x9000)] == [b"\0\x50\0\0\0\x50\0\0", b"changed!"]
    assert (memory.reads, memory.gathers) == (0, 1)


def test_what_is_likely_stays_few(memory):
    likely = set(range(0, SIZE, 4096))
    HeldMemory(memory, likely)
    assert not likely


def test_a_write_is_read_back(memory):
    likely = {0x3000}
    held = HeldMemory(memory, likely)
    held.write(0x3002, b"ab")
    assert held.read(0x3000, 5) == b"\0\x30ab\0"


def test_outside_ram_is_an_error_and_not_likely(memory):
    likely: set[int] = set()
    with pytest.raises(MemoryReadError):
        HeldMemory(memory, likely).read(SIZE, 8)
    assert not likely
    assert np.array_equal(HeldMemory(memory, likely).gather(np.array([0], dtype=np.uint64), 8), [[0]])
