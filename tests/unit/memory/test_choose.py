"""The fastest reader that works is taken, and the others are refused with a reason."""

import ctypes
import os
import re
import socket

import pytest

from hostwalk.errors import MemoryReadError
from hostwalk.memory import open_memory, peer_pid

SIZE = 0x4000
MTREE = """FlatView #0
 AS "memory", root: system
 Root memory region: system
  0000000040000000-0000000040003fff (prio 0, ram): ram0

"""


class Monitor:
    """QEMU with one region of RAM; what it cannot do is in ``broken``."""

    def __init__(self, *broken):
        self.data = bytes(i * 7 % 251 for i in range(SIZE))
        self.buffer = ctypes.create_string_buffer(self.data, SIZE)
        self.broken = broken

    def execute(self, command, arguments=None, /):
        if command == "pmemsave":
            return self.save(arguments["val"] - 0x4000_0000, arguments["size"], arguments["filename"])
        line = arguments["command-line"]
        if line.split()[0] in self.broken:
            return "unknown command"
        if line == "info mtree -f":
            return MTREE
        if line.startswith("gpa2hva"):
            return f"Host virtual address for 0x40000000 (ram0) is {ctypes.addressof(self.buffer):#x}"
        count, address = (int(part, 0) for part in re.fullmatch(r"xp /(\d+)xg (\S+)", line).groups())
        at = address - 0x4000_0000
        words = [int.from_bytes(self.data[at + 8 * i : at + 8 * i + 8], "little") for i in range(count)]
        return f"{address:x}: {' '.join(map(hex, words))}"

    def save(self, at, size, name):
        if "pmemsave" not in self.broken:
            with open(name, "wb") as stream:  # noqa: PTH123
                stream.write(self.data[at : at + size])


@pytest.fixture
def ram():
    fd = os.memfd_create("ram")
    os.write(fd, Monitor().data)
    yield fd
    os.close(fd)


def chosen(monitor, **ways):
    with open_memory(monitor, **ways) as found:
        assert found.memory.read(0x4000_1000, 96) == monitor.data[0x1000:0x1060]
        return found.memory.name, found.reason


def test_the_shared_map_comes_first(ram):
    assert chosen(Monitor(), ram_fd=ram, pid=os.getpid()) == ("shared map", "shared map")


def test_without_a_file_the_process_is_read():
    assert chosen(Monitor(), pid=os.getpid())[0] == "process_vm_readv"


def test_a_file_with_other_bytes_is_not_trusted():
    fd = os.memfd_create("private copy")
    os.ftruncate(fd, SIZE)
    name, reason = chosen(Monitor(), ram_fd=fd, pid=os.getpid())
    os.close(fd)
    assert name == "process_vm_readv"
    assert (
        reason == "process_vm_readv; not shared map: it shows other bytes at 0x40000000 than the monitor does"
    )


def test_a_monitor_is_enough():
    assert chosen(Monitor())[0] == "pmemsave"
    assert chosen(Monitor("gpa2hva", "pmemsave"), pid=os.getpid())[0] == "xp"


def test_nothing_works():
    with (
        pytest.raises(MemoryReadError, match=r"not pmemsave: .*; not xp: "),
        open_memory(Monitor("xp", "pmemsave")),
    ):
        pass


def test_the_peer_of_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_pid(ours) == os.getpid()
    with socket.socket(socket.AF_INET) as other:
        assert peer_pid(other) is None
