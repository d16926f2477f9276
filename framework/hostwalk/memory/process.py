"""Guest RAM out of QEMU's own address space, with process_vm_readv(2)."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass

from hostwalk.errors import MemoryReadError
from hostwalk.memory.monitor import Monitor, hmp
from hostwalk.memory.physical import Reader
from hostwalk.memory.regions import Region, Regions, pieces

_libc = ctypes.CDLL(None, use_errno=True)
_HVA = re.compile(r"is (0x[0-9a-f]+)")


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


class ProcessVm(Reader):
    """Reads process ``pid``, a QEMU on this host whose memory we may read (same user, or ptrace rights)."""

    name = "process_vm_readv"

    def __init__(self, pid: int, ranges: tuple[HostRange, ...]) -> None:
        super().__init__(tuple(r.region for r in ranges))
        self._pid = pid
        self._host = {r.region: r.host for r in ranges}

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``."""
        buffer = bytearray(size)
        done = 0
        for region, at, take in pieces(self._regions, address, size):
            self._copy(self._host[region] + at - region.start, buffer, done, take)
            done += take
        return bytes(buffer)

    def _copy(self, host: int, buffer: bytearray, offset: int, size: int) -> None:
        target = (ctypes.c_char * size).from_buffer(buffer, offset)
        local, remote = _Iovec(ctypes.addressof(target), size), _Iovec(host, size)
        got = _libc.process_vm_readv(self._pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        if got != size:
            reason = os.strerror(ctypes.get_errno()) if got < 0 else f"{got} of {size} bytes"
            raise MemoryReadError(
                f"process_vm_readv of process {self._pid} at {host:#x} failed: {reason}",
                remedy="run as the user who runs QEMU, with ptrace of it allowed",
            )
