"""Breakpoints: what QEMU is told, on a machine that only notes it."""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from hostwalk.errors import GuestHungError, MachineDiedError
from hostwalk.machine import breakpoints as module
from hostwalk.machine.breakpoints import NAMES, Breakpoints, Hit
from hostwalk.target import Arch, Target

ENTRY, BACK = 0xFFFF_0000, 0xFFFF_1000


class Machine:
    """A machine whose guest stops when a test says so."""

    def __init__(self, cpus: int = 1) -> None:
        self.target = Target(Arch.X86_64, "debian:6.12", cpus=cpus)
        self.gdb = self
        self.qmp = None
        self.running = True
        self.pcs = [0] * cpus
        self.said: list[tuple[object, ...]] = []
        self.steps = True
        self.on_stop = lambda: None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        yield

    def run_on(self) -> None:
        self.said.append(("run",))
        self.running = True

    def watch(self) -> None:
        """It is well."""

    def set_breakpoint(self, address: int, qmp: object, *, there: bool) -> None:
        self.said.append((there, address))

    def start_step(self, cpu: int) -> None:
        self.said.append(("step", cpu))
        if self.steps:
            self.on_stop()

    def read(self, cpu: int, names: Iterable[str], qmp: object) -> dict[str, int]:
        return dict.fromkeys(names, 0) | {"rip": self.pcs[cpu], "rax": (1 << 64) - 22}

    def stop_at(self, *pcs: int) -> None:
        self.pcs, self.running = list(pcs), False
        self.on_stop()


def test_a_point_is_stepped_over_and_stays() -> None:
    machine = Machine()
    with Breakpoints(machine) as points:  # type: ignore[arg-type]
        points.add([ENTRY])
        assert points.hits() == ()
        machine.stop_at(ENTRY)
        assert select.select([points.fileno()], [], [], 0)[0]
        (hit,) = points.hits()
        assert (hit.pc, hit.result) == (ENTRY, -22)
        assert not select.select([points.fileno()], [], [], 0)[0]
        points.go_on([hit])
        assert machine.said == [(True, ENTRY), (False, ENTRY), ("step", 0), (True, ENTRY), ("run",)]


def test_a_point_that_is_gone_needs_no_step() -> None:
    machine = Machine()
    with Breakpoints(machine) as points:  # type: ignore[arg-type]
        points.add([BACK, BACK])
        points.remove(BACK)
        assert machine.said == [(True, BACK)]
        machine.stop_at(BACK)
        hits = points.hits()
        points.remove(BACK)
        points.go_on(hits)
    assert machine.said == [(True, BACK), (False, BACK), ("run",), ("run",)]


def test_only_processors_at_a_point_count() -> None:
    machine = Machine(cpus=2)
    with Breakpoints(machine) as points:  # type: ignore[arg-type]
        points.add([ENTRY])
        machine.stop_at(BACK, ENTRY)
        assert [hit.cpu for hit in points.hits()] == [1]


def test_all_are_taken_away_and_the_guest_runs_at_the_end() -> None:
    machine = Machine()
    with Breakpoints(machine) as points:  # type: ignore[arg-type]
        points.add([ENTRY, BACK])
        machine.stop_at(ENTRY)
    assert sorted(machine.said[2:4]) == [(False, ENTRY), (False, BACK)]
    assert machine.running
    machine.on_stop()


def test_a_processor_that_does_not_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP_SECONDS", 0.01)
    machine = Machine()
    with Breakpoints(machine) as points:  # type: ignore[arg-type]
        points.add([ENTRY])
        machine.steps = False
        machine.stop_at(ENTRY)
        with pytest.raises(GuestHungError, match="did not get past 0xffff0000"):
            points.go_on(points.hits())


def test_a_machine_that_died_has_nothing_to_be_taken_away() -> None:
    machine = Machine()

    def die(*_: object, **__: object) -> None:
        raise MachineDiedError("gone")

    with Breakpoints(machine) as points:  # type: ignore[arg-type]
        points.add([ENTRY])
        machine.set_breakpoint = die  # type: ignore[method-assign]
    assert points.fileno() == -1


def test_the_guest_runs_on_where_its_points_cannot_be_taken_away() -> None:
    machine = Machine()

    def late(*_: object, **__: object) -> None:
        raise GuestHungError("QEMU's gdbstub did not answer")

    with Breakpoints(machine) as points:  # type: ignore[arg-type]
        points.add([ENTRY])
        machine.stop_at(ENTRY)
        machine.set_breakpoint = late  # type: ignore[method-assign]
    assert machine.running


def test_arm64_has_registers_of_its_own() -> None:
    values = dict.fromkeys(NAMES[Arch.ARM64], 0) | {"pc": 8, "sp": 16, "x0": 1, "x5": 6, "x30": 9}
    hit = Hit(Arch.ARM64, 0, values)
    assert (hit.pc, hit.sp, hit.arguments, hit.result) == (8, 16, (1, 0, 0, 0, 0, 6), 1)
