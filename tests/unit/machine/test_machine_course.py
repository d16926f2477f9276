"""How a machine is halted: recorded, and again where it was halted before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostwalk.cell import Cell
from hostwalk.errors import GuestHungError, MachineError, UsageError
from hostwalk.machine import course
from hostwalk.machine.course import Course, Mark, Recorded, Replayed, ram_digest
from hostwalk.target import Arch, Target


class Qmp:
    """Counts instructions: a replay stops at its break, and gets no further than ``end``."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.said: list[str] = []

    def execute(self, command: str, arguments: Any = None, deadline: Any = None) -> Any:
        del deadline
        self.said.append(command)
        if command == "stop":
            self.machine.running = False
        elif command == "replay-break":
            self.machine.aim = arguments["icount"]
        elif command == "query-replay":
            return {"icount": self.machine.executed()}
        return {}

    def hmp(self, line: str, cpu: int = 0) -> str:
        del cpu
        return self.machine.shown if line == "info registers" else self.machine.code


class Console:
    def drain(self, _deadline: object) -> bool:
        return False


class Machine:
    """A machine of one page of RAM."""

    def __init__(self, ram: Path, arch: Arch = Arch.X86_64) -> None:
        ram.write_bytes(bytes(4096))
        self.ram_fd, self.ram_size = os.open(ram, os.O_RDWR), 4096
        self.target = Target(arch)
        self.qmp, self.console, self.pid = Qmp(self), Console(), os.getpid()
        self.running, self.count, self.aim, self.end = True, 0, 1 << 60, 1 << 60
        self.held = False
        self.shown, self.code = "HLT=0", ""

    def executed(self) -> int:
        if self.running:
            self.count = min(self.count + 40, self.aim, self.end)
            self.running = self.count != self.aim
        return self.count

    def hold(self) -> None:
        if self.running:
            self.qmp.execute("stop")

    def resume(self) -> None:
        self.running = True


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Any]:
    made = Machine(tmp_path / "ram")
    yield made
    os.close(made.ram_fd)


@pytest.fixture(autouse=True)
def nobody_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def paused(_pid: int) -> Iterator[None]:
        yield

    monkeypatch.setattr(course, "paused", paused)


def test_a_machine_that_was_stopped_before_is_not_to_go_on(machine: Any) -> None:
    assert Course().halt(machine)
    assert not Course().halt(machine)
    assert machine.qmp.said == ["stop"]


def test_each_halt_of_a_recording_leaves_a_mark(machine: Any, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        recorded = Recorded(log.fileno(), 1 << 20, lambda: "a reading")
        machine.count, machine.shown = 78, "HLT=1"
        assert recorded.halt(machine)
        os.pwrite(machine.ram_fd, b"x", 0)
        assert not recorded.halt(machine)
        assert [(mark.icount, mark.what) for mark in recorded.marks] == [(77, "a reading")] * 2
        assert recorded.marks[0].ram != recorded.marks[1].ram


@pytest.mark.parametrize(
    ("arch", "shown", "code", "rests"),
    [
        (Arch.X86_64, "... HLT=1", "", True),
        (Arch.X86_64, "... HLT=0", "", False),
        (Arch.ARM64, " PC=ffff800080df1234 X00=0", "ffff800080df1230: 0xd503207f", True),
        (Arch.ARM64, " PC=ffff800080df1234 X00=0", "ffff800080df1230: 0xd65f03c0", False),
    ],
)
def test_where_processors_idle_the_count_is_that_before(
    tmp_path: Path, arch: Arch, shown: str, code: str, rests: bool
) -> None:
    machine: Any = Machine(tmp_path / "ram", arch)
    machine.count, machine.shown, machine.code = 500, shown, code
    with (tmp_path / "log").open("w") as log:
        recorded = Recorded(log.fileno(), 1 << 20)
        recorded.halt(machine)
    assert recorded.marks[0].icount == 500 - rests
    assert (recorded.marks[0].ram == course.BUSY) != rests


def test_a_log_is_bounded(machine: Any, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as log:
        recorded = Recorded(log.fileno(), 1 << 20)
        log.truncate(1 << 20)
        recorded.watch(machine)
        log.truncate((1 << 20) + 1)
        with pytest.raises(UsageError, match="larger than 1 MiB"):
            recorded.watch(machine)


def test_a_replay_halts_at_the_marks_and_compares(machine: Any) -> None:
    good = ram_digest(machine)
    marks = (Mark(100, good), Mark(100, good), Mark(250, "another"))
    reached: list[int] = []
    replayed = Replayed(marks, lambda _machine, number: reached.append(machine.count))
    machine.running = False
    replayed.start(machine)
    for _ in marks:
        assert replayed.halt(machine)
        replayed.go_on(machine)
    assert (replayed.equal, reached) == ([True, True, False], [100, 100, 250])
    assert machine.running, "after the last mark it runs to its end"
    with pytest.raises(MachineError, match="a reading that was not made"):
        replayed.halt(machine)


def test_a_mark_that_is_not_compared_costs_no_digest(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    digests: list[object] = []
    monkeypatch.setattr(course, "ram_digest", digests.append)
    replayed = Replayed((Mark(100, course.BUSY), Mark(200, "a digest")))
    machine.running = False
    replayed.start(machine)
    assert replayed.halt(machine)
    assert (replayed.equal, digests) == ([True], [])
    replayed.go_on(machine)
    replayed.halt(machine)
    assert (replayed.equal, digests) == ([True, False], [machine])


def test_a_replay_that_gets_no_further_ends(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "STALLED_POLLS", 20)
    machine.end = 99
    with pytest.raises(GuestHungError, match="no further than instruction 99 of 100"):
        Replayed((Mark(100, ""),)).halt(machine)


def test_a_replay_that_stops_elsewhere_is_not_what_was_recorded(machine: Any) -> None:
    machine.aim = 60
    with pytest.raises(MachineError, match="stopped at instruction 60, not at 100"):
        Replayed((Mark(100, ""),)).halt(machine)


def test_a_guest_that_is_ahead_of_the_host_of_its_replay_is_asked(machine: Any) -> None:
    """It stops at the next mark by itself: what is asked of it on the way there has been answered already."""
    janitor = SimpleNamespace(settled=0)
    janitor.settle = lambda: setattr(janitor, "settled", janitor.settled + 1)
    cell: Any = SimpleNamespace(machine=machine, janitor=janitor)
    for way, running, held, asked in (
        (Course(), True, False, 1), (Course(), False, False, 0),
        (Replayed(()), False, False, 1), (Replayed(()), False, True, 0),
    ):  # fmt: skip
        machine.course, machine.running, machine.held, janitor.settled = way, running, held, 0
        Cell.settle(cell)
        assert janitor.settled == asked


def test_a_halt_is_where_the_guest_has_come_to_rest(machine: Any, tmp_path: Path) -> None:
    held, hold = [], machine.hold

    def hold_at_rest_the_fourth_time() -> None:
        hold()
        held.append(True)
        machine.shown = "HLT=1" if len(held) == 4 else "HLT=0"

    machine.hold = hold_at_rest_the_fourth_time
    with (tmp_path / "log").open("w+b") as log:
        recorded = Recorded(log.fileno(), 1 << 20)
        assert recorded.halt(machine)
    assert [mark.ram == course.BUSY for mark in recorded.marks] == [False]
