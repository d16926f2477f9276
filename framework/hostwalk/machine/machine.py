"""A running QEMU and the guest in it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from hostwalk.cache import Cache
from hostwalk.deadline import Deadline
from hostwalk.errors import (
    BootError,
    Evidence,
    GuestCrashError,
    GuestHungError,
    HostwalkError,
    LoginError,
    MachineDiedError,
    MachineError,
    Phase,
    UsageError,
)
from hostwalk.machine.accel import Accel
from hostwalk.machine.command import SSH
from hostwalk.machine.console import Console
from hostwalk.machine.course import Course
from hostwalk.machine.gdbstub import GdbStub
from hostwalk.machine.pace import TIMED, Pace, Stopwatch
from hostwalk.machine.qmp import Event, Qmp, QmpCommandError
from hostwalk.machine.registers import ARM64_FRAME, ARM64_NAMES, Registers, parse_info_registers
from hostwalk.machine.reports import Report
from hostwalk.target import Arch, Target

if TYPE_CHECKING:
    from hostwalk.machine.ssh import Ssh

STDERR_KEPT = 1 << 14
REAP_SECONDS = 2.0
LOOK_SECONDS = 1.0
DOOR_LOOK_SECONDS = 0.05
LONGEST_FUNCTION = 1 << 16
REMEDIES: tuple[tuple[type[MachineError], str], ...] = (
    (GuestCrashError, "read the kernel's report; to see it again, run the same alone"),
    (MachineDiedError, "run it again; if QEMU was killed, look for the host's out-of-memory killer (dmesg)"),
    (GuestHungError, "run the same alone to see whether the kernel hangs again or the host was busy"),
    (BootError, "see how far the guest came on its console; try --accel tcg, or another kernel"),
)
"""What to try, by what went wrong with a machine."""


def _nothing() -> None:
    """Nobody listens."""


@runtime_checkable
class NamedAddresses(Protocol):
    """A kernel's symbols, as far as they give an address its name."""

    def nearest(self, address: int) -> tuple[str, int]:
        """Return the symbol at or below an address and the distance to it."""


class BootableKernel(Protocol):
    """What a machine needs of a kernel; ``identity`` tells boot files apart."""

    @property
    def arch(self) -> Arch: ...  # noqa: D102
    @property
    def boot(self) -> Path: ...  # noqa: D102
    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def cache(self) -> Cache: ...  # noqa: D102
    @property
    def symbols(self) -> NamedAddresses: ...  # noqa: D102


class BootableImage(Protocol):
    """What a machine needs of an image; ``login`` says whether one can log in, ``cmdline`` is for the kernel."""

    @property
    def initramfs(self) -> Path: ...  # noqa: D102
    @property
    def cmdline(self) -> str: ...  # noqa: D102
    @property
    def login(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class Ends:
    """Hostwalk's ends of the wires to QEMU; ``port`` is the agent's, ``keys`` what is typed at the console."""

    qmp: socket.socket
    console: int
    keys: int
    port: socket.socket
    gdb: socket.socket
    ram: int
    stderr: int


@dataclass(frozen=True)
class Plan:
    """What a machine is made of."""

    target: Target
    kernel: BootableKernel
    image: BootableImage
    accel: Accel


class Machine:
    """A running machine; made by ``launch``, used by one thread at a time.

    ``phase`` is Phase.BOOT until whoever boots it sets it to Phase.OPERATION; errors carry it. ``broken`` is
    the first failure: ``check`` refuses a broken machine, while what serves to look into it (``qmp``,
    ``console``, ``registers``, the RAM) goes on working as far as QEMU lives. ``ram_fd`` is the RAM's memory
    file, of ``ram_size`` bytes, -1 where nobody but QEMU sees the RAM; ``port`` the agent's stream socket.
    ``name`` is what errors call the machine; ``course`` how it is halted and goes on. ``on_stop`` is called on QMP's
    thread each time the guest has stopped. ``ran`` is how long a fork has been running.
    """

    def __init__(self, plan: Plan, process: subprocess.Popen[bytes], command_line: str, ends: Ends) -> None:
        self.target = plan.target
        self.kernel = plan.kernel
        self.image = plan.image
        self.accel = plan.accel
        self.command_line = command_line
        self.name = str(plan.target)
        self.course = Course()
        self.phase = Phase.BOOT
        self.broken: HostwalkError | None = None
        self.console = Console(ends.console, ends.keys)
        self.port = ends.port
        self.ram_fd = ends.ram
        self.ram_size = plan.target.memory << 20
        self._process = process
        self._stderr_fd = ends.stderr
        self._running = True
        self._depth = 0
        self.gdb = GdbStub(ends.gdb)
        self.on_stop: Callable[[], object] = _nothing
        self._pace = Pace(process.pid)
        self.ran = Stopwatch()
        self._ssh: Ssh | None = None
        self.qmp: Qmp

    def attach(self, sock: socket.socket, deadline: Deadline) -> None:
        """Greet QEMU; for ``launch``. A fork counts as running from the start: nobody stops it before it does."""
        self.qmp = Qmp.connect(sock, deadline, self._note)
        self.qmp.explain = self.explain
        self.qmp.meanwhile = self.console.drain
        if self.ram_fd >= 0:
            self._running = bool(self.qmp.execute("query-status", deadline=deadline)["running"])
        else:
            self.qmp.execute("cont", deadline=deadline)

    def _note(self, event: Event) -> None:
        if event.name in ("STOP", "RESUME"):
            self._running = event.name == "RESUME"
            self.ran.note(running=self._running)
        if event.name == "STOP":
            self.gdb.drain()
            self.on_stop()

    def __repr__(self) -> str:
        return f"<Machine {self.name} pid {self.pid} {self.accel.name}>"

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
        """Look whether the guest has crashed or QEMU has ended, for a caller that waits; about 20 us.

        Raises what ``check`` raises.
        """
        self._pace.note()
        self.course.watch(self)
        try:
            if self._process.poll() is not None:
                self.console.check()
                raise MachineDiedError("QEMU ended while it was needed")
            self.console.check()
            if self.qmp.shutdown is not None:
                self._check_shutdown(self.qmp.shutdown)
        except GuestCrashError as error:
            raise self.explain(self._blamed(error)) from None
        except MachineError as error:
            raise self.explain(error) from None

    def _blamed(self, error: GuestCrashError) -> MachineError:
        """Return the error, or one that blames the host, if it gave the guest too little time for what it reported."""
        first = next((report for report in self.reports if report.fatal), None)
        if first is None or first.kind not in TIMED or not self._pace.starved:
            return error
        return GuestHungError(
            f"the host gave the guest too little processor time, and its kernel reported: {first.title}",
            evidence=error.evidence, remedy="run it again on a host that is less busy",
        )  # fmt: skip

    def _check_shutdown(self, event: Event) -> None:
        reason = str(event.data.get("reason", "unknown"))
        if reason == "guest-reset":
            raise GuestCrashError("the guest reset itself and reported nothing")
        what = "powered itself off" if reason == "guest-shutdown" else f"ended ({reason})"
        kind = BootError if self.phase is Phase.BOOT else MachineError
        raise kind(f"the guest {what}")

    def explain(self, error: HostwalkError) -> HostwalkError:
        """Add to an error what is known of the machine, and return it; a MachineError breaks the machine."""
        first = isinstance(error, MachineError) and self.broken is None
        if first:
            self.broken = error
            error.phase = self.phase if error.phase is Phase.OPERATION else error.phase
            error.remedy = error.remedy or next(
                (text for kind, text in REMEDIES if isinstance(error, kind)), ""
            )
        if first and isinstance(error, GuestHungError | BootError | MachineDiedError):
            error.message += f"; {self._look()}"
        if first and self.name != str(self.target):
            error.message += f" ({self.name})"
        known = self.evidence
        error.evidence = replace(
            error.evidence,
            command=error.evidence.command or known.command,
            console=error.evidence.console or known.console,
            stderr=error.evidence.stderr or known.stderr,
        )
        return error

    def _look(self) -> str:
        """Say in a few words how the machine looks from outside; waits a moment at most."""
        if isinstance(self.broken, MachineDiedError) or self._process.poll() is not None:
            return f"QEMU {self.ending()}"
        deadline = Deadline.after(LOOK_SECONDS)
        try:
            status = self.qmp.execute("query-status", deadline=deadline)["status"]
            where = ", ".join(self._place(cpu) for cpu in range(self.target.cpus))
        except HostwalkError as error:
            return f"QEMU itself does not answer ({error.message})"
        silent = "the guest printed nothing; " if self.console.silent else ""
        return f"{silent}the machine is {status}, at {where}"

    def _place(self, cpu: int) -> str:
        registers = self.registers(cpu)
        masked = "" if registers.interrupts else " with interrupts off"
        return f"{self._name(registers.pc)}{masked}"

    def _name(self, address: int) -> str:
        if address >> 63 and not self.target.kaslr:
            with suppress(HostwalkError):
                name, offset = self.kernel.symbols.nearest(address)
                if offset < LONGEST_FUNCTION:
                    return f"{name}+{offset:#x}"
        return f"{address:#x}"

    def ending(self, seconds: float = REAP_SECONDS) -> str:
        """Say how QEMU ended; waits some seconds for an end that is under way."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return "has closed its sockets but still runs"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    @property
    def held(self) -> bool:
        """Whether somebody is inside ``stopped``."""
        return self._depth > 0

    @property
    def running(self) -> bool:
        """Whether the guest runs, as far as QEMU has said."""
        return self._running

    # Log in.

    def ssh(self, deadline: Deadline | None = None) -> Ssh:
        """Return the machine's login: one connection, made when it is first asked for or has ended.

        Raises UsageError for a machine whose image has nobody to log in to, LoginError when the deadline passes (a
        minute unless given), and what ``check`` raises.
        """
        from hostwalk.machine.ssh import connect  # noqa: PLC0415 (a claim does not pay for it)

        if not self.image.login:
            raise UsageError("this machine's image has no login", remedy="prepare its target with login=True")
        self.check()
        if self._ssh is None or not self._ssh.alive:
            self._ssh = connect(self, deadline=deadline)
        return self._ssh

    def hang_up(self) -> None:
        """End the login, if there is one."""
        if self._ssh is not None:
            self._ssh.close()
        self._ssh = None

    def await_door(self, deadline: Deadline) -> None:
        """Wait until the guest has opened the port for logins, for the first one or the next.

        QEMU takes a new socket there for one that the guest has not opened yet. Raises LoginError at the deadline,
        and what ``watch`` raises.
        """
        while not any(
            each["label"] == SSH and each["frontend-open"] for each in self.qmp.execute("query-chardev")
        ):
            self.watch()
            if deadline.expired:
                raise LoginError(f"the guest did not open its door within {deadline.seconds:.3g} s")
            self.console.drain(deadline.at_most(DOOR_LOOK_SECONDS))

    # Look inside.

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold the guest still; nests. A machine that was stopped before stays stopped after."""
        self._depth += 1
        resume = False
        try:
            resume = self._depth == 1 and self.course.halt(self)
            yield
        finally:
            self._depth -= 1
            if resume:
                self.course.go_on(self)

    def hold(self) -> None:
        """Stop the guest until ``run_on``."""
        if self._running:
            self.qmp.execute("stop")

    def run_on(self) -> None:
        """Let the guest run, whoever stopped it."""
        if not self._running:
            self.resume()

    def resume(self) -> None:
        """Tell QEMU to go on; nothing happens where the guest has ended."""
        try:
            self.qmp.execute("cont")
        except QmpCommandError:
            if self.qmp.shutdown is None:
                raise
        except MachineDiedError:
            pass

    def registers(self, cpu: int = 0, *, frame: bool = False) -> Registers:
        """Return the system registers of a processor, read while the guest is held still.

        ``frame``: on arm64 those of the running function too, which x86-64 has among them anyway.
        """
        names = (*ARM64_NAMES, *ARM64_FRAME) if frame else ARM64_NAMES
        with self.stopped():
            if self.target.arch is Arch.X86_64:
                values = parse_info_registers(self.qmp.hmp("info registers", cpu))
            else:
                values = self.gdb.read(cpu, names, self.qmp)
        return Registers(self.target.arch, values, cpu)
