"""Attaching to something that calls itself a QEMU, and leaving it as it was."""

import json
import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from hostwalk.errors import HostwalkError, UsageError, WalkError
from hostwalk.machine import Qmp
from hostwalk.walking import Build, attached, foreign
from hostwalk.walking.foreign import Foreign

GREETING = {
    "QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}
}


@contextmanager
def serving(path, serve):
    """Serve one client of a Unix socket on a thread."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def work():
        connection, _ = listener.accept()
        with connection:
            serve(connection)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield str(path)
    finally:
        listener.close()


def requests(connection):
    """Yield the JSON objects that arrive, nothing between them."""
    text = ""
    while data := connection.recv(4096):
        text += data.decode()
        try:
            request, end = json.JSONDecoder().raw_decode(text)
        except json.JSONDecodeError:
            continue
        text = text[end:].lstrip()
        yield request


class FakeQemu:
    """Answers the commands that attaching needs, and remembers them."""

    def __init__(self, arch="x86_64", running=True):
        self.arch, self.running, self.heard = arch, running, []

    def serve(self, connection):
        connection.sendall(json.dumps(GREETING).encode() + b"\r\n")
        for request in requests(connection):
            answer = {"return": self.answer(request["execute"], request.get("arguments", {}))}
            connection.sendall(json.dumps(answer | {"id": request.get("id")}).encode() + b"\r\n")

    def answer(self, command, arguments):
        self.heard.append(arguments.get("command-line", command))
        match command:
            case "query-target":
                return {"arch": self.arch}
            case "query-status":
                return {"running": self.running, "status": "running" if self.running else "paused"}
            case "stop" | "cont":
                self.running = command == "cont"
                return {}
            case "query-cpus-fast":
                return [{"cpu-index": 0}]
            case "query-chardev":
                return [{"label": "gdb"}]
            case _:
                return {}


def attach(path):
    with attached(path, None, lambda arch: Build()):
        pass


def test_no_such_socket(tmp_path):
    with pytest.raises(UsageError, match="cannot connect to --qmp"):
        attach(str(tmp_path / "none"))


def test_nobody_listens_at_a_port():
    with pytest.raises(UsageError, match="cannot connect"):
        attach("localhost:1")


def test_not_a_qmp_socket(tmp_path):
    with serving(tmp_path / "s", lambda connection: connection.sendall(b"QEMU 7 monitor\n")) as path:
        with pytest.raises(UsageError, match="not a QMP socket: it says b'QEMU 7'") as caught:
            attach(path)
        assert "-qmp" in caught.value.remedy


def test_a_socket_that_hangs_up(tmp_path):
    with (
        serving(tmp_path / "s", lambda connection: None) as path,
        pytest.raises(UsageError, match="hangs up"),
    ):
        attach(path)


def test_a_socket_in_use_does_not_greet(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "CONNECT_SECONDS", 0.1)
    with serving(tmp_path / "s", lambda connection: connection.recv(1)) as path:
        with pytest.raises(UsageError, match="in use, or no QMP socket") as caught:
            attach(path)
        assert "second -qmp" in caught.value.remedy


def test_an_architecture_that_is_not_known(tmp_path):
    qemu = FakeQemu("riscv64")
    with (
        serving(tmp_path / "s", qemu.serve) as path,
        pytest.raises(WalkError, match="riscv64; known are x86_64"),
    ):
        attach(path)
    assert "stop" not in qemu.heard


@contextmanager
def session(tmp_path, qemu):
    with serving(tmp_path / "s", qemu.serve) as path:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        qmp = Qmp.connect(sock, foreign.Deadline.after(5))
        yield Foreign(qmp, None)
        qmp.close(foreign.Deadline.after(5))


@pytest.mark.parametrize("running", [True, False])
def test_it_is_left_as_it_was(tmp_path, running):
    qemu = FakeQemu(running=running)
    with session(tmp_path, qemu) as attached_to:
        with suppress(WalkError), attached_to.held():
            assert not qemu.running
            raise WalkError("something fails inside")
        assert qemu.running is running
        assert ("stop" in qemu.heard, "cont" in qemu.heard) == (running, running)


def test_a_processor_that_it_has_not(tmp_path):
    with session(tmp_path, FakeQemu()) as attached_to, pytest.raises(UsageError, match="no processor 3"):
        attached_to.registers(foreign.Arch.X86_64, 3)


def test_a_gdbstub_of_somebody_elses_is_not_taken_away(tmp_path):
    qemu = FakeQemu("aarch64")
    with session(tmp_path, qemu) as attached_to, pytest.raises(HostwalkError, match="not named") as caught:
        attached_to.registers(foreign.Arch.ARM64, 0)
    assert "--gdb" in caught.value.remedy
    assert not [line for line in qemu.heard if line.startswith("gdbserver")]
