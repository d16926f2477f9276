"""Reads what tests of the Linux Test Project print: lib/tst_test.c, lib/tst_res.c (old) and testcases/lib/tst_test.sh.

Pure: text in, frozen values out. A line judges something where it holds TPASS, TFAIL, TBROK, TWARN or TCONF behind
a place; TINFO and TDEBUG are diagnostics. A test of the newer library ends with a summary of what it counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from hostwalk.suites.outcome import (
    CANNOT_RUN,
    Ending,
    Outcome,
    Result,
    alone,
    broken_off,
    ended_by,
    noted,
)

BITS = {1: "TFAIL", 2: "TBROK", 4: "TWARN", 32: "TCONF"}
"""What the bits of an exit status stand for: include/tst_res_flags.h."""
_OUTCOMES = {
    "TPASS": Outcome.PASS, "TFAIL": Outcome.FAIL, "TBROK": Outcome.FAIL, "TWARN": Outcome.FAIL,
    "TCONF": Outcome.SKIP,
}  # fmt: skip
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_LINE = re.compile(r"(\S+:\d+|\S+\s+\d+):?\s+(T[A-Z]+)\s*:\s*(.*)")
_COUNT = re.compile(r"(passed|failed|broken|skipped|warnings)\s+(\d+)")
_WORDS = {"passed": "TPASS", "failed": "TFAIL", "broken": "TBROK", "skipped": "TCONF", "warnings": "TWARN"}
_KILLED, _TIMED_OUT = "Test killed! (timeout?)", "Test timeouted"
"""What LTP says of any SIGKILL, and before it sends one of its own: fork_testrun and alarm_handler, tst_test.c."""


@dataclass(frozen=True)
class Line:
    """One judgement: the place that it comes from, its type (TPASS ...), what it says, and the whole line."""

    where: str
    type: str
    message: str
    text: str


@dataclass(frozen=True)
class LtpOutput:
    """What a test printed; ``counts`` is its summary by type, empty without one."""

    text: str
    lines: tuple[Line, ...]
    counts: Counter[str]


def parse(text: str) -> LtpOutput:
    """Return what some output says; takes any text."""
    lines, counts, summed = [], Counter[str](), False
    for raw in text.splitlines():
        plain = _COLOUR.sub("", raw).strip()
        summed = summed or plain == "Summary:"
        if (found := _LINE.fullmatch(plain)) and found[2] in _OUTCOMES:
            lines.append(Line(" ".join(found[1].split()), found[2], found[3], raw))
        elif summed and (count := _COUNT.fullmatch(plain)):
            counts[_WORDS[count[1]]] += int(count[2])
    return LtpOutput(text, tuple(lines), counts)


def judged(name: str, text: str, ending: Ending) -> tuple[Result, ...]:
    """Return the results of a test: its passes as one, every other line by itself, and what its end adds."""
    output = parse(text)
    last = output.lines[-1].where if output.lines else ""
    found = (
        *_passes(name, output),
        *(_result(name, line, text) for line in output.lines if line.type != "TPASS"),
        *broken_off(name, text, ending, last),
        *_unexplained(name, output, ending),
    )
    return found or (alone(name, text, ending, by_status),)


def _passes(name: str, output: LtpOutput) -> Iterator[Result]:
    passed = [line for line in output.lines if line.type == "TPASS"]
    if passed:
        said = "".join(f"{line.text}\n" for line in passed)
        yield Result(name, Outcome.PASS, f"{len(passed)} checks" if len(passed) > 1 else "", said)


def _result(name: str, line: Line, text: str) -> Result:
    where = f"{name} / {line.where}"
    if line.message.startswith(_KILLED):
        return _killed(where, line, text)
    reason = line.message if line.type in ("TFAIL", "TCONF") else f"{line.type}: {line.message}"
    return Result(where, _OUTCOMES[line.type], reason, line.text)


def _killed(where: str, line: Line, text: str) -> Result:
    """Return the result of a test that SIGKILL ended: its library sent that when its time was up, or somebody else."""
    if _TIMED_OUT in text:
        return Result(where, Outcome.TIMEOUT, "its own time was up (LTP_TIMEOUT_MUL)", line.text)
    return Result(where, Outcome.CRASH, f"killed by SIGKILL before its time was up{noted(text)}", line.text)


def _unexplained(name: str, output: LtpOutput, ending: Ending) -> Iterator[Result]:
    """Yield what status and summary say and no line does."""
    seen = Counter(line.type for line in output.lines)
    status = ending.status
    if seen and status is not None and status < CANNOT_RUN:
        types = [kind for bit, kind in BITS.items() if status & bit and not seen[kind]]
        if types or status & ~sum(BITS):
            reason = f"{ended_by(status)} ({', '.join(types) or 'none of LTP'}), which no line explains"
            yield Result(name, Outcome.FAIL, reason, output.text)
    wrong = [kind for kind in _OUTCOMES if output.counts and output.counts[kind] != seen[kind]]
    if wrong and status is not None:
        counted = ", ".join(f"{output.counts[kind]} {kind}, {seen[kind]} lines" for kind in wrong)
        yield Result(name, Outcome.MISMATCH, f"its summary has {counted}", output.text)


def by_status(status: int | None) -> tuple[Outcome, str]:
    """Return what the status of a test without lines means."""
    if status is None:
        return Outcome.CRASH, "it printed no result, and how it ended is not known"
    if status == 0:
        return Outcome.PASS, ""
    if status == 32:
        return Outcome.SKIP, ""
    return Outcome.FAIL, ended_by(status)
