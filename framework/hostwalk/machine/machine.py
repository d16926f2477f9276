"""A running QEMU and the guest in it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from hostwalk.deadline import Deadline
from hostwalk.errors import (
    BootError,
    Evidence,
    GuestCrashError,
    GuestHungError,
    HostwalkError,
    MachineDiedError,
    MachineError,
    Phase,
)
from hostwalk.machine.accel import Accel
from hostwalk.machine.console import Console
from hostwalk.machine.gdbstub import GdbStub
from hostwalk.machine.qmp import Event, Qmp, QmpCommandError
from hostwalk.machine.registers import ARM64_NAMES, Registers, parse_info_registers
from hostwalk.machine.reports import Report
from hostwalk.target import Arch, Target

STDERR_KEPT = 1 << 14
REAP_SECONDS = 2.0
LOOK_SECONDS = 1.0


class BootableKernel(Protocol):
    """What a machine needs of a kernel."""

    @property
    def arch(self) -> Arch: ...  # noqa: D102
    @property
    def boot(self) -> Path: ...  # noqa: D102
    @property
    def config(self) -> Mapping[str, str]: ...  # noqa: D102


class BootableImage(Protocol):
    """What a machine needs of an image."""

    @property
    def initramfs(self) -> Path: ...  # noqa: D102


@dataclass(frozen=True)
class Ends:
    """Hostwalk's ends of the wires to QEMU; ``port`` is the agent's."""

    qmp: socket.socket
    console: socket.socket
    port: socket.socket
    gdb: socket.socket
    ram: int
    stderr: int


class Wake:
    """A descriptor that becomes readable when something happened to the machine; any thread may ``set`` it."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """The descriptor, or -1 after close."""
        return self._fd

    def set(self) -> None:
        """Make it readable."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Make it unreadable."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close it."""
        with self._lock:
            os.close(self._fd)
            self._fd = -1


class Machine:
    """A running machine; made by ``launch``.

    A machine is used by one thread at a time. ``phase`` is Phase.BOOT until the guest's client sets it to
    Phase.OPERATION; errors carry it. ``broken`` is the first failure; ``check`` refuses a broken machine, what serves
    to look into it (``qmp``, ``console``, ``registers``, the RAM) goes on working as far as QEMU lives.
    """

    def __init__(
        self,
        target: Target,
        kernel: BootableKernel,
        image: BootableImage,
        accel: Accel,
        process: subprocess.Popen[bytes],
        command_line: str,
        ends: Ends,
        wake: Wake,
    ) -> None:
        self.target = target
        self.kernel = kernel
        self.image = image
        self.accel = accel
        self.command_line = command_line
        self.phase = Phase.BOOT
        self.broken: HostwalkError | None = None
        self.console = Console(ends.console)
        self.port = ends.port
        self.ram_fd = ends.ram
        self.ram_size = target.memory << 20
        self._process = process
        self._stderr_fd = ends.stderr
        self._wake = wake
        self._running = True
        self._depth = 0
        self._pidfd = os.pidfd_open(process.pid)
        self._gdb = GdbStub(ends.gdb)
        self.qmp: Qmp

    def attach(self, sock: socket.socket, deadline: Deadline) -> None:
        """Greet QEMU; for ``launch``."""
        self.qmp = Qmp.connect(sock, deadline, self._note)
        self.qmp.explain = self.explain
        self._running = bool(self.qmp.execute("query-status", deadline=deadline)["running"])

    def _note(self, event: Event) -> None:
        if event.name in ("STOP", "RESUME"):
            self._running = event.name == "RESUME"
        if event.name == "STOP":
            self._gdb.drain()
        if event.name in ("SHUTDOWN", "GUEST_PANICKED", "RESET"):
            self._wake.set()

    def __repr__(self) -> str:
        return f"<Machine {self.target} pid {self.pid} {self.accel.name}>"

    @property
    def pid(self) -> int:
        """QEMU's process number."""
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What QEMU wrote to its standard error (the last of it)."""
        size = os.fstat(self._stderr_fd).st_size
        data = os.pread(self._stderr_fd, STDERR_KEPT, max(0, size - STDERR_KEPT))
        return data.decode(errors="replace")

    @property
    def reports(self) -> tuple[Report, ...]:
        """What the guest's kernel has reported so far, warnings too."""
        return self.console.reports

    @property
    def evidence(self) -> Evidence:
        """What is known now."""
        return Evidence(self.command_line, self.console.tail(), self.stderr)

    # Is it well?

    def check(self) -> None:
        """Raise an error if the machine cannot be used (any more): broken, crashed, ended or dead.

        Raises MachineDiedError, GuestCrashError, BootError, MachineError.
        """
        if self.broken is not None:
            raise MachineError(
                f"this machine is not used any more, since: {self.broken.message}",
                phase=self.broken.phase,
                evidence=self.broken.evidence,
            )
        self.watch()

    def watch(self) -> None:
        """As ``check``, for a caller that is waiting: takes in the console, looks for a crash, and for QEMU's end."""
        try:
            if self._process.poll() is not None:
                self.console.check()
                raise MachineDiedError(f"QEMU {self.ending()}")
            self.console.check()
            if self.qmp.shutdown is not None:
                self._check_shutdown(self.qmp.shutdown)
        except MachineError as error:
            raise self.explain(error) from None

    def _check_shutdown(self, event: Event) -> None:
        reason = str(event.data.get("reason", "unknown"))
        if reason == "guest-reset":
            raise GuestCrashError("the guest reset itself and reported nothing")
        what = "powered itself off" if reason == "guest-shutdown" else f"ended ({reason})"
        kind = BootError if self.phase is Phase.BOOT else MachineError
        raise kind(f"the guest {what}")

    def wait_readable(self, fd: int, deadline: Deadline, what: str) -> None:
        """Wait until a descriptor (the agent's port) is readable, watching the machine meanwhile.

        Raises what ``watch`` raises, at once when it happens; at the deadline GuestHungError, which says that ``what``
        did not come.
        """
        poll = select.poll()
        for each in (fd, self._pidfd, self._wake.fileno()):
            poll.register(each, select.POLLIN)
        console = self.console.fileno()
        poll.register(console, select.POLLIN)
        while True:
            ready = dict(poll.poll(deadline.remaining * 1000))
            if fd in ready:
                return
            self._wake.clear()
            self.watch()
            if ready.get(console, 0) & select.POLLHUP:
                poll.unregister(console)
            if deadline.expired:
                raise self.hung(f"{what} did not come within {deadline.seconds:.3g} s")

    def hung(self, message: str) -> GuestHungError:
        """Return (not raise) the error of a guest that does not answer, with what can be seen from outside."""
        silent = "; the guest printed nothing" if self.console.silent else ""
        error = GuestHungError(f"{message}{silent}; {self._look()}")
        self.explain(error)
        return error

    def _look(self) -> str:
        deadline = Deadline.after(LOOK_SECONDS)
        try:
            status = self.qmp.execute("query-status", deadline=deadline)["status"]
            where = ", ".join(f"{self.registers(cpu).pc:#x}" for cpu in range(self.target.cpus))
        except HostwalkError as error:
            return f"QEMU does not answer either ({error.message})"
        return f"its state is {status}, its program counter {where}"

    def explain(self, error: HostwalkError) -> HostwalkError:
        """Add to an error what is known of the machine, and return it; a MachineError makes the machine broken."""
        known = self.evidence
        error.evidence = replace(
            error.evidence,
            command=error.evidence.command or known.command,
            console=error.evidence.console or known.console,
            stderr=error.evidence.stderr or known.stderr,
        )
        if isinstance(error, MachineError):
            error.phase = self.phase if error.phase is Phase.OPERATION else error.phase
            self.broken = self.broken or error
        return error

    def ending(self) -> str:
        """Say how QEMU ended; waits a moment for an end that is under way."""
        try:
            status = self._process.wait(REAP_SECONDS)
        except subprocess.TimeoutExpired:
            return "has closed its sockets but still runs"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    # Look inside.

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold the guest still; nests. A machine that was stopped before stays stopped after."""
        resume = self._depth == 0 and self._running
        if resume:
            self.qmp.execute("stop")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if resume:
                self._resume()

    def _resume(self) -> None:
        try:
            self.qmp.execute("cont")
        except QmpCommandError:
            if self.qmp.shutdown is None:
                raise
        except MachineDiedError:
            pass

    def registers(self, cpu: int = 0) -> Registers:
        """Return the system registers of a processor, read while the guest is held still."""
        with self.stopped():
            if self.target.arch is Arch.X86_64:
                values = parse_info_registers(self.qmp.hmp("info registers", cpu))
            else:
                values = self._gdb.read(cpu, ARM64_NAMES, self.qmp)
        return Registers(self.target.arch, values, cpu)

    def close(self) -> None:
        """Let go of what the machine itself has opened; for ``launch``, after QEMU's end."""
        self._wake.close()
        os.close(self._pidfd)
