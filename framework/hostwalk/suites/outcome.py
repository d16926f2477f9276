"""What a program of a suite came to: a result for each line that it judged, and one for how it ended. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from hostwalk.suites.ktap import Output, Point

KSFT_PASS, KSFT_FAIL, KSFT_XFAIL, KSFT_XPASS, KSFT_SKIP = range(5)
"""tools/testing/selftests/kselftest.h"""
CANNOT_RUN, NOT_THERE, BY_SIGNAL = 126, 127, 128
_OURS = "hostwalk: "
_OWN_TIME = "Test terminated by timeout"
_SEPARATOR = " / "
_EXIT = re.compile(r"exit=(\d+)")
_LIBRARY = re.compile(r"error while loading shared libraries: ([^:\s]+):")


class Outcome(StrEnum):
    """What a test came to."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    SKIP = "skip"
    XFAIL = "xfail"
    CRASH = "crash"
    TIMEOUT = "time-out"
    MISMATCH = "plan mismatch"
    LEAK = "leak"
    UNPROVEN = "unproven"

    @property
    def good(self) -> bool:
        """Whether it is no failure."""
        return self in (Outcome.PASS, Outcome.SKIP, Outcome.XFAIL)


@dataclass(frozen=True)
class Ending:
    """How a program ended: its exit status as a shell has it; ``timeout`` seconds that were too few; a kernel's crash.

    All None is an output of which only the text is known. ``share`` is that of the time in which the host ran
    the guest.
    """

    status: int | None = None
    timeout: float | None = None
    crash: str | None = None
    lost: str | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Result:
    """One test: its name with those of its parents, what it came to and why, and all that it printed."""

    name: str
    outcome: Outcome
    reason: str = ""
    text: str = ""
    seconds: float = 0.0


def judged(name: str, output: Output, ending: Ending) -> tuple[Result, ...]:
    """Return the results of a program: those of its lines, then what they do not say: how it ended."""
    lines = tuple(_results(output, output.tests, name))
    last = (*_ended(name, output, ending, lines), *_plan(name, output, ending))
    if lines or last:
        return (*lines, *last)
    return (alone(name, output.text, ending),)


def alone(
    name: str,
    text: str,
    ending: Ending,
    meaning: Callable[[int | None], tuple[Outcome, str]] | None = None,
) -> Result:
    """Return the one result of a program that printed none: by its status, the reason by its last words.

    ``meaning`` says what a status means, by default as in tools/testing/selftests/kselftest.h.
    """
    outcome, reason = (meaning or _by_status)(ending.status)
    note = noted(text) or f": {_last_words(text)}"
    if ending.status == NOT_THERE and (lacking := _LIBRARY.search(text)):
        outcome, reason, note = Outcome.SKIP, f"the guest has no {lacking[1]}", ""
    elif outcome in (Outcome.SKIP, Outcome.XFAIL):
        reason, note = _last_words(text), ""
    return Result(name, outcome, reason + (note if reason else noted(text)), text)


def noted(text: str) -> str:
    """Return what hostwalk itself said of a command, as the end of a reason: a bound was met, it cannot run here."""
    said = [line.partition(_OURS)[2] for line in text.splitlines() if _OURS in line]
    return f": {'; '.join(said)}" if said else ""


def _results(output: Output, tests: tuple[Point, ...], parent: str) -> Iterator[Result]:
    """Yield the innermost tests, and a parent where it says more than its subtests."""
    for test in tests:
        name = f"{parent}{_SEPARATOR}{test.name}"
        below = tuple(_results(output, test.subtests, name))
        yield from below
        outcome, reason = outcome_of(test)
        if outcome is Outcome.FAIL and _OWN_TIME in output.of(test):
            outcome, reason = Outcome.TIMEOUT, "its own time was up (kselftest_harness.h)"
        if not below or (test.finished and not outcome.good and all(each.outcome.good for each in below)):
            yield Result(name, outcome, reason, output.of(test))
        if test.planned is not None and test.planned != len(test.subtests):
            reason = f"{test.planned} planned, {len(test.subtests)} ran"
            yield Result(name, Outcome.MISMATCH, reason, output.of(test))


def outcome_of(test: Point) -> tuple[Outcome, str]:
    """Return what a result line says, and why; an unknown directive counts for nothing, as ktap.rst has it."""
    if not test.finished:
        return Outcome.CRASH, "it has no result: the output ends before"
    if test.directive == "SKIP":
        return Outcome.SKIP, _reason(test)
    if test.directive in ("XFAIL", "TODO") and (test.directive == "XFAIL" or not test.ok):
        return Outcome.XFAIL, _reason(test)
    if test.directive == "TIMEOUT":
        return Outcome.TIMEOUT, test.why
    status = _EXIT.fullmatch(test.why)
    if status and int(status[1]) > BY_SIGNAL and not test.ok:
        return Outcome.CRASH, ended_by(int(status[1]))
    reason = f"{test.directive} {test.why}".strip()
    return (Outcome.PASS if test.ok else Outcome.FAIL), reason


def _reason(test: Point) -> str:
    """Return why; nothing where kselftest.h has put the name in its place."""
    return "" if test.why == test.name else test.why


def _ended(name: str, output: Output, ending: Ending, lines: tuple[Result, ...]) -> Iterator[Result]:
    """Yield what its end adds: a crash, a time-out, a bail-out, a status that no line explains."""
    yield from broken_off(name, output.text, ending, output.tests[-1].name if output.tests else "")
    if output.bailed is not None and not _summed_up(output, lines):
        yield Result(name, Outcome.FAIL, f"Bail out! {output.bailed}".strip(), output.text)
    elif output.skipped is not None and not output.tests:
        yield Result(name, Outcome.SKIP, output.skipped, output.text)
    elif lines and _unexplained(ending.status, lines):
        outcome, reason = _by_status(ending.status)
        yield Result(name, outcome, f"{reason}, which no line explains{noted(output.text)}", output.text)


def broken_off(name: str, text: str, ending: Ending, last: str) -> Iterator[Result]:
    """Yield how a program ended that did not end by itself: the kernel crashed, it was killed, nothing is known of it.

    ``last`` is the last thing that it judged, empty before any.
    """
    after = f"(after {last}){noted(text)}" if last else f"(before any result){noted(text)}"
    if ending.crash is not None:
        yield Result(name, Outcome.CRASH, f"the guest's kernel: {ending.crash} {after}", text)
    elif ending.lost is not None:
        yield Result(name, Outcome.UNPROVEN, f"{ending.lost} {after}", text)
    elif ending.timeout is not None:
        yield Result(name, Outcome.TIMEOUT, f"not ended within {ending.timeout:g} s {after}", text)
    elif ending.status is not None and ending.status > BY_SIGNAL:
        yield Result(name, Outcome.CRASH, f"{ended_by(ending.status)} {after}", text)


def _summed_up(output: Output, lines: tuple[Result, ...]) -> bool:
    """Whether a bail-out only sums up failures: "Bail out! 2 out of 6 tests failed", when all of a plan has run."""
    return output.planned == len(output.tests) and any(not line.outcome.good for line in lines)


def _unexplained(status: int | None, lines: tuple[Result, ...]) -> bool:
    """Whether a program says by its status that it failed, and by no line."""
    said = status in (KSFT_FAIL, CANNOT_RUN, NOT_THERE) or (status or 0) in range(KSFT_SKIP + 1, CANNOT_RUN)
    return said and all(line.outcome.good for line in lines)


def _plan(name: str, output: Output, ending: Ending) -> Iterator[Result]:
    """Yield a plan that was not kept, where nothing else says why."""
    broken_off = ending.crash or ending.lost or ending.timeout or (ending.status or 0) > BY_SIGNAL
    if (
        output.planned is None
        or output.planned == len(output.tests)
        or broken_off
        or output.bailed is not None
    ):
        return
    if ending.status == KSFT_SKIP and not output.tests:
        return
    yield Result(name, Outcome.MISMATCH, f"{output.planned} planned, {len(output.tests)} ran", output.text)


def _by_status(status: int | None) -> tuple[Outcome, str]:
    """Return what an exit status means where nothing else does: tools/testing/selftests/kselftest.h."""
    if status is None:
        return Outcome.CRASH, "it printed no result, and how it ended is not known"
    if status in (KSFT_PASS, KSFT_XPASS):
        return Outcome.PASS, ""
    if status == KSFT_SKIP:
        return Outcome.SKIP, ""
    if status == KSFT_XFAIL:
        return Outcome.XFAIL, ""
    return Outcome.FAIL, ended_by(status)


def _last_words(text: str) -> str:
    """Return the last line with words in it: programs say there why they do not go on."""
    said = (line.strip().lstrip("# ") for line in reversed(text.splitlines()))
    return next((line for line in said if line and not line.startswith(_OURS)), "it does not say why")


def ended_by(status: int) -> str:
    """Say how a program ended: by a signal, or with a status."""
    try:
        return f"killed by {signal.Signals(status - BY_SIGNAL).name}"
    except ValueError:
        return f"ended with status {status}"
