"""Guest RAM out of QEMU's own address space, with process_vm_readv(2) and process_vm_writev(2)."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hostwalk.errors import MemoryReadError
from hostwalk.memory.monitor import Monitor, hmp
from hostwalk.memory.physical import Reader, Words
from hostwalk.memory.regions import Region, Regions, pieces

IOV_MAX = 1024
_libc = ctypes.CDLL(None, use_errno=True)
_HVA = re.compile(r"is (0x[0-9a-f]+)")
_MAPPING = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) \S+ (?P<offset>[0-9a-f]+) (?P<device>\S+) (?P<inode>\d+)"
)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


@dataclass(frozen=True)
class HostRange:
    """A region of guest RAM and where QEMU has mapped its first byte."""

    region: Region
    host: int


def host_ranges(monitor: Monitor, regions: Regions) -> tuple[HostRange, ...]:
    """Ask QEMU (HMP ``gpa2hva``) where it has mapped each region.

    Raises MemoryReadError when it will not say.
    """
    return tuple(HostRange(region, _host_address(monitor, region)) for region in regions)


def _host_address(monitor: Monitor, region: Region) -> int:
    text = hmp(monitor, f"gpa2hva {region.start:#x}")
    match = _HVA.search(text)
    if match is None:
        raise MemoryReadError(f"gpa2hva {region.start:#x} says {text.strip()!r}")
    return int(match[1], 16)


def file_ranges(pid: int, fd: int, regions: Regions) -> tuple[HostRange, ...]:
    """Look up where a process has mapped the file that backs its RAM, without asking its monitor.

    Needs each region's ``offset`` in that file. Raises MemoryReadError when it has not mapped all of it.
    """
    inode = os.fstat(fd).st_ino
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MemoryReadError(f"the mappings of process {pid} cannot be read: {error.strerror}") from error
    mappings = tuple(_mappings(text, inode))
    return tuple(HostRange(region, _place(mappings, region, pid)) for region in regions)


def _mappings(text: str, inode: int) -> Iterator[tuple[int, int, int]]:
    """Yield (file offset, size, host address) of the mappings of a file in /proc/PID/maps."""
    for match in map(_MAPPING.match, text.splitlines()):
        if match and int(match["inode"]) == inode:
            start, end = int(match["start"], 16), int(match["end"], 16)
            yield int(match["offset"], 16), end - start, start


def _place(mappings: tuple[tuple[int, int, int], ...], region: Region, pid: int) -> int:
    for offset, size, host in mappings:
        if offset <= region.offset and region.offset + region.size <= offset + size:
            return host + region.offset - offset
    raise MemoryReadError(f"process {pid} has not mapped {region} of its RAM file")


class ProcessVm(Reader):
    """Reads and writes process ``pid``, a QEMU on this host (same user and ptrace rights).

    A write is not seen by QEMU: code that it has translated stays as it was.
    """

    name = "process_vm_readv"

    def __init__(self, pid: int, ranges: tuple[HostRange, ...]) -> None:
        super().__init__(tuple(r.region for r in ranges))
        self._pid = pid
        self._host = {r.region: r.host for r in ranges}

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``."""
        buffer = bytearray(size)
        self._transfer(_libc.process_vm_readv, address, buffer)
        return bytes(buffer)

    def write(self, address: int, data: bytes) -> None:
        """Put ``data`` at guest physical ``address``."""
        self._transfer(_libc.process_vm_writev, address, bytearray(data))

    def write_from(self, source: mmap.mmap, spans: Sequence[tuple[int, int]]) -> None:
        """Copy [first, last) of a mapping to the same places of the one region that there is, many at a call."""
        ((_, host),) = self._host.items()
        view = np.frombuffer(source, dtype=np.uint8)
        base = view.ctypes.data
        for at in range(0, len(spans), IOV_MAX):
            part = np.array(spans[at : at + IOV_MAX], dtype=np.uint64)
            sizes = part[:, 1] - part[:, 0]
            local = np.column_stack((part[:, 0] + np.uint64(base), sizes))
            remote = np.column_stack((part[:, 0] + np.uint64(host), sizes))
            vectors = [each.ctypes.data_as(ctypes.POINTER(_Iovec)) for each in (local, remote)]
            got = _libc.process_vm_writev(self._pid, vectors[0], len(part), vectors[1], len(part), 0)
            self._check("process_vm_writev", got, int(sizes.sum()), host)

    def gather(self, addresses: Words, size: int) -> Words:
        """Return blocks of ``size`` bytes (a multiple of 8), one row of 64-bit words per address."""
        hosts = self._hosts(addresses, size)
        if hosts is None:
            return super().gather(addresses, size)
        rows = np.empty((len(addresses), size // 8), dtype=np.uint64)
        for first in range(0, len(hosts), IOV_MAX):
            part = hosts[first : first + IOV_MAX]
            remote = np.empty((len(part), 2), dtype=np.uint64)
            remote[:, 0], remote[:, 1] = part, size
            local = _Iovec(rows[first:].ctypes.data, len(part) * size)
            vector = remote.ctypes.data_as(ctypes.POINTER(_Iovec))
            got = _libc.process_vm_readv(self._pid, ctypes.byref(local), 1, vector, len(part), 0)
            self._check("process_vm_readv", got, len(part) * size, int(part[0]))
        return rows

    def _hosts(self, addresses: Words, size: int) -> Words | None:
        """Return host addresses, or None where a block is not within one region."""
        hosts = np.zeros_like(addresses)
        known = np.zeros(len(addresses), dtype=bool)
        for region, host in self._host.items():
            last = max(region.end - size, 0)
            inside = (addresses >= np.uint64(region.start)) & (addresses <= np.uint64(last))
            hosts[inside] = addresses[inside] - np.uint64(region.start) + np.uint64(host)
            known |= inside
        return hosts if known.all() else None

    def _transfer(self, call: Callable[..., int], address: int, buffer: bytearray) -> None:
        done = 0
        for region, at, take in pieces(self._regions, address, len(buffer)):
            host = self._host[region] + at - region.start
            place = (ctypes.c_char * take).from_buffer(buffer, done)
            local, remote = _Iovec(ctypes.addressof(place), take), _Iovec(host, take)
            got = call(self._pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
            self._check(getattr(call, "__name__", "process_vm"), got, take, host)
            done += take

    def _check(self, call: str, got: int, size: int, host: int) -> None:
        if got == size:
            return
        reason = os.strerror(ctypes.get_errno()) if got < 0 else f"{got} of {size} bytes"
        raise MemoryReadError(
            f"{call} of process {self._pid} at {host:#x} failed: {reason}",
            remedy="run as the user who runs QEMU, with ptrace of it allowed",
        )
