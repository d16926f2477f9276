import os
from types import SimpleNamespace

import pytest

from hostwalk.errors import GuestCrashError, GuestHungError, HostwalkError
from hostwalk.machine import Machine
from hostwalk.machine.pace import WINDOW, Pace, processor_seconds
from hostwalk.machine.reports import Report


class Host:
    """A clock, and a process that gets ``share`` of a processor."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def pace(self) -> Pace:
        return Pace(1, lambda: self.now, lambda _pid: self.used)

    def passes(self, pace: Pace, seconds: int, share: float) -> None:
        for _ in range(seconds):
            self.now += 1
            self.used += share
            pace.note()


def test_a_guest_that_spins_has_its_processor() -> None:
    host = Host()
    pace = host.pace()
    host.passes(pace, 30, 0.95)
    assert not pace.starved


def test_a_host_that_is_too_busy_starves_it() -> None:
    host = Host()
    pace = host.pace()
    host.passes(pace, 30, 0.2)
    assert pace.starved


def test_a_host_that_slept_starves_it() -> None:
    host = Host()
    pace = host.pace()
    host.passes(pace, 20, 1.0)
    host.now += 120
    pace.note()
    assert pace.starved


def test_what_was_long_ago_does_not_count() -> None:
    host = Host()
    pace = host.pace()
    host.passes(pace, 600, 0.0)
    host.passes(pace, int(WINDOW), 1.0)
    assert not pace.starved


def test_the_time_of_a_process() -> None:
    before = processor_seconds(os.getpid())
    while processor_seconds(os.getpid()) == before:
        sum(range(10_000))
    assert before > 0
    assert processor_seconds(1 << 30) == 0


@pytest.mark.parametrize(
    ("kind", "starved", "blamed"),
    [
        ("soft-lockup", True, GuestHungError),
        ("soft-lockup", False, GuestCrashError),
        ("oops", True, GuestCrashError),
    ],
)
def test_who_is_blamed_for_a_report(kind: str, starved: bool, blamed: type[HostwalkError]) -> None:
    reports = (Report("warning", "w", "w", fatal=False), Report(kind, "stuck for 22s", "...", fatal=True))
    machine = SimpleNamespace(reports=reports, _pace=SimpleNamespace(starved=starved))
    error = Machine._blamed(machine, GuestCrashError("the guest's kernel reported: stuck for 22s"))  # type: ignore[arg-type]
    assert type(error) is blamed
    assert "stuck for 22s" in error.message
