"""Points in the kernel at which the guest stops: QEMU's breakpoints, and how it gets past them."""

from __future__ import annotations

import os
import select
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from hostwalk.deadline import Deadline
from hostwalk.errors import GuestHungError, HostwalkError
from hostwalk.machine.machine import Machine
from hostwalk.target import Arch

STEP_SECONDS = 5.0
NAMES = {
    Arch.X86_64: ("rip", "rsp", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "rax"),
    Arch.ARM64: ("pc", "sp", "x0", "x1", "x2", "x3", "x4", "x5", "x30", "sp_el0"),
}
"""What is read of a processor at a point: where it is, its stack, arguments and result, and arm64's way back."""


@dataclass(frozen=True)
class Hit:
    """A processor that is about to execute the instruction at a point; ``values`` are its registers in ``NAMES``."""

    arch: Arch
    cpu: int
    values: Mapping[str, int]

    @property
    def pc(self) -> int:
        """The point."""
        return self.values[NAMES[self.arch][0]]

    @property
    def sp(self) -> int:
        """The stack pointer."""
        return self.values[NAMES[self.arch][1]]

    @property
    def arguments(self) -> tuple[int, ...]:
        """The first six arguments of a function that begins here (SysV ABI, AAPCS64)."""
        return tuple(self.values[name] for name in NAMES[self.arch][2:8])

    @property
    def result(self) -> int:
        """What a function has returned that came back to here, signed."""
        value = self.values["rax" if self.arch is Arch.X86_64 else "x0"]
        return value - (1 << 64) if value >> 63 else value


class Breakpoints:
    """The points of a machine; a context manager that takes them away at its end and lets the guest run on.

    The guest stops at a point before it executes the instruction there. ``fileno()`` becomes readable when it has
    stopped; ``hits`` says where, and ``go_on`` lets it go. For one at a time on a machine, with its thread.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._points: Counter[int] = Counter()
        self._bell = -1

    def __enter__(self) -> Self:
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._machine.on_stop = self._ring
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.on_stop = _silent
        bell, self._bell = self._bell, -1
        os.close(bell)
        with suppress(HostwalkError):  # a machine that is broken has no points to take away
            self.clear()
        with suppress(HostwalkError):
            self._machine.run_on()

    def _ring(self) -> None:
        if self._bell >= 0:
            with suppress(OSError):
                os.eventfd_write(self._bell, 1)

    def fileno(self) -> int:
        """Return a descriptor to wait on."""
        return self._bell

    def add(self, addresses: Iterable[int]) -> None:
        """Have the guest stop at addresses; what was added twice is to be removed twice. Raises WalkError."""
        with self._machine.stopped():
            for address in addresses:
                if not self._points[address]:
                    self._set(address, there=True)
                self._points[address] += 1

    def remove(self, address: int) -> None:
        """Have it no longer stop there."""
        self._points[address] -= 1
        if not self._points[address]:
            del self._points[address]
            with self._machine.stopped():
                self._set(address, there=False)

    def clear(self) -> None:
        """Take all away."""
        with self._machine.stopped():
            while self._points:
                address, _ = self._points.popitem()
                self._set(address, there=False)

    def _set(self, address: int, *, there: bool) -> None:
        self._machine.gdb.set_breakpoint(address, self._machine.qmp, there=there)

    def hits(self) -> tuple[Hit, ...]:
        """Return the processors that are at a point, none while the guest runs."""
        self._heard()
        if self._machine.running:
            return ()
        target = self._machine.target
        seen = (
            Hit(target.arch, cpu, self._machine.gdb.read(cpu, NAMES[target.arch], self._machine.qmp))
            for cpu in range(target.cpus)
        )
        return tuple(hit for hit in seen if hit.pc in self._points)

    def _heard(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def go_on(self, hits: Iterable[Hit]) -> None:
        """Let the guest run on, past the points where it stands; raises GuestHungError."""
        for hit in hits:
            if self._points[hit.pc]:
                self._step(hit)
        self._machine.run_on()

    def _step(self, hit: Hit) -> None:
        """Execute what is at a point: QEMU would stop there for ever."""
        self._set(hit.pc, there=False)
        self._heard()
        self._machine.gdb.start_step(hit.cpu)
        limit = Deadline.after(STEP_SECONDS)
        while not self._stepped(limit):
            self._machine.watch()
            if limit.expired:
                raise GuestHungError(f"processor {hit.cpu} did not get past {hit.pc:#x}")
        self._set(hit.pc, there=True)

    def _stepped(self, limit: Deadline) -> bool:
        ready, _, _ = select.select([self._bell], [], [], min(limit.remaining, 0.05))
        return bool(ready)


def _silent() -> None:
    """Nobody listens."""
