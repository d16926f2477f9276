"""The agent's own program against a host that misbehaves, and subjects that do."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

import pytest

from hostwalk.deadline import Deadline
from hostwalk.guest.wire import Codec, Frame, FrameStream
from hostwalk.image.layout import Layout


@dataclass
class Raw:
    """Frames, with nothing between them and the program."""

    port: socket.socket
    abi: Layout
    seq: int = 0

    def __post_init__(self) -> None:
        self.codec = Codec(self.abi)
        self.stream = FrameStream(self.port, self.codec)

    def send(self, op: str | int, *args: int, subject: int = 0, payload: bytes = b"") -> int:
        self.seq += 1
        number = op if isinstance(op, int) else self.abi[f"HOSTWALK_OP_{op}"]
        self.stream.send(Frame(number, self.seq, subject, args=args, payload=payload), Deadline.after(2), "")
        return self.seq

    def receive(self) -> Frame:
        return self.stream.receive(Deadline.after(2), "")

    def ask(self, op: str | int, *args: int, subject: int = 0, payload: bytes = b"") -> Frame:
        seq = self.send(op, *args, subject=subject, payload=payload)
        reply = self.receive()
        assert reply.seq == seq
        return reply

    def syscall(self, subject: int, name: str, *args: int) -> Frame:
        return self.ask("SYSCALL", self.abi[f"__NR_{name}"], *args, subject=subject)

    def spawn(self) -> int:
        return self.ask("SPAWN").args[0]


@pytest.fixture
def raw(port: socket.socket, abi: Layout) -> Raw:
    return Raw(port, abi)


def test_garbage_is_answered_and_skipped(raw: Raw) -> None:
    raw.port.sendall(b"garbage! " * 40)
    refused = raw.receive()
    assert (refused.status, refused.seq) == (raw.abi["HOSTWALK_BAD_OP"], 0)
    assert raw.ask("HELLO").status == 0


def test_an_oversize_frame_is_refused_by_its_number(raw: Raw) -> None:
    header = bytearray(raw.codec.pack(Frame(1, 77, 0)))
    struct.pack_into("<I", header, raw.abi["offsetof(struct hostwalk_frame, size)"], (1 << 20) + 1)
    raw.port.sendall(header)
    refused = raw.receive()
    assert (refused.status, refused.seq) == (raw.abi["HOSTWALK_BAD_OP"], 77)
    assert raw.ask("HELLO").status == 0


@pytest.mark.parametrize("op", [0, 5, 31, 41, 0xFFFFFFFF])
def test_unknown_operations_are_refused(raw: Raw, op: int) -> None:
    subject = raw.spawn()
    assert raw.ask(op).status == raw.abi["HOSTWALK_BAD_OP"]
    assert raw.ask(op, subject=subject, payload=bytes(100000)).status == raw.abi["HOSTWALK_BAD_OP"]
    assert raw.syscall(subject, "getpid").args[0] > 0


def test_a_subject_that_never_was(raw: Raw) -> None:
    for reply in (raw.syscall(99, "getpid"), raw.ask("REAP", 99)):
        assert (reply.status, reply.args[:2]) == (raw.abi["HOSTWALK_NO_SUBJECT"], (0, 0))


def test_replies_too_large_are_refused(raw: Raw) -> None:
    subject = raw.spawn()
    nr, limit = raw.abi["__NR_getpid"], raw.abi["HOSTWALK_PAYLOAD_MAX"]
    reply = raw.ask("SYSCALL", nr, 0, 0, 0, 0, 0, 0, limit + 1, subject=subject)
    assert reply.status == raw.abi["HOSTWALK_BAD_OP"]
    largest = raw.ask("SYSCALL", nr, 0, 0, 0, 0, 0, 0, limit, subject=subject, payload=b"x" * limit)
    assert largest.payload == b"x" * limit


def test_a_busy_subject_holds_nobody_up(raw: Raw) -> None:
    busy, idle = raw.spawn(), raw.spawn()
    spin = raw.send("SPIN", 60, subject=busy)
    assert raw.syscall(idle, "getpid").status == 0
    assert raw.syscall(busy, "getpid").status == raw.abi["HOSTWALK_BAD_OP"]
    assert raw.receive().seq == spin


def test_reaping_a_busy_subject_answers_both(raw: Raw) -> None:
    busy = raw.spawn()
    spin = raw.send("SPIN", 60000, subject=busy)
    reap = raw.send("REAP", busy)
    first, second = raw.receive(), raw.receive()
    assert (first.seq, first.status, first.args[0]) == (
        spin,
        raw.abi["HOSTWALK_NO_SUBJECT"],
        raw.abi["SIGKILL"],
    )
    assert (second.seq, second.status, second.args[0]) == (reap, 0, raw.abi["SIGKILL"])


def test_a_dead_subject_keeps_its_status_until_it_is_reaped(raw: Raw) -> None:
    subject = raw.spawn()
    for reply in (raw.syscall(subject, "exit_group", 3), raw.syscall(subject, "getpid")):
        assert (reply.status, reply.args[0]) == (raw.abi["HOSTWALK_NO_SUBJECT"], 3 << 8)
    assert (raw.ask("REAP", subject).args[0], raw.ask("REAP", subject).status) == (3 << 8, 3)


def test_a_subject_that_was_written_over_is_killed(raw: Raw) -> None:
    subject = raw.spawn()
    high = raw.abi["__NR_dup3"]
    fd = raw.abi["F_DUPFD"]
    assert raw.syscall(subject, "fcntl", 512, fd, 20).args[0] == 20
    assert high
    reply = raw.ask("SYSCALL", raw.abi["__NR_write"], 20, 0x400000, 200, subject=subject)
    assert (reply.status, reply.args[0]) == (raw.abi["HOSTWALK_NO_SUBJECT"], raw.abi["SIGKILL"])


def test_crashes_are_for_guests_only(raw: Raw) -> None:
    for kind in (raw.abi["HOSTWALK_CRASH_PANIC"], 99):
        assert raw.ask("CRASH", kind).status == raw.abi["HOSTWALK_BAD_OP"]
