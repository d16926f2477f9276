import io
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hostwalk.deadline import Deadline
from hostwalk.errors import GuestCrashError, GuestHungError, MachineDiedError
from hostwalk.machine import console as console_module
from hostwalk.machine.console import KEPT_BYTES, Console
from hostwalk.machine.launch import _wire

PANIC = (
    b"[ 1.0] Kernel panic - not syncing: dead\r\n[ 1.1] ---[ end Kernel panic - not syncing: dead ]---\r\n"
)


Pair = tuple[Console, io.FileIO]


@pytest.fixture
def pair() -> Iterator[Pair]:
    printed, theirs = os.pipe()
    with os.fdopen(theirs, "wb", buffering=0) as guest, os.fdopen(printed, "rb", buffering=0):
        yield Console(printed, theirs), guest


def test_what_is_typed_arrives() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as keyboard, os.fdopen(write, "wb", buffering=0):
        Console(read, write).send("echo 1\n")
        assert keyboard.read(100) == b"echo 1\n"


def test_bytes_printed_one_by_one_find_room_though_nobody_reads() -> None:
    with ExitStack() as stack:
        wires = _wire(stack, -1)
        os.set_blocking(wires.printed, False)
        for _ in range(20_000):
            os.write(wires.printed, b"x")
        assert len(Console(wires.ends.console, wires.ends.keys).text) == 20_000


def test_nothing_is_lost_whoever_reads(pair: Pair) -> None:
    console, guest = pair
    assert console.silent
    guest.write(b"one\r\ntwo ready\r\nthree")
    assert console.drain()
    assert not console.drain()
    console.expect("ready", Deadline.after(1))
    guest.write(b" four\r\n")
    console.expect("three four", Deadline.after(1))
    assert console.text == "one\ntwo ready\nthree four\n"
    assert console.tail(1) == "three four"
    assert not console.silent


def test_expect_looks_behind_the_last_match(pair: Pair) -> None:
    console, guest = pair
    guest.write(b"prompt> first\r\nprompt> second\r\n")
    assert console.expect(r"prompt> (\w+)", Deadline.after(1))[1] == b"first"
    assert console.expect(r"prompt> (\w+)", Deadline.after(1))[1] == b"second"
    with pytest.raises(GuestHungError, match="did not show 'prompt"):
        console.expect("prompt>", Deadline.after(0.02))


def test_expect_reports_a_crash_instead_of_a_time_out(pair: Pair) -> None:
    console, guest = pair
    guest.write(PANIC)
    with pytest.raises(GuestCrashError, match="Kernel panic - not syncing: dead") as caught:
        console.expect("login:", Deadline.after(0.02))
    assert "end Kernel panic" in caught.value.evidence.report


def test_the_end_of_the_console_is_told(pair: Pair) -> None:
    console, guest = pair
    guest.write(b"last words")
    guest.close()
    with pytest.raises(MachineDiedError) as caught:
        console.expect("never", Deadline.after(1))
    assert caught.value.evidence.console == "last words"
    assert not console.drain()


def test_only_fatal_reports_raise(pair: Pair) -> None:
    console, guest = pair
    guest.write(b"[ 1.0] ------------[ cut here ]------------\n[ 1.1] WARNING: CPU: 0 PID: 1 at mm/gup.c:1\n")
    guest.write(b"[ 1.2] ---[ end trace 0 ]---\n")
    console.check()
    assert [report.kind for report in console.reports] == ["warning"]
    guest.write(PANIC)
    with pytest.raises(GuestCrashError):
        console.check()


def test_a_report_is_waited_for_until_it_is_whole(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    console, guest = pair
    guest.write(PANIC[:45])
    waits: list[float] = []
    drain = Console.drain

    def late(self: Console, deadline: Deadline | None = None) -> bool:
        if deadline:
            waits.append(deadline.seconds)
            guest.write(PANIC[45:])
        return drain(self, deadline)

    monkeypatch.setattr(console_module.Console, "drain", late)
    with pytest.raises(GuestCrashError) as caught:
        console.check()
    assert "end Kernel panic" in caught.value.evidence.report
    assert waits == [console_module.QUIET_SECONDS]


def test_memory_is_bounded(pair: Pair) -> None:
    console, guest = pair
    line = b"x" * 999 + b"\n"
    for _ in range(KEPT_BYTES // 1000 + 100):
        guest.write(line)
        console.drain()
    guest.write(b"the end\n")
    assert len(console.text) == KEPT_BYTES
    console.expect("the end", Deadline.after(1))


def test_wires_that_no_qemu_took_leave_nothing() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with ExitStack() as stack:
            _wire(stack, -1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_storm_of_reports_is_not_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    console, guest = pair
    monkeypatch.setattr(console_module, "SETTLE_SECONDS", 0.05)
    drain = Console.drain

    def storm(self: Console, deadline: Deadline | None = None) -> bool:
        guest.write(b"[ 1.0] BUG: Bad page map in process a  pte:1 pmd:2\r\n" * 10)
        return drain(self, deadline)

    monkeypatch.setattr(console_module.Console, "drain", storm)
    with pytest.raises(GuestCrashError) as caught:
        console.check()
    assert len(caught.value.evidence.report) <= console_module.TEXT_TOLD + 100
