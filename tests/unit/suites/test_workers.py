"""Several steps at once: their order, and that nothing goes on when somebody gives up."""

from __future__ import annotations

from contextlib import closing
from threading import Barrier, Event

import pytest

from hostwalk import process
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.plan import Step
from hostwalk.suites.workers import ran

STEPS = [Step("cow", (f"./{name}",)) for name in "abcd"]
SECONDS = 20.0


def passed(step: Step) -> tuple[Result, ...]:
    return (Result(step.name, Outcome.PASS),)


def test_results_come_in_the_order_of_the_steps_though_a_later_one_ends_first() -> None:
    second = Event()

    def run(step: Step) -> tuple[Result, ...]:
        if step is STEPS[0]:
            assert second.wait(SECONDS)
        if step is STEPS[1]:
            second.set()
        return passed(step)

    assert [result.name for (result,) in ran(run, STEPS, 2)] == [step.name for step in STEPS]


def test_as_many_run_at_once_as_there_are_workers() -> None:
    together = Barrier(4)

    def run(step: Step) -> tuple[Result, ...]:
        together.wait(SECONDS)
        return passed(step)

    assert len(list(ran(run, STEPS, 4))) == 4


def test_who_gives_up_waits_for_no_test_and_begins_none(monkeypatch: pytest.MonkeyPatch) -> None:
    killed, begun = Event(), []

    def run(step: Step) -> tuple[Result, ...]:
        begun.append(step)
        if step is not STEPS[0]:
            assert killed.wait(SECONDS)
        return passed(step)

    monkeypatch.setattr(process, "end_children", killed.set)
    with closing(ran(run, STEPS, 1)) as found:
        next(found)
    assert len(begun) <= 2


def test_a_mistake_of_ours_is_raised_and_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(step: Step) -> tuple[Result, ...]:
        raise ValueError(step.name)

    monkeypatch.setattr(process, "end_children", lambda: None)
    with pytest.raises(ValueError, match="a"):
        list(ran(run, STEPS, 2))
