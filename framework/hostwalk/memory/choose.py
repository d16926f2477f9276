"""Chooses the fastest way to read a machine's memory that really works: each is tried before it is trusted."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from hostwalk.errors import HostwalkError, MemoryReadError
from hostwalk.memory.monitor import Monitor, QmpReader, XpReader, hmp
from hostwalk.memory.physical import Reader
from hostwalk.memory.process import ProcessVm, host_ranges
from hostwalk.memory.regions import Regions, ram_map
from hostwalk.memory.shared import SharedMap

UCRED = struct.Struct("3i")
PROBES, PROBE_SIZE, TRIES = 3, 64, 3
Opener = Callable[[], AbstractContextManager[Reader]]


@dataclass(frozen=True)
class Chosen:
    """A reader, and in one line why it and not a faster one."""

    memory: Reader
    reason: str


@contextmanager
def open_memory(
    monitor: Monitor, *, pid: int | None = None, ram_fd: int | None = None, backend: str | None = None
) -> Iterator[Chosen]:
    """Open the memory of the machine behind a monitor, the fastest way that gives what the monitor itself shows.

    ``pid`` is QEMU's process when it runs on this host (see ``peer_pid``); ``ram_fd`` the file that backs its RAM,
    ``backend`` being the name of that. Raises MemoryReadError when no way works.
    """
    regions = ram_map(hmp(monitor, "info mtree -f"), backend)
    refused: list[str] = []
    for name, opener in _ways(monitor, regions, pid, ram_fd):
        with ExitStack() as stack:
            try:
                reader = stack.enter_context(opener())
                _probe(reader, XpReader(monitor, regions))
            except (HostwalkError, OSError) as error:
                refused.append(f"not {name}: {error.message if isinstance(error, HostwalkError) else error}")
                continue
            yield Chosen(reader, "; ".join([reader.name, *refused]))
            return
    raise MemoryReadError(f"no way to read this machine's memory works: {'; '.join(refused)}")


def _ways(
    monitor: Monitor, regions: Regions, pid: int | None, ram_fd: int | None
) -> Iterator[tuple[str, Opener]]:
    """Yield the ways there are, fastest first."""
    if ram_fd is not None:
        yield SharedMap.name, lambda: SharedMap(ram_fd, regions)
    if pid:
        yield ProcessVm.name, lambda: nullcontext(ProcessVm(pid, host_ranges(monitor, regions)))
    yield QmpReader.name, lambda: QmpReader(monitor, regions)
    yield XpReader.name, lambda: nullcontext(XpReader(monitor, regions))


def _probe(reader: Reader, reference: Reader) -> None:
    """Compare a few blocks of each region; raise MemoryReadError when they differ.

    A running guest may change one meanwhile, so a difference is looked at again.
    """
    for region in reader.regions:
        step = max(PROBE_SIZE, region.size // PROBES)
        for at in range(region.start, region.end - PROBE_SIZE + 1, step):
            if not any(reader.read(at, PROBE_SIZE) == reference.read(at, PROBE_SIZE) for _ in range(TRIES)):
                raise MemoryReadError(f"it shows other bytes at {at:#x} than the monitor does")


def peer_pid(connection: socket.socket) -> int | None:
    """Return the process at the other end of a Unix socket; None when it is not to be seen from here."""
    if connection.family != socket.AF_UNIX:
        return None
    pid, _, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return int(pid) or None
