"""Reads KTAP and TAP 13 as Linux's own tests print it: Documentation/dev-tools/ktap.rst, kselftest/runner.sh.

Pure: text in, frozen values out. Levels are nested by two blanks (KTAP) or by "# " (kselftest/runner.sh); a nested
level begins with a version or plan line. Every other line is diagnostics. No line is lost: a test spans the lines
from behind the test before it up to its own result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PREFIX = re.compile(r"((?:  |# )*)(.*)", re.DOTALL)
_VERSION = re.compile(r"K?TAP version \d+\s*")
_PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*(?i:SKIP)\S*\s*(.*))?\s*")
_BAIL = re.compile(r"Bail out!\s*(.*)")
_RESULT = re.compile(r"(not )?ok\s+(\d+)(?:\s+(?:- )?(.*?))?\s*", re.DOTALL)
_DIRECTIVE = re.compile(
    r"(?:^|\s)#\s+(SKIP|TODO|XFAIL|XPASS|TIMEOUT|ERROR)\b:?\s*(.*)", re.IGNORECASE | re.DOTALL
)
_HEADER = re.compile(r"(?:# )*(?:  )*# (?:Subtest: (.+)|(selftests: .+))")
NO_NAME = "(no name)"


@dataclass(frozen=True)
class Point:
    """One result line, which TAP calls a test point.

    ``lines`` is ``(start, stop)`` in the output's lines, subtests and diagnostics included.
    ``directive`` is a word in capitals or empty, ``why`` what follows it, or what follows a number sign without one
    ("exit=1"). ``finished`` is False for a test whose result line never came; it has no number and is not ``ok``.
    """

    name: str
    number: int | None
    ok: bool
    directive: str
    why: str
    lines: tuple[int, int]
    subtests: tuple[Point, ...] = ()
    planned: int | None = None
    finished: bool = True


@dataclass(frozen=True)
class Output:
    """What a program printed, with what was found in it; ``planned`` is the sum of its plans, None without any."""

    lines: tuple[str, ...]
    tests: tuple[Point, ...]
    planned: int | None = None
    skipped: str | None = None
    bailed: str | None = None

    @property
    def text(self) -> str:
        """The output as it came."""
        return "".join(self.lines)

    def of(self, test: Point) -> str:
        """Return the lines of a test as they came."""
        return "".join(self.lines[slice(*test.lines)])


@dataclass
class _Level:
    """A level that is being read; ``below`` are the tests of a nested one that still lack their parent's result."""

    prefix: str
    start: int
    tests: list[Point] = field(default_factory=list)
    planned: int | None = None
    below: tuple[Point, ...] = ()
    below_planned: int | None = None
    header: str = ""


def parse(text: str) -> Output:
    """Return what some output says; takes any text."""
    reader = _Reader(tuple(text.splitlines(keepends=True)))
    return reader.read()


class _Reader:
    """Goes through lines once, with a stack of levels."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self._lines = lines
        self._levels = [_Level("", 0)]
        self._skipped: str | None = None
        self._bailed: str | None = None

    def read(self) -> Output:
        for at, line in enumerate(self._lines):
            self._take(at, line.rstrip("\r\n"))
        self._close("", len(self._lines))
        base = self._levels[0]
        self._end(base)
        return Output(self._lines, tuple(base.tests), base.planned, self._skipped, self._bailed)

    def _take(self, at: int, line: str) -> None:
        match = _PREFIX.fullmatch(line)
        assert match is not None
        prefix, core = match[1], match[2]
        if _VERSION.fullmatch(core):
            self._open(prefix, at)
        elif plan := _PLAN.fullmatch(core):
            self._plan(prefix, at, int(plan[1]), plan[2])
        elif (bail := _BAIL.fullmatch(core)) and self._knows(prefix):
            self._bailed = bail[1]
        elif (result := _RESULT.fullmatch(core)) and self._knows(prefix):
            self._result(prefix, at, result)
        elif header := _HEADER.fullmatch(line):
            self._levels[-1].header = header[1] or header[2]

    def _knows(self, prefix: str) -> bool:
        return any(level.prefix == prefix for level in self._levels)

    def _open(self, prefix: str, at: int) -> _Level:
        """Return the level of a prefix, a new one where none is open; deeper ones end."""
        while not prefix.startswith(self._levels[-1].prefix):
            self._pop(at)
        self._close(prefix, at)
        if self._levels[-1].prefix != prefix:
            self._levels.append(_Level(prefix, at))
        return self._levels[-1]

    def _plan(self, prefix: str, at: int, count: int, why: str | None) -> None:
        level = self._open(prefix, at)
        level.planned = (level.planned or 0) + count
        if why is not None and not prefix:
            self._skipped = why

    def _close(self, prefix: str, at: int) -> None:
        while len(self._levels) > 1 and len(self._levels[-1].prefix) > len(prefix):
            self._pop(at)

    def _pop(self, at: int) -> None:
        """End the deepest level; its tests wait for the result of their parent."""
        level = self._levels.pop()
        self._end(level, at)
        parent = self._levels[-1]
        parent.below += tuple(level.tests)
        parent.header = parent.header or level.header
        if level.planned is not None:
            parent.below_planned = (parent.below_planned or 0) + level.planned

    def _end(self, level: _Level, at: int | None = None) -> None:
        """Make an unfinished test of what waits for a result that never came."""
        if level.below or level.below_planned is not None or (level.header and at is None):
            stop = len(self._lines) if at is None else at
            level.tests.append(
                Point(level.header or NO_NAME, None, False, "", "", (level.start, stop), level.below,
                     level.below_planned, finished=False)
            )  # fmt: skip
            level.start = stop

    def _result(self, prefix: str, at: int, match: re.Match[str]) -> None:
        self._close(prefix, at)
        level = self._levels[-1]
        name, directive, why = described(match[3] or "")
        level.tests.append(
            Point(name or level.header or NO_NAME, int(match[2]), not match[1], directive, why,
                 (level.start, at + 1), level.below, level.below_planned)
        )  # fmt: skip
        level.start, level.below, level.below_planned, level.header = at + 1, (), None, ""


def described(text: str) -> tuple[str, str, str]:
    """Return name, directive and reason of what follows a result's number.

    kselftest.h prints the name behind the directive ("ok 3 # SKIP name"); it is then both name and reason.
    """
    match = _DIRECTIVE.search(text)
    if match:
        name, why = text[: match.start()].strip(), match[2].strip()
        return name or why, match[1].upper(), why
    name, sign, why = text.partition(" # ")
    if not sign and text.startswith("# "):
        name, why = "", text[2:]
    return name.strip(), "", why.strip()
