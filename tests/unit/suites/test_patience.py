"""A test's time is that in which the host let its guest run, and never without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostwalk.suites import patience
from hostwalk.suites.patience import Patience, run_queue_delays


class Host:
    """A clock, and for how long the two threads of a QEMU had to wait."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.delays = {"7": 50.0, "8": 2.0}

    def monotonic(self) -> float:
        return self.now

    def read(self, _pid: int) -> dict[str, float]:
        return dict(self.delays)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(patience, "time", made)
    return made


def test_on_a_host_with_nothing_else_to_do_it_is_a_deadline(host: Host) -> None:
    limit = Patience.of(30.0, 7, host.read)
    assert (limit.remaining, limit.seconds, limit.expired) == (30.0, 30.0, False)
    host.now += 30.0
    assert limit.expired


def test_the_time_that_another_process_had_is_given_back(host: Host) -> None:
    limit = Patience.of(30.0, 7, host.read)
    host.now += 40.0
    host.delays = {"7": 65.0, "8": 3.0, "9": 1.0}
    assert limit.remaining == pytest.approx(5.0)
    assert limit.share == pytest.approx(25 / 40)
    host.now += 5.0
    assert limit.expired


def test_a_host_that_never_runs_it_does_not_keep_us_for_ever(host: Host) -> None:
    limit = Patience.of(30.0, 7, host.read)
    host.now += 299.0
    host.delays["7"] += 10000.0
    assert limit.remaining == pytest.approx(1.0)
    host.now += 1.0
    assert limit.expired


def test_a_process_that_has_gone_was_not_kept_waiting(host: Host) -> None:
    limit = Patience.of(30.0, 7, host.read)
    host.delays = {}
    host.now += 30.0
    assert limit.expired


def test_delays_are_those_of_all_threads_of_a_process() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this kernel does not count them (CONFIG_SCHED_INFO)")
    assert str(os.getpid()) in run_queue_delays(os.getpid())
    assert run_queue_delays(0) == {}
