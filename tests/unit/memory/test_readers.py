"""Every reader gives the same bytes of the same memory."""

import ctypes
import os
import re
from contextlib import ExitStack

import numpy as np
import pytest

from hostwalk.errors import MemoryReadError
from hostwalk.memory import FakeMemory, ProcessVm, QmpReader, Region, SharedMap, XpReader, host_ranges

LOW, HIGH = Region(0x0, 0x8000, 0), Region(0x10_0000, 0x8000, 0x8000)
REGIONS = (LOW, HIGH)
SIZE = 0x10000


class Monitor:
    """Answers as QEMU does, out of a mapping of ours."""

    def __init__(self, data):
        self.data = data
        self.buffer = ctypes.create_string_buffer(data, len(data))

    def offset(self, address):
        region = next(region for region in REGIONS if address in region)
        return region.offset + address - region.start

    def execute(self, command, arguments=None, /):
        if command == "pmemsave":
            at = self.offset(arguments["val"])
            with open(arguments["filename"], "wb") as stream:  # noqa: PTH123
                stream.write(self.data[at : at + arguments["size"]])
            return {}
        return self.human(arguments["command-line"])

    def human(self, line):
        if match := re.fullmatch(r"xp /(\d+)x([bg]) (0x[0-9a-f]+)", line):
            return self.xp(int(match[1]), {"b": 1, "g": 8}[match[2]], int(match[3], 16))
        address = int(line.split()[1], 16)
        host = ctypes.addressof(self.buffer) + self.offset(address)
        return f"Host virtual address for {address:#x} (ram0) is {host:#x}"

    def xp(self, count, width, address):
        at = self.offset(address)
        words = [self.data[at + i * width : at + (i + 1) * width] for i in range(count)]
        shown = [f"0x{int.from_bytes(word, 'little'):0{2 * width}x}" for word in words]
        return "\r\n".join(
            f"{address + i * width:016x}: {' '.join(shown[i : i + 2])}" for i in range(0, count, 2)
        )


@pytest.fixture
def readers():
    data = np.random.default_rng(1).integers(0, 256, SIZE, dtype=np.uint8).tobytes()
    fd = os.memfd_create("test")
    os.write(fd, data)
    fake, monitor = FakeMemory(REGIONS), Monitor(data)
    for region in REGIONS:
        fake.write(region.start, data[region.offset : region.offset + region.size])
    with ExitStack() as stack:
        stack.callback(os.close, fd)
        shared = stack.enter_context(SharedMap(fd, REGIONS))
        saved = stack.enter_context(QmpReader(monitor, REGIONS))
        process = ProcessVm(os.getpid(), host_ranges(monitor, REGIONS))
        yield fake, shared, saved, XpReader(monitor, REGIONS), process


@pytest.mark.parametrize(
    ("address", "size"), [(0, 8), (0x7FF8, 8), (0x10_0000, 4096), (0x123, 77), (5, 1), (9, 0)]
)
def test_identical_bytes(readers, address, size):
    first, *others = (reader.read(address, size) for reader in readers)
    assert len(first) == size
    assert all(other == first for other in others)


@pytest.mark.parametrize("size", [8, 64, 4096])
def test_gather_is_read_row_by_row(readers, size):
    addresses = np.array([0x10_4000, 0x1000, 0x2000, 0x1000, 0x10_0000], dtype=np.uint64)
    expected = b"".join(readers[0].read(int(address), size) for address in addresses)
    for reader in readers:
        assert reader.gather(addresses, size).tobytes() == expected, reader.name
        assert reader.gather(addresses[:0], size).shape == (0, size // 8)


def test_gather_of_unaligned_blocks(readers):
    addresses = np.array([0x1004, 0x2002], dtype=np.uint64)
    expected = readers[0].read(0x1004, 16) + readers[0].read(0x2002, 16)
    assert all(reader.gather(addresses, 16).tobytes() == expected for reader in readers)


@pytest.mark.parametrize(("address", "size"), [(0x8000, 1), (0x7FFF, 2), (0x10_8000, 8), (1 << 60, 8)])
def test_outside_ram(readers, address, size):
    for reader in readers:
        with pytest.raises(MemoryReadError, match="is outside RAM"):
            reader.read(address, size)
    for reader in readers:
        with pytest.raises(MemoryReadError, match="is outside RAM"):
            reader.gather(np.array([address], dtype=np.uint64), 8)


def test_the_shared_map_writes(readers):
    fake, shared, *_ = readers
    for reader in (fake, shared):
        reader.write(0x7FFE, b"ab")
        assert reader.read(0x7FFD, 3)[1:] == b"ab"
        with pytest.raises(MemoryReadError):
            reader.write(0x7FFF, b"abc")


def test_a_file_that_is_too_small():
    fd = os.memfd_create("small")
    os.ftruncate(fd, 0x1000)
    with pytest.raises(MemoryReadError, match="the RAM map needs 65536"):
        SharedMap(fd, REGIONS)
    os.close(fd)


def test_a_closed_map_says_so(readers):
    shared = readers[1]
    shared.close()
    with pytest.raises(MemoryReadError, match="closed"):
        shared.read(0, 8)


def test_a_process_that_has_gone(readers):
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    reader = ProcessVm(gone, host_ranges(Monitor(bytes(SIZE)), REGIONS))
    with pytest.raises(MemoryReadError, match="process_vm_readv"):
        reader.read(0, 8)


def test_answers_that_make_no_sense():
    class Confused:
        def execute(self, command, arguments=None, /):
            return "" if command == "human-monitor-command" else {}

    with pytest.raises(MemoryReadError, match="xp gave 0 of 1"):
        XpReader(Confused(), REGIONS).read(0, 8)
    with pytest.raises(MemoryReadError, match="gpa2hva"):
        host_ranges(Confused(), REGIONS)
    with (
        QmpReader(Confused(), REGIONS) as reader,
        pytest.raises(MemoryReadError, match="pmemsave gave 0 of 8"),
    ):
        reader.read(0, 8)


def test_fake_memory_counts():
    memory = FakeMemory(REGIONS)
    memory.write_u64(0x10, 5)
    assert int.from_bytes(memory.read(0x10, 8), "little") == 5
    assert (memory.reads, memory.bytes_read) == (1, 8)
