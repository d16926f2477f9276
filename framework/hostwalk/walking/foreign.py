"""Any QEMU that has a QMP socket: looked into, and left as it was found."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hostwalk.deadline import Deadline
from hostwalk.errors import HostwalkError, LaunchError, UsageError, WalkError
from hostwalk.machine import Qmp, QmpCommandError, Registers
from hostwalk.machine.gdbstub import GdbStub
from hostwalk.machine.registers import ARM64_NAMES, parse_info_registers
from hostwalk.memory import open_memory, peer_pid
from hostwalk.target import Arch
from hostwalk.walking.guest import Build, Guest

GREETING = b'{"QMP"'
CONNECT_SECONDS = 5.0
ARCHS = {"x86_64": Arch.X86_64, "aarch64": Arch.ARM64}
IN_USE = "a QMP socket serves one client at a time: end the other, or start QEMU with a second -qmp"


@contextmanager
def attached(qmp: str, gdb: str | None, build_of: Callable[[Arch], Build]) -> Iterator[Guest]:
    """Lend the machine behind a QMP socket, a path or HOST:PORT; ``gdb`` is its gdbstub's, where it has one.

    ``build_of`` says what is known of the guest's kernel, once the architecture is. Raises UsageError for something
    that is no QMP socket or is in use, WalkError for an architecture that is not known, MemoryReadError.
    """
    with ExitStack() as stack:
        sock = _connected(qmp, "--qmp")
        pid = peer_pid(sock)
        foreign = Foreign(stack.enter_context(_session(sock, qmp)), gdb)
        arch = foreign.arch()
        build = build_of(arch)
        with foreign.held():
            chosen = stack.enter_context(open_memory(foreign.qmp, pid=pid))
        yield Guest(
            foreign.describe(arch, pid), chosen.memory, chosen.reason, foreign.held,
            lambda cpu: foreign.registers(arch, cpu), build,
        )  # fmt: skip


@contextmanager
def _session(sock: socket.socket, name: str) -> Iterator[Qmp]:
    """Greet; what is no QMP socket is told by its first words, which are looked at and not taken."""
    deadline = Deadline.after(CONNECT_SECONDS)
    try:
        _expect_greeting(sock, name)
        qmp = Qmp.connect(sock, deadline)
    except HostwalkError:
        sock.close()
        raise
    try:
        yield qmp
    finally:
        qmp.close(Deadline.after(CONNECT_SECONDS))


def _expect_greeting(sock: socket.socket, name: str) -> None:
    try:
        begin = sock.recv(len(GREETING), socket.MSG_PEEK | socket.MSG_WAITALL)
    except TimeoutError:
        raise UsageError(
            f"{name} does not greet within {CONNECT_SECONDS:.0f} s: in use, or no QMP socket", remedy=IN_USE
        ) from None
    except OSError as error:
        raise UsageError(f"{name} hung up: {error.strerror}", remedy=IN_USE) from error
    if begin != GREETING:
        said = f"it says {begin!r}" if begin else "it hangs up"
        raise UsageError(
            f"{name} is not a QMP socket: {said}", remedy="start QEMU with -qmp unix:PATH,server=on,wait=off"
        )


def _connected(place: str, option: str) -> socket.socket:
    """Connect to a Unix socket's path or HOST:PORT; raises UsageError."""
    host, colon, port = place.rpartition(":")
    try:
        if colon and port.isdigit() and not Path(place).exists():
            return socket.create_connection((host.strip("[]") or "localhost", int(port)), CONNECT_SECONDS)
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(CONNECT_SECONDS)
        sock.connect(place)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot connect to {option} {place}: {why}", remedy="is that QEMU running?"
        ) from error
    return sock


@dataclass(frozen=True)
class Foreign:
    """A QEMU that somebody else started."""

    qmp: Qmp
    gdb: str | None

    def arch(self) -> Arch:
        """Return its architecture; raises WalkError for one whose page tables are not known."""
        name = self.qmp.execute("query-target")["arch"]
        if name not in ARCHS:
            raise WalkError(f"this QEMU emulates {name}; known are {', '.join(ARCHS)}")
        return ARCHS[name]

    def status(self) -> tuple[str, bool]:
        """Return its state's name, and whether it runs."""
        answer = self.qmp.execute("query-status")
        return str(answer["status"]), bool(answer["running"])

    def describe(self, arch: Arch, pid: int | None) -> str:
        """Return a line about it."""
        version = self.qmp.execute("query-version")["qemu"]
        number = ".".join(str(version[part]) for part in ("major", "minor", "micro"))
        where = f", process {pid}" if pid else ""
        return f"QEMU {number} {arch}{where}, {self.status()[0]}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep it still; one that runs runs on afterwards, one that does not stays as it is."""
        _, running = self.status()
        if not running:
            yield
            return
        self.qmp.execute("stop")
        try:
            yield
        finally:
            with suppress(QmpCommandError):  # it was reset or has ended meanwhile, which is its own affair
                self.qmp.execute("cont")

    def registers(self, arch: Arch, cpu: int) -> Registers:
        """Return a processor's registers; the machine must be held. Raises UsageError for one that it has not."""
        known = sorted(each["cpu-index"] for each in self.qmp.execute("query-cpus-fast"))
        if cpu not in known:
            raise UsageError(f"there is no processor {cpu}", remedy=f"it has {', '.join(map(str, known))}")
        if arch is Arch.X86_64:
            return Registers(arch, parse_info_registers(self.qmp.hmp("info registers", cpu)), cpu)
        with self._stub() as sock:
            return Registers(arch, GdbStub(sock).read(cpu, ARM64_NAMES), cpu)

    @contextmanager
    def _stub(self) -> Iterator[socket.socket]:
        """Lend a connection to its gdbstub; one that we had to start is ended.

        Closing is the way out: a detach would let the guest run.
        """
        if self.gdb is not None:
            with _connected(self.gdb, "--gdb") as sock:
                yield sock
            return
        if any(each["label"] == "gdb" for each in self.qmp.execute("query-chardev")):
            raise UsageError(
                "the registers of an arm64 processor come by gdbstub, and this QEMU's is not named",
                remedy="name it: --gdb HOST:PORT (-s of QEMU is localhost:1234) or --gdb SOCKET",
            )
        with tempfile.TemporaryDirectory(prefix="hostwalk-") as directory, self._serving(directory) as sock:
            yield sock

    @contextmanager
    def _serving(self, directory: str) -> Iterator[socket.socket]:
        path = f"{directory}/gdb"
        said = self.qmp.hmp(f"gdbserver unix:{path},server=on,wait=off").strip()
        try:
            if not Path(path).exists():
                raise LaunchError(
                    f"this QEMU cannot serve gdb to read an arm64 processor's registers: {said}",
                    remedy="start it with -gdb and name that: --gdb SOCKET|HOST:PORT",
                )
            with _connected(path, "--gdb") as sock:
                yield sock
        finally:
            self.qmp.hmp("gdbserver none")
