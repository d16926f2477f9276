"""What failed, in a form that two runs can be compared by: the same failure, not any failure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from hostwalk.column import Column
from hostwalk.errors import GuestCrashError
from hostwalk.guest.failures import AccessFaulted, OutcomeError, SyscallFailed
from hostwalk.machine.reports import Report, find_reports
from hostwalk.witness import BreachedError, WarnedError

LARGE = 1 << 16
ANY = "…"
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge, "is": operator.is_, "is not": operator.is_not,
    "in": lambda left, right: left in right, "not in": lambda left, right: left not in right,
}  # fmt: skip
_VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{12,16}\b|\b\d{3,}\b|CPU: \d+|PID: \d+|\bsubject \d+|\bpid \d+")


@dataclass(frozen=True)
class Failure:
    """One failure.

    ``kind``: ``assertion``, ``refuses`` or ``faults`` (a block that had to), ``refused`` or
    ``faulted`` (a step that had to succeed), ``warning`` or ``crash`` (of the guest's
    kernel), ``audit``. ``what``: the asserted expression, what was expected, the report's title, or the invariants.
    ``seen``: how it was not so; page frames, addresses and other numbers that vary from run to run are ``…``.
    """

    kind: str
    what: str
    seen: tuple[str, ...] = ()

    def same(self, other: Failure) -> bool:
        """Whether two are the same failure."""
        return self == other

    def __str__(self) -> str:
        seen = f" ({'; '.join(self.seen)})" if self.seen else ""
        return f"{_WORDS[self.kind]}{self.what}{seen}"


_WORDS = {
    "assertion": "does not hold: ", "refuses": "expected to be refused with ", "faults": "expected to fault with ",
    "refused": "it had to succeed: ", "faulted": "it had to succeed: ",
    "warning": "the kernel warned: ", "crash": "the kernel crashed: ", "audit": "invariants do not hold: ",
}  # fmt: skip


class CheckFailed(AssertionError):  # noqa: N818
    """An assertion of a script: the text of its expression, its operator and both sides' values."""

    def __init__(self, what: str, op: str, left: object, right: object, said: str = "") -> None:
        sides = f"{left!r} {op} {right!r}" if op else repr(left)
        super().__init__(said or f"assert {what}\n  where it was {sides}")
        self.what = what
        self.sides = sides
        self.failure = Failure("assertion", what, compared(op, left, right))


def failure_of(error: BaseException | None) -> Failure | None:
    """Return what an exception says of the kernel; None where it proves nothing."""
    match error:
        case CheckFailed():
            return error.failure
        case OutcomeError():
            kind = "faults" if error.expected.startswith("SIG") else "refuses"
            return Failure(kind, error.expected, (varying(error.outcome),))
        case SyscallFailed():
            return Failure("refused", error.call.rsplit(": ", 1)[-1].split("(")[0], (error.errno,))
        case AccessFaulted():
            return Failure(
                "faulted", error.call.rsplit(": ", 1)[-1].split("(")[0], (varying(str(error.fault)),)
            )
        case WarnedError():
            return _reported("warning", error.report)
        case BreachedError():
            return Failure("audit", ", ".join(sorted(error.audit.broken)))
        case GuestCrashError():
            reports = find_reports(error.evidence.report)
            return _reported("crash", reports[0]) if reports else Failure("crash", varying(error.message))
    return None


def _reported(kind: str, report: Report) -> Failure:
    return Failure(kind, f"{report.kind}: {varying(report.title)}")


def varying(text: str) -> str:
    """Return text with the numbers that vary from run to run left out."""
    return _VARYING.sub(ANY, text)


def compared(op: str, left: object, right: object) -> tuple[str, ...]:
    """Return how a comparison that failed was seen: for columns, and several of them, each pair that broke it, once."""
    if not op:
        return (plain(left),)
    if op in ("in", "not in"):
        return (f"{plain(left)} {op} {ANY}",)
    pairs = _pairs(left, right)
    if pairs is None:
        return (f"{plain(left)} {op} {plain(right)}",)
    broken = [pair for pair in pairs if not _holds(op, *pair)]
    return tuple(sorted({each for pair in broken or pairs for each in compared(op, *pair)}))


def _holds(op: str, left: object, right: object) -> bool:
    try:
        return COMPARISONS[op](left, right)
    except TypeError:
        return False


def _pairs(left: object, right: object) -> list[tuple[object, object]] | None:
    """Return the values that stand opposite each other where one side is a column or both are sequences."""
    vary = any(isinstance(side, Column) and side.in_hex for side in (left, right))
    if isinstance(left, Column) and isinstance(right, int):
        right = [right] * len(left)
    if isinstance(right, Column) and isinstance(left, int):
        left = [left] * len(right)
    if isinstance(left, Column | list | tuple) and isinstance(right, Column | list | tuple):
        return list(zip_longest(_values(left, vary), _values(right, vary), fillvalue=None))
    return None


def _values(column: Iterable[object], vary: bool) -> list[object]:
    return [
        _Large(int(value)) if vary and isinstance(value, int) and value > 0 else value for value in column
    ]


class _Large(int):
    """A number that is never the same in two runs, however small: a page frame."""


def plain(value: object) -> str:
    """Return a value as text without what varies from run to run."""
    if isinstance(value, _Large) or (isinstance(value, int) and abs(value) >= LARGE):
        return ANY
    if isinstance(value, int):
        return str(value + 0) if not isinstance(value, bool) else str(value)
    if isinstance(value, Column):
        return plain(tuple(_values(value, value.in_hex)))
    if isinstance(value, tuple | list):
        return f"({', '.join(map(plain, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(plain, value)))}}}"
    if isinstance(value, str | bytes):
        return varying(repr(value))
    return varying(repr(value)) if value is None else type(value).__name__
