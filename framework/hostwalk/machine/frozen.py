"""Machines that are held still for ever: their RAM in a file, the state of their devices in another.

A machine that goes on from there maps the RAM file copy-on-write, so that any number of them share what none of
them has changed, and the file keeps the frozen machine's bytes. The devices' state is QEMU's migration stream
without the RAM (QMP xen-save-devices-state, which has nothing of Xen but the name): a file of some 70 KiB.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from hostwalk.deadline import Deadline
from hostwalk.errors import GuestHungError
from hostwalk.machine.machine import Machine
from hostwalk.machine.qmp import Qmp, QmpCommandError
from hostwalk.machine.vmstate import at_rest

RAM_FILE, STATE_FILE, RESET_FILE = "ram", "devices", "reset.qcow2"
SNAPSHOT = "ready"
JOB_SECONDS = 10.0
RESTS, REST_SECONDS = 20, 0.02
BLOCK = mmap.PAGESIZE
WITHOUT_RAM = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}


@dataclass(frozen=True)
class Frozen:
    """The directory that :func:`freeze` has filled; ``stamp`` tells its RAM file from one that took its place."""

    directory: Path
    stamp: tuple[int, int] | None = None

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Return what is in a directory now; raises OSError."""
        return cls(directory, _stamp((directory / RAM_FILE).stat()))

    def open_ram(self) -> int:
        """Return a descriptor of the RAM file, writable, for QEMU insists on that.

        Raises FileNotFoundError where it has gone, or another one stands in its place.
        """
        fd = os.open(self.directory / RAM_FILE, os.O_RDWR | os.O_CLOEXEC)
        if self.stamp not in (None, _stamp(os.fstat(fd))):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "another template has taken its place", str(self.directory))
        return fd

    def open_state(self) -> int:
        """Return a descriptor of the devices' state."""
        return os.open(self.directory / STATE_FILE, os.O_RDONLY | os.O_CLOEXEC)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


def freeze(machine: Machine, directory: Path) -> Frozen:
    """Write a machine that was booted here into a directory; it runs on afterwards.

    Raises QmpCommandError where this QEMU cannot, OSError.
    """
    with _resting(machine, directory / STATE_FILE):
        copy_sparsely(machine.ram_fd, machine.ram_size, directory / RAM_FILE)
        with suppress(QmpCommandError):
            _take_snapshot(machine.qmp, directory / RESET_FILE)
    return Frozen(directory)


@contextmanager
def _resting(machine: Machine, state: Path) -> Iterator[None]:
    """Hold a machine still while its processors rest, or as it is if they never do; its devices' state in a file."""
    for left in reversed(range(RESTS)):
        state.unlink(missing_ok=True)
        with machine.stopped():
            machine.qmp.execute("xen-save-devices-state", {"filename": str(state), "live": False})
            if at_rest(state.read_bytes()) or not left:
                yield
                return
        machine.console.drain(Deadline.after(REST_SECONDS))


def _take_snapshot(qmp: Qmp, target: Path) -> None:
    """Write a disk image that holds nothing but a snapshot of the devices; raises QmpCommandError."""
    with os.fdopen(os.memfd_create("hostwalk-reset"), "rb", buffering=0) as image:
        name = f"/proc/{os.getpid()}/fd/{image.fileno()}"
        qmp.execute("migrate-set-capabilities", WITHOUT_RAM)
        qmp.execute("blockdev-add", {"driver": "file", "node-name": "reset-file", "filename": name})
        disk = {"driver": "qcow2", "file": "reset-file", "size": 1 << 20}
        qmp.execute("blockdev-create", {"job-id": "reset", "options": disk})
        _conclude(qmp, "reset", Deadline.after(JOB_SECONDS))
        qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "reset", "file": "reset-file"})
        refusal = qmp.hmp(f"savevm {SNAPSHOT}").strip()
        if not refusal:
            target.write_bytes(Path(name).read_bytes())
        qmp.execute("blockdev-del", {"node-name": "reset"})
        qmp.execute("blockdev-del", {"node-name": "reset-file"})


def _conclude(qmp: Qmp, job: str, deadline: Deadline) -> None:
    """Wait for the end of a job, which takes QEMU a few milliseconds."""
    while not deadline.expired:
        states = {each["id"]: each for each in qmp.execute("query-jobs")}
        if states[job]["status"] == "concluded":
            qmp.execute("job-dismiss", {"id": job})
            return
    raise GuestHungError(f"QEMU did not end its job {job} within {deadline.seconds:.3g} s")


def copy_sparsely(source: int, size: int, target: Path) -> None:
    """Copy a file that nobody writes to, leaving holes where it has holes or blocks of zeros; raises OSError."""
    with target.open("xb") as copy, mmap.mmap(source, size, mmap.MAP_SHARED, mmap.PROT_READ) as data:
        copy.truncate(size)
        for start, end in _extents(source):
            for first, last in _filled(data, start, end):
                _write(copy.fileno(), data, first, last)
    if digest_of(Path(f"/proc/self/fd/{source}")) != digest_of(target):
        raise OSError(errno.EIO, "the copy of the RAM is not what was copied", str(target))


def _write(fd: int, data: mmap.mmap, first: int, last: int) -> None:
    """Write all of [first, last), for a disk that gets full takes a part."""
    while first < last:
        first += os.pwrite(fd, data[first:last], first)


def _extents(fd: int) -> Iterator[tuple[int, int]]:
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _filled(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of blocks that are not all zeros."""
    count = (end - start) // BLOCK
    words = np.frombuffer(data, dtype=np.uint64, count=count * BLOCK // 8, offset=start)
    used = words.reshape(count, -1).any(axis=1)
    del words
    edges = np.flatnonzero(np.diff(used, prepend=False, append=False))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        yield start + int(first) * BLOCK, start + int(last) * BLOCK


def digest_of(ram: Path) -> str:
    """Return a digest of a RAM file: SHA-256 over the sum of each of its blocks and that block's number.

    Sums take a tenth of the time that hashing every byte would, and no accident leaves them as they were. Blocks of
    zeros count like holes. Raises OSError, ValueError for an empty file.
    """
    digest = hashlib.sha256()
    with ram.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        for start, end in _extents(file.fileno()):
            digest.update(_sums(data, start, end))
    return digest.hexdigest()


def _sums(data: mmap.mmap, start: int, end: int) -> bytes:
    """Return (number, sum of its 64-bit words) of each block whose sum is not 0."""
    count = (end - start) // BLOCK
    words = np.frombuffer(data, dtype=np.uint64, count=count * BLOCK // 8, offset=start)
    sums = words.reshape(count, -1).sum(axis=1)
    del words
    used = np.flatnonzero(sums)
    return np.column_stack((used.astype(np.uint64) + np.uint64(start // BLOCK), sums[used])).tobytes()


def own_memory(pid: int) -> int:
    """Return the bytes that a process shares with no other."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if line.startswith("Private_"))
    return sum(int(words[1]) << 10 for words in lines)
