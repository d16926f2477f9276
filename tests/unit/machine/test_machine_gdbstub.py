import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwalk.deadline import Deadline
from hostwalk.errors import GuestHungError, MachineDiedError, WalkError
from hostwalk.machine import gdbstub as module
from hostwalk.machine.gdbstub import GdbStub, checksum, encode, register_numbers, split_packet, unescape
from hostwalk.machine.qmp import Qmp

TARGET = """<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>
<architecture>aarch64</architecture><xi:include href="core.xml"/><xi:include href="system.xml"/></target>"""
CORE = """<feature name="core"><reg name="x0" bitsize="64"/><reg name="pc" bitsize="64"/></feature>"""
SYSTEM = """<feature name="system"><reg name="SCTLR" bitsize="64" regnum="74"/><reg name="VBAR" bitsize="64"/>
<reg name="TTBR0_EL1" bitsize="64" regnum="100"/><reg name="TTBR0_EL1" bitsize="64" regnum="101"/></feature>"""
DOCUMENTS = {"target.xml": TARGET, "core.xml": CORE, "system.xml": SYSTEM}


def escape(payload: bytes) -> bytes:
    return b"".join(b"}" + bytes([byte ^ 0x20]) if byte in b"#$}*" else bytes([byte]) for byte in payload)


def test_a_packet_has_a_checksum() -> None:
    assert encode(b"OK") == b"$OK#9a"


@given(st.binary(max_size=60), st.binary(max_size=10).filter(lambda rest: b"$" not in rest))
def test_packets_survive_escapes_and_noise(payload: bytes, rest: bytes) -> None:
    noise = rest.replace(b"#", b"+")
    found, left = split_packet(noise + encode(escape(payload)) + rest)
    assert (found, left) == (payload, rest)


@given(st.binary(max_size=40))
def test_unescape_undoes_escape(payload: bytes) -> None:
    assert unescape(escape(payload)) == payload


@pytest.mark.parametrize("data", [b"", b"+", b"$", b"$OK", b"$OK#", b"$OK#9"])
def test_half_a_packet_is_waited_for(data: bytes) -> None:
    payload, left = split_packet(data)
    assert payload is None
    assert split_packet(left + b"$OK#9a"[len(left) :]) == (b"OK", b"")


def test_a_damaged_packet_is_refused() -> None:
    with pytest.raises(WalkError, match="damaged"):
        split_packet(b"$OK#00")


def test_numbers_follow_on_across_includes() -> None:
    numbers = register_numbers(TARGET, DOCUMENTS.__getitem__)
    assert numbers == {"x0": 0, "pc": 1, "sctlr": 74, "vbar": 75, "ttbr0_el1": 100}


class FakeQmp(Qmp):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def hmp(self, line: str, cpu: int | None = None, deadline: Deadline | None = None) -> str:
        self.lines.append(line)
        return ""


def answer(request: bytes) -> bytes:
    if request.startswith(b"qSupported"):
        return b"PacketSize=1000;qXfer:features:read+;multiprocess+"
    if request.startswith(b"qXfer:features:read:"):
        name, where = request[len(b"qXfer:features:read:") :].split(b":")
        start, size = (int(number, 16) for number in where.split(b","))
        chunk = DOCUMENTS[name.decode()].encode()[start : start + min(size, 50)]
        more = start + len(chunk) < len(DOCUMENTS[name.decode()])
        return (b"m" if more else b"l") + escape(chunk)
    if request.startswith(b"p"):
        return int(request[1:], 16).to_bytes(8, "little").hex().encode()
    return b"OK" if request.startswith(b"Hgp1.") else b""


def serve(sock: socket.socket, requests: list[bytes]) -> None:
    data = b""
    while received := sock.recv(4096):
        data += received
        request, data = split_packet(data)
        if request is not None:
            requests.append(request)
            sock.sendall(b"$T02thread:p01.01;#" + b"%02x" % checksum(b"T02thread:p01.01;"))
            sock.sendall(b"+" + encode(answer(request)))


@pytest.fixture
def requests() -> list[bytes]:
    return []


@pytest.fixture
def stub(requests: list[bytes]) -> Iterator[GdbStub]:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve, args=(theirs, requests))
    server.start()
    yield GdbStub(ours)
    ours.close()
    server.join()
    theirs.close()


def test_registers_are_found_by_name_and_stop_replies_ignored(stub: GdbStub, requests: list[bytes]) -> None:
    qmp = FakeQmp()
    names = ("ttbr0_el1", "sctlr_el1", "vbar_el1", "pc", "not_there")
    for _ in range(2):
        assert stub.read(1, names, qmp) == {"ttbr0_el1": 100, "sctlr_el1": 74, "vbar_el1": 75, "pc": 1}
    assert qmp.lines == ["gdbserver chardev:gdb"]
    assert requests.count(b"Hgp1.2") == 2
    assert not [request for request in requests if request.startswith((b"D", b"c", b"vCont"))]


def test_an_ended_qemu_is_told() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(MachineDiedError):
        GdbStub(ours).read(0, ("pc",), FakeQmp())


def test_after_an_answer_that_did_not_come_nothing_more_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    ours, theirs = socket.socketpair()
    stub, qmp = GdbStub(ours), FakeQmp()
    with ours, theirs:
        with pytest.raises(GuestHungError, match="did not answer b'qSupported"):
            stub.set_breakpoint(0x1000, qmp, there=True)
        theirs.recv(4096)
        for ask in (
            lambda: stub.read(0, ("pc",), qmp),
            lambda: stub.set_breakpoint(0x1000, qmp, there=True),
            lambda: stub.start_step(0),
        ):
            with pytest.raises(GuestHungError, match="may be late with that answer"):
                ask()
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(4096)
    assert qmp.lines == ["gdbserver chardev:gdb"]


def test_drain_never_waits_and_never_raises() -> None:
    ours, theirs = socket.socketpair()
    stub = GdbStub(ours)
    stub.drain()
    theirs.sendall(b"$T02#b2" * 1000)
    stub.drain()
    theirs.close()
    stub.drain()
    ours.close()
