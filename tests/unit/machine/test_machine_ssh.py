"""A login against an SSH server of this process's own: keys, streams, statuses, deadlines."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, GuestCrashError, LoginError
from hostwalk.machine import ssh as ssh_module
from hostwalk.machine.keys import Keys, _loaded
from hostwalk.machine.pump import Streams
from hostwalk.machine.ssh import Ssh, authenticated, connect

Command = Callable[[paramiko.Channel, str], None]


class Door(paramiko.ServerInterface):
    """What the guest's server does: one key opens it, commands are functions of the test."""

    def __init__(self, allowed: paramiko.PKey, command: Command) -> None:
        self.allowed = allowed
        self.command = command
        self.commands: list[str] = []
        self.taking = threading.Event()
        self.taking.set()

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        ours = username == "root" and key == self.allowed
        return paramiko.AUTH_SUCCESSFUL if ours else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self.taking.wait(20)
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(command.decode())
        # Not before the answer to this request is out, which paramiko sends after the return.
        threading.Timer(0.05, self.command, (channel, command.decode())).start()
        return True


class Machine:
    """A machine that is well until a test says otherwise."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.ram_size = 256 << 20
        self.qmp = self

    def watch(self) -> None:
        if self.failure is not None:
            raise self.failure

    def await_door(self, deadline: Deadline) -> None:
        assert not deadline.expired


def end(channel: paramiko.Channel, status: int) -> None:
    channel.send_exit_status(status)
    channel.shutdown(2)
    channel.close()


@pytest.fixture
def keys() -> Keys:
    return Keys.make()


@pytest.fixture
def served(keys: Keys) -> Iterator[Callable[..., tuple[Ssh, Door, Machine]]]:
    """Start a server; each call returns a login to it, the server and the machine around it."""
    ends: list[paramiko.Transport | Ssh] = []

    def start(command: Command) -> tuple[Ssh, Door, Machine]:
        ours, theirs = socket.socketpair()
        transport = paramiko.Transport(theirs)
        transport.add_server_key(server_key(keys))
        door = Door(keys.user, command)
        transport.start_server(threading.Event(), door)
        machine = Machine()
        login = Ssh(authenticated(ours, keys, Deadline.after(10)), machine)  # type: ignore[arg-type]
        ends.extend([login, transport])
        return login, door, machine

    yield start
    for each in ends:
        each.close()


def server_key(keys: Keys) -> paramiko.PKey:
    """Return the host key from what dropbear gets: two strings, the type and both halves."""
    assert keys.server[:15] == b"\0\0\0\x0bssh-ed25519"
    assert keys.server[15:19] == (64).to_bytes(4, "big")
    private = keys.server[19:51]
    assert keys.server[51:] == keys.pinned.asbytes()[-32:]
    return _loaded(Ed25519PrivateKey.from_private_bytes(private))


def test_keys_are_new_each_time_and_the_halves_fit(keys: Keys) -> None:
    assert Keys.make().server != keys.server
    assert server_key(keys).asbytes() == keys.pinned.asbytes()
    assert keys.authorized.split()[1] == keys.user.get_base64().encode()
    assert keys.pinned != keys.user


def test_the_greeting_says_how_long_each_key_is(keys: Keys) -> None:
    numbers = [int.from_bytes(keys.greeting[at : at + 4], "little") for at in (0, 4, 8)]
    assert numbers == [0x48535748, len(keys.server), len(keys.authorized)]
    assert keys.greeting[12:] == keys.server + keys.authorized


def test_a_server_with_another_key_is_refused(keys: Keys) -> None:
    ours, theirs = socket.socketpair()
    transport = paramiko.Transport(theirs)
    transport.add_server_key(server_key(Keys.make()))
    transport.start_server(threading.Event(), Door(keys.user, lambda channel, command: None))
    with pytest.raises(paramiko.BadHostKeyException):
        authenticated(ours, keys, Deadline.after(10))
    transport.close()


def test_output_is_kept_apart_and_the_status_comes_back(served) -> None:
    def command(channel: paramiko.Channel, _text: str) -> None:
        channel.sendall(b"out" * 100_000)
        channel.sendall_stderr(b"err")
        end(channel, 7)

    login, door, _ = served(command)
    done = login.run(["echo", "a b", "$HOME"], deadline=Deadline.after(10))
    assert (done.status, len(done.stdout), done.stderr) == (7, 300_000, b"err")
    assert door.commands == ["exec /usr/lib/hostwalk/login run run1 echo 'a b' '$HOME'"]


def test_a_command_as_a_whole_goes_on_until_nobody_has_its_output(served) -> None:
    login, door, _ = served(lambda channel, _text: end(channel, 0))
    assert login.stream(["./test"], Streams(), deadline=Deadline.after(10), whole=True) == 0
    assert door.commands == ["exec /usr/lib/hostwalk/login whole whole1 ./test"]


def test_input_reaches_the_command_with_its_end(served) -> None:
    def command(channel: paramiko.Channel, _text: str) -> None:
        got = b""
        while data := channel.recv(1 << 16):
            got += data
        channel.sendall(str(len(got)).encode())
        end(channel, 0)

    login, _, _ = served(command)
    assert login.run(["wc"], stdin=b"x" * 3_000_000, deadline=Deadline.after(20)).stdout == b"3000000"
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(b"y" * 1000)
    out = bytearray()
    assert login.stream(["wc"], Streams(out.extend, stdin=reader), deadline=Deadline.after(20)) == 0
    os.close(reader)
    assert out == b"1000"


def test_a_command_that_does_not_read_takes_no_input_and_holds_nothing_up(served) -> None:
    login, _, _ = served(lambda channel, _text: end(channel, 3))
    assert login.run(["true"], stdin=b"x" * 5_000_000, deadline=Deadline.after(10)).status == 3


def test_at_the_deadline_the_command_is_killed_by_name(served) -> None:
    sleeping: list[paramiko.Channel] = []

    def command(channel: paramiko.Channel, text: str) -> None:
        if " end " in text:
            end(sleeping[0], 137)
            end(channel, 0)
        else:
            sleeping.append(channel)
            channel.sendall(b"so far")

    login, door, _ = served(command)
    begin, heard = time.monotonic(), bytearray()
    with pytest.raises(CommandTimeoutError, match=r"did not end within 0\.3 s"):
        login.stream(["sleep"], Streams(heard.extend), deadline=Deadline.after(0.3))
    assert time.monotonic() - begin < 3
    assert heard == b"so far"
    assert door.commands[-1] == "exec /usr/lib/hostwalk/login end run1"


def test_a_guest_too_busy_to_kill_a_command_does_not_hide_the_time_out(
    served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_module, "END_SECONDS", 0.4)
    login, door, _ = served(lambda channel, text: None)
    with pytest.raises(CommandTimeoutError, match=r"did not end within 0\.3 s"):
        login.run(["sleep"], deadline=Deadline.after(0.3))
    assert door.commands[-1] == "exec /usr/lib/hostwalk/login end run1"


def test_a_guest_too_busy_to_open_a_channel_does_not_hide_the_time_out(
    served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_module, "END_SECONDS", 0.4)
    login, door, _ = served(lambda channel, text: door.taking.clear())
    try:
        with pytest.raises(CommandTimeoutError, match=r"did not end within 0\.3 s"):
            login.run(["sleep"], deadline=Deadline.after(0.3))
        assert door.commands == ["exec /usr/lib/hostwalk/login run run1 sleep"]
    finally:
        door.taking.set()


def test_a_held_command_is_let_go_by_a_byte_and_what_runs_beside_is_served(served) -> None:
    class Beside:
        due, served = 0.01, 0

        def fileno(self) -> int:
            return -1

        def serve(self) -> None:
            self.served += 1

    def command(channel: paramiko.Channel, _text: str) -> None:
        channel.sendall(channel.recv(1) + b"|" + channel.recv(100))
        end(channel, 5)

    login, door, _ = served(command)
    beside, heard = Beside(), bytearray()
    with login.holding(["./test"], deadline=Deadline.after(10)) as held:
        assert held.name == "hold1"
        streams = Streams(heard.extend, stdin=b"given", first=ssh_module.GO, beside=beside)
        assert held.finish(streams) == 5
    assert door.commands == ["exec /usr/lib/hostwalk/login hold hold1 ./test"]
    assert heard == b"\n|given"
    assert beside.served


def test_a_crash_of_the_guest_ends_the_wait(served) -> None:
    login, _, machine = served(lambda channel, _text: None)
    machine.failure = GuestCrashError("panic")
    begin = time.monotonic()
    with pytest.raises(GuestCrashError, match="panic"):
        login.run(["true"], deadline=Deadline.after(20))
    assert time.monotonic() - begin < 3


def test_a_connection_that_breaks_is_no_status(served) -> None:
    def command(channel: paramiko.Channel, _text: str) -> None:
        channel.get_transport().close()

    login, _, _ = served(command)
    with pytest.raises(LoginError, match="the connection ended before the command did"):
        login.run(["true"], deadline=Deadline.after(10))
    assert not login.alive
    with pytest.raises(LoginError, match="could not start a command"):
        login.run(["true"], deadline=Deadline.after(10))


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[socket.socket] = []
    monkeypatch.setattr(ssh_module, "_plug", lambda qmp, wire, limit: kept.append(wire.dup()))
    begin = time.monotonic()
    with pytest.raises(LoginError, match=r"no login within 0\.5 s"):
        connect(Machine(), deadline=Deadline.after(0.5))  # type: ignore[arg-type]
    assert time.monotonic() - begin < 5
    assert kept[0].recv(4) == b"HWSH"
    kept[0].close()


def test_a_file_that_the_host_lacks_is_the_host_s_error(served, tmp_path: Path) -> None:
    login, _, _ = served(lambda channel, _text: end(channel, 0))
    with pytest.raises(FileNotFoundError):
        login.put(tmp_path / "none", "/root/none")
