"""Reads KTAP version 1 as its document says: Documentation/dev-tools/ktap.rst, tools/testing/kunit/kunit_parser.py."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

RESULT = re.compile(
    r"(?P<ok>ok|not ok) (?P<number>\d+)(?: (?:- )?(?P<name>[^#]*?))?(?: # (?P<directive>[A-Z]+)(?: (?P<why>.*))?)?"
)
PLAN = re.compile(r"1\.\.(\d+)")
DIRECTIVES = {"", "SKIP", "TODO", "XFAIL", "TIMEOUT", "ERROR"}


@dataclass
class Test:
    name: str
    ok: bool = True
    directive: str = ""
    why: str = ""
    diagnostics: list[str] = field(default_factory=list)
    subtests: list[Test] = field(default_factory=list)


class _Lines:
    def __init__(self, text: str) -> None:
        assert text.endswith("\n")
        self.left = text.splitlines()

    def peek(self) -> str:
        return self.left[0] if self.left else ""

    def take(self) -> str:
        return self.left.pop(0)


def read(text: str) -> list[Test]:
    """Return the tests; fails for what the document does not allow."""
    lines = _Lines(text)
    assert lines.take() == "KTAP version 1"
    tests = _block(lines, "")
    assert not lines.left, f"behind the last test: {lines.left[0]}"
    return tests


def _block(lines: _Lines, indent: str, name: str | None = None) -> list[Test]:
    """Read plan and tests; ``name`` is what a nested block calls its parent."""
    before = _diagnostics(lines, indent)
    assert name is None or before[0] == f"Subtest: {name}"
    plan = PLAN.fullmatch(lines.take().removeprefix(indent))
    assert plan is not None
    tests = [_test(lines, indent, number) for number in range(1, int(plan[1]) + 1)]
    assert lines.left == [] or not lines.peek().startswith(f"{indent}ok"), "more tests than planned"
    return tests


def _diagnostics(lines: _Lines, indent: str) -> list[str]:
    found = []
    while lines.peek().startswith(f"{indent}# "):
        found.append(lines.take().removeprefix(f"{indent}# "))
    return found


def _test(lines: _Lines, indent: str, number: int) -> Test:
    diagnostics, subtests = _diagnostics(lines, indent), []
    if lines.peek() == f"{indent}  KTAP version 1":
        lines.take()
        said = lines.peek().removeprefix(f"{indent}  # Subtest: ")
        subtests = _block(lines, f"{indent}  ", said)
    line = lines.take()
    match = RESULT.fullmatch(line.removeprefix(indent))
    assert line.startswith(indent)
    assert match is not None, f"no result: {line}"
    assert int(match["number"]) == number
    directive = match["directive"] or ""
    assert directive in DIRECTIVES
    assert match["ok"] == "not ok" or directive in ("", "SKIP", "XFAIL")
    name = (match["name"] or "").strip()
    return Test(name, match["ok"] == "ok", directive, match["why"] or "", diagnostics, subtests)
