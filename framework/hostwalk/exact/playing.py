"""Replaying a recording: with its script, which sees the same again, or bare, from one instruction count to another."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, boot
from hostwalk.deadline import Deadline
from hostwalk.errors import LaunchError, ResolveError, UsageError
from hostwalk.exact.making import OPERATION_SECONDS, command, names_at_failure
from hostwalk.exact.recording import Recording
from hostwalk.guest import Agent
from hostwalk.image import Image
from hostwalk.image.layout import Layout
from hostwalk.kernels import Kernel
from hostwalk.machine import Machine, launch
from hostwalk.machine.command import exact_args
from hostwalk.machine.course import BUSY, Replayed, aim, await_stop, icount
from hostwalk.machine.qemu import find_qemu
from hostwalk.memory import Regions, SharedMap
from hostwalk.repro.run import Outcome, perform

BOOT_SECONDS = 600.0
INITRAMFS = "initramfs.cpio"
UNASKED = "nothing can be asked of a guest in a replay, which does what it did; the witness reads its memory"
AtVerdict = Callable[[Cell, dict[str, object]], None]


class Listening(socket.socket):
    """A socket on which nothing is sent: what the guest was told is in the log."""

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send nothing; return the number of bytes."""
        return memoryview(data).nbytes


@dataclass(frozen=True)
class Replay:
    """What a replay showed of the marks up to the verdict, ``marks`` in number.

    ``equal`` says of each that was reached whether the RAM was the same, True too of one that is not compared;
    ``compared`` is how many of these were.
    """

    marks: int
    compared: int
    equal: tuple[bool, ...]
    outcome: Outcome
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether each mark up to the verdict was reached, and each that is compared was equal."""
        return len(self.equal) == self.marks and all(self.equal)


@dataclass(frozen=True)
class Player:
    """Replays a recording on the kernel that it was made with; made by :func:`player`."""

    recording: Recording
    prepared: Prepared

    def perform(self, at_verdict: AtVerdict = lambda _cell, _names: None) -> Replay:
        """Replay with the script; ``at_verdict`` is called where the verdict falls, the machine held still there.

        It is given the machine, and the names that the script has then.

        A replay that goes another way after the boot ends there, and its outcome says so. Raises what a boot raises.
        """
        start, marks = time.monotonic(), self.recording.marks
        course = Replayed(marks)
        cell = boot(self.prepared, BOOT_SECONDS, lambda _prepared, deadline: self._started(course, deadline))
        try:
            cell.agent.seconds = OPERATION_SECONDS

            def ending(failed: BaseException | None) -> None:
                with cell.machine.stopped(), _unasked(cell.agent):
                    at_verdict(cell, names_at_failure(self.recording.script, failed))

            outcome = perform(self.recording.script, cell, ending)
        finally:
            cell.close()
        seconds, equal = time.monotonic() - start, tuple(course.equal)
        compared = sum(mark.ram != BUSY for mark in marks[: len(equal)])
        return Replay(self.recording.verdict + 1, compared, equal, outcome, seconds)

    @contextmanager
    def _started(self, course: Replayed, deadline: Deadline) -> Iterator[Machine]:
        with self._launched(deadline) as machine:
            machine.course = course
            machine.port = Listening(fileno=os.dup(machine.port.fileno()))
            with machine.port:
                course.start(machine)
                yield machine

    @contextmanager
    def _launched(self, deadline: Deadline) -> Iterator[Machine]:
        with ExitStack() as stack:
            log = os.memfd_create("hostwalk-log")
            stack.callback(os.close, log)
            with open(log, "wb", closefd=False) as file:
                file.write(self.recording.log)
            target, kernel, image = self.prepared.target, self.prepared.kernel, self.prepared.image
            yield stack.enter_context(
                launch(target, kernel, image, deadline=deadline, log=log, extra=exact_args(log, replay=True))
            )

    @contextmanager
    def bare(self, regions: Regions) -> Iterator[Playback]:
        """Lend a machine that waits before its first instruction; its RAM lies in ``regions``."""
        with (
            self._launched(Deadline.after(BOOT_SECONDS)) as machine,
            SharedMap(machine.ram_fd, regions) as memory,
        ):
            yield Playback(machine, memory)


@dataclass(frozen=True)
class Playback:
    """A machine that replays, and its memory."""

    machine: Machine
    memory: SharedMap

    def run_to(self, count: int) -> None:
        """Run on until ``count`` instructions have been executed; raises MachineError, GuestHungError."""
        aim(self.machine, count)
        await_stop(self.machine, count)

    @property
    def icount(self) -> int:
        """How many instructions were executed."""
        return icount(self.machine)


def player(recording: Recording, kernel: Kernel, cache: Cache) -> Player:
    """Return what replays a recording.

    Raises ResolveError where the kernel is another, LaunchError where QEMU is, UsageError where the machine is.
    """
    pin, target = recording.pin, replace(recording.pin.target, accel="tcg")
    if kernel.identity != pin.image:
        raise ResolveError(
            f"it was recorded on Linux {pin.release} ({pin.image[:12]}), this is {kernel.release}"
            f" ({kernel.identity[:12]})",
            remedy="give the kernel that it was recorded on: --kernel SPEC",
        )
    qemu = find_qemu(target.arch)
    if qemu.version != pin.qemu:
        raise LaunchError(
            f"it was recorded with QEMU {pin.qemu}, this is {qemu.version}: another QEMU counts and logs differently",
            remedy=f"install QEMU {pin.qemu}, or record it again: hostwalk repro record --exact SCRIPT",
        )
    prepared = Prepared(target, kernel, _image(recording, cache))
    if (now := command(prepared)) != recording.command:
        raise UsageError(
            f"it was recorded on another machine than hostwalk makes: {_difference(now, recording.command)}",
            remedy="record it again: hostwalk repro record --exact SCRIPT",
        )
    return Player(recording, prepared)


@contextmanager
def _unasked(agent: Agent) -> Iterator[None]:
    """Have an agent refuse what is asked of it, at once."""
    before, agent.broken = agent.broken, agent.broken or UNASKED
    try:
        yield
    finally:
        agent.broken = before


def _difference(now: str, then: str) -> str:
    ours, theirs = (line.replace(" ", "\0").split("\0") for line in (now, then))
    pairs = zip(("", *theirs), theirs, strict=False)
    lost = [f"{option} {word}" if option[:1] == "-" else word for option, word in pairs if word not in ours]
    new = [word for word in ours if word not in theirs]
    if lost or not new:
        return f"that had {', '.join(lost[:3]) or 'the same words in another order'}"
    return f"that had no {', '.join(new[:3])}"


def _image(recording: Recording, cache: Cache) -> Image:
    """Return the recorded image: its initramfs in the cache, its tables as they were recorded."""
    digest = hashlib.sha256(recording.initramfs).hexdigest()
    entry = cache.entry("exact", digest, lambda directory: _wrote(directory / INITRAMFS, recording.initramfs))
    path: Path = entry / INITRAMFS
    return Image(path, path, path, Layout(recording.abi), Layout(recording.layout), digest)


def _wrote(path: Path, data: bytes) -> None:
    path.write_bytes(data)
