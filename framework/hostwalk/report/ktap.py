"""The report as KTAP version 1, see Documentation/dev-tools/ktap.rst of Linux: one nested test per target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hostwalk.report.model import Result, Run, Verdict
from hostwalk.report.words import plain, promise, tested
from hostwalk.target import Target

INDENT = "  "


def text(run: Run) -> str:
    """Return the report as lines of text."""
    return "".join(f"{line}\n" for line in _lines(run))


def _lines(run: Run) -> Iterator[str]:
    yield "KTAP version 1"
    yield f"1..{len(run.targets)}"
    for number, target in enumerate(run.targets, 1):
        results = run.on(target)
        yield from (INDENT + line for line in _target(run, target, results))
        directive = "" if results else " # ERROR nothing was judged"
        yield f"{_outcome(results)} {number} {_name(target.name)}{directive}"


def _target(run: Run, target: Target, results: Sequence[Result]) -> Iterator[str]:
    yield "KTAP version 1"
    yield f"# Subtest: {_name(target.name)}"
    yield from _comment(f"{run.identities.get(target.name, '')}\nseed {run.seed}")
    yield f"1..{len(results)}"
    for number, result in enumerate(results, 1):
        yield from _claim(number, result)


def _claim(number: int, result: Result) -> Iterator[str]:
    if result.verdict in (Verdict.BROKEN, Verdict.UNPROVEN):
        reason = result.reason if result.verdict is Verdict.BROKEN else ""
        told = (promise(result), tested(result), reason, result.detail, result.rerun)
        yield from _comment("\n".join(told))
    yield f"{_outcome([result])} {number} {_name(result.claim_id)}{_directive(result)}"


def _directive(result: Result) -> str:
    name = _DIRECTIVES.get(result.verdict)
    return f" # {name} {' '.join(plain(result.reason).split())}".rstrip() if name else ""


_DIRECTIVES = {Verdict.NOT_APPLICABLE: "SKIP", Verdict.DEPARTS: "XFAIL", Verdict.UNPROVEN: "ERROR"}


def _outcome(results: Sequence[Result]) -> str:
    bad = any(result.verdict in (Verdict.BROKEN, Verdict.UNPROVEN) for result in results)
    return "not ok" if bad or not results else "ok"


def _name(text: str) -> str:
    """Return a description; a number sign would begin a directive."""
    return " ".join(plain(text).replace("#", " ").split())


def _comment(text: str) -> Iterator[str]:
    return (f"# {line.rstrip()}" for line in plain(text).splitlines() if line.strip())
