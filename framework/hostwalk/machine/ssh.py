"""A login to a machine: SSH over a virtio-serial port of its own, without a network on either side.

QEMU gets one end of a socket pair for each connection, by its QMP socket; the guest's door (guest/login/door.c) is
told the keys of this machine and hands what follows to an SSH server of that connection alone. Commands run within
bounds, see guest/login/run.c.
"""

from __future__ import annotations

import itertools
import shlex
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import paramiko

from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, HostwalkError, LoginError
from hostwalk.machine.command import SSH
from hostwalk.machine.keys import KEY_TYPE, Keys
from hostwalk.machine.pump import Beside, Streams, pump
from hostwalk.machine.qmp import Qmp

NAME, USER = "guest", "root"
LOGIN = "/usr/lib/hostwalk/login"
CONNECT_SECONDS = 60.0
RUN_SECONDS = 600.0
END_SECONDS = 30.0
GO = b"\n"
"""What lets a command go that is held."""


class Reachable(Protocol):
    """What a login needs of a machine."""

    qmp: Qmp

    def watch(self) -> None:
        """Raise when the machine has failed."""

    def await_door(self, deadline: Deadline) -> None:
        """Wait until the guest waits for a connection."""


@dataclass(frozen=True)
class Finished:
    """A command that has ended; ``status`` as a shell has it: 126 and 127 if it could not start, 128+N by signal N."""

    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Command:
    """A command that was started; made by :class:`Ssh`."""

    ssh: Ssh
    channel: paramiko.Channel
    name: str
    limit: Deadline

    def go(self) -> None:
        """Let a command that was held begin; its standard input follows."""
        self.channel.sendall(GO)

    def finish(self, streams: Streams) -> int:
        """Hand on what it says and is given until it ends; return its status. Errors are those of Ssh.stream."""
        try:
            return self.ssh.pumped(self.channel, streams, self.limit)
        except CommandTimeoutError:
            with suppress(CommandTimeoutError, LoginError):  # what is told is the time-out that was asked for
                self.ssh.end(self.name, streams.beside)
                rest = replace(streams, stdin=b"", first=b"")
                self.ssh.pumped(self.channel, rest, Deadline.after(END_SECONDS))
            raise


class Ssh:
    """A login as root; ``client`` is paramiko's, connected. A context manager that ends it. For one thread."""

    def __init__(self, client: paramiko.SSHClient, machine: Reachable) -> None:
        self.client = client
        self._machine = machine
        self._numbers = itertools.count(1)
        self._sftp: paramiko.SFTPClient | None = None

    def __enter__(self) -> Ssh:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether both ends are there."""
        transport = self.client.get_transport()
        return transport is not None and transport.is_active()

    def run(
        self, argv: Sequence[str], *, deadline: Deadline | None = None, stdin: bytes | None = None
    ) -> Finished:
        """Run a command to its end and return what it said; bounds and errors are those of :meth:`stream`."""
        out, err = bytearray(), bytearray()
        streams = Streams(out.extend, err.extend, stdin or b"")
        status = self.stream(argv, streams, deadline=deadline)
        return Finished(status, bytes(out), bytes(err))

    def stream(
        self, argv: Sequence[str], streams: Streams, *, deadline: Deadline | None = None, whole: bool = False
    ) -> int:
        """Run a command, hand on what it says as it comes, and return its status.

        It may have 256 processes and three quarters of the memory that is free; whatever it leaves running in the
        background ends with it. ``whole`` waits until no process has its output any more, as a pipe of a shell does;
        standard error is part of standard output then. Raises CommandTimeoutError after killing it at the deadline
        (ten minutes unless given), LoginError when the connection breaks, and what the machine's ``watch`` raises.
        """
        with self._begun("whole" if whole else "run", argv, deadline) as command:
            return command.finish(streams)

    @contextmanager
    def holding(self, argv: Sequence[str], *, deadline: Deadline | None = None) -> Iterator[Command]:
        """Start a command that waits before it begins: its process is called ``name`` until it is let go.

        Bounds are those of :meth:`stream`. Raises LoginError.
        """
        with self._begun("hold", argv, deadline) as command:
            yield command

    @contextmanager
    def _begun(self, verb: str, argv: Sequence[str], deadline: Deadline | None) -> Iterator[Command]:
        limit, name = deadline or Deadline.after(RUN_SECONDS), f"{verb}{next(self._numbers)}"
        with self._channel(limit) as channel:
            self._execute(channel, [LOGIN, verb, name, *argv])
            yield Command(self, channel, name, limit)

    def pumped(self, channel: paramiko.Channel, streams: Streams, limit: Deadline) -> int:
        """Pass on what a channel's command says, see :func:`hostwalk.machine.pump.pump`."""
        return pump(channel, streams, limit, self._machine.watch)

    def _execute(self, channel: paramiko.Channel, words: Sequence[str]) -> None:
        with self._errors(f"start {words[0]}"):
            channel.exec_command(f"exec {shlex.join(words)}")

    def end(self, name: str, beside: Beside | None = None) -> None:
        """Kill all processes of a command."""
        limit = Deadline.after(END_SECONDS)
        with self._channel(limit) as channel:
            self._execute(channel, [LOGIN, "end", name])
            self.pumped(channel, Streams(beside=beside), limit)

    def shell(
        self, term: str, columns: int, lines: int, *, deadline: Deadline | None = None
    ) -> paramiko.Channel:
        """Return the channel of a login shell on a terminal of its own in the guest; raises LoginError.

        Its exit status is a shell's: 128+N for one that signal N ended, which SSH's own word for that does not tell.
        """
        limit = deadline or Deadline.after(CONNECT_SECONDS)
        with self._errors("start a shell"):
            channel = self._opened(limit)
            channel.get_pty(term, columns, lines)
            channel.exec_command("bash -l; exit $?")
        return channel

    def sftp(self, deadline: Deadline | None = None) -> paramiko.SFTPClient:
        """Return a file-transfer client, opened once; each of its operations has until the deadline (a minute)."""
        limit = deadline or Deadline.after(CONNECT_SECONDS)
        if self._sftp is None:
            with self._errors("open SFTP"):
                channel = self._opened(limit)
                channel.invoke_subsystem("sftp")
                self._sftp = paramiko.SFTPClient(channel)
        self._sftp.get_channel().settimeout(limit.remaining or 0.001)  # type: ignore[union-attr]
        return self._sftp

    def put(self, local: Path, remote: str, *, deadline: Deadline | None = None) -> None:
        """Copy a file of the host to a path of the guest, with its permissions.

        Raises LoginError where the guest refuses it or the deadline passes (ten minutes unless given), OSError for
        the host's own file, and what the machine's ``watch`` raises.
        """
        limit = deadline or Deadline.after(RUN_SECONDS)
        with local.open("rb") as source:
            self._write(source, remote, local.stat().st_mode & 0o7777, limit)

    def _write(self, source: BinaryIO, remote: str, mode: int, limit: Deadline) -> None:
        with self._errors(f"put {remote}"):
            client = self.sftp(limit)
            client.putfo(source, remote, callback=self._checked(limit, f"put {remote}"))
            client.chmod(remote, mode)

    def get(self, remote: str, local: Path, *, deadline: Deadline | None = None) -> None:
        """Copy a file of the guest to a path of the host; raises what :meth:`put` raises."""
        limit = deadline or Deadline.after(RUN_SECONDS)
        with local.open("wb") as target, self._errors(f"get {remote}"):
            self.sftp(limit).getfo(remote, target, callback=self._checked(limit, f"get {remote}"))

    def _checked(self, limit: Deadline, what: str) -> Callable[[int, int], None]:
        def check(_done: int, _total: int) -> None:
            self._machine.watch()
            if limit.expired:
                raise LoginError(f"{what} did not end within {limit.seconds:.3g} s")

        return check

    def close(self) -> None:
        """End it; harmless when it has ended."""
        self.client.close()

    @contextmanager
    def _channel(self, limit: Deadline) -> Iterator[paramiko.Channel]:
        with self._errors("start a command"):
            channel = self._opened(limit)
        try:
            yield channel
        finally:
            channel.close()

    def _opened(self, limit: Deadline) -> paramiko.Channel:
        transport = self.client.get_transport()
        if transport is None:
            raise LoginError("this login was closed")
        return transport.open_session(timeout=limit.remaining or 0.001)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn what paramiko raises into a LoginError; a failure of the machine comes first."""
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            self._machine.watch()
            reason = str(error) or type(error).__name__
            raise LoginError(f"the guest could not {what}: {reason}") from error


def connect(machine: Reachable, *, deadline: Deadline | None = None) -> Ssh:
    """Log in to a machine that has a door: with new keys, over a new socket pair that only QEMU has the other end of.

    Raises LoginError, GuestHungError, and what the machine's ``watch`` raises.
    """
    limit, keys = deadline or Deadline.after(CONNECT_SECONDS), Keys.make()
    machine.await_door(limit)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            _plug(machine.qmp, theirs, limit)
        ours.settimeout(limit.remaining or 0.001)
        ours.sendall(keys.greeting)
        return Ssh(authenticated(ours, keys, limit), machine)
    except (paramiko.SSHException, EOFError, OSError) as error:
        ours.close()
        machine.watch()
        reason = str(error) or type(error).__name__
        raise LoginError(f"no login within {limit.seconds:.3g} s: {reason}", remedy=_REMEDY) from error
    except HostwalkError:
        ours.close()
        raise


_REMEDY = "see on its console what the guest does (hostwalk shell --console)"


def _plug(qmp: Qmp, wire: socket.socket, limit: Deadline) -> None:
    """Have QEMU put a socket behind the port, in the place of what was there."""
    qmp.give(wire.fileno(), SSH, limit)
    address = {"type": "fd", "data": {"str": SSH}}
    backend = {"type": "socket", "data": {"addr": address, "server": False}}
    qmp.execute("chardev-change", {"id": SSH, "backend": backend}, limit)


def authenticated(wire: socket.socket, keys: Keys, limit: Deadline) -> paramiko.SSHClient:
    """Return a client that has seen the pinned host key and shown ours; raises SSHException, OSError, EOFError."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.get_host_keys().add(NAME, KEY_TYPE, keys.pinned)
    seconds = limit.remaining or 0.001
    client.connect(
        NAME, username=USER, pkey=keys.user, sock=wire, allow_agent=False, look_for_keys=False,
        timeout=seconds, banner_timeout=seconds, auth_timeout=seconds,
    )  # fmt: skip
    return client
