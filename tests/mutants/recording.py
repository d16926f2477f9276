"""The table of what noticed the mutants, as it is printed and as it is kept in a document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostwalk.errors import UsageError
from hostwalk.target import Arch

HEAD = "| mutant | noticed by | build, s | check, s |\n| --- | --- | --- | --- |\n"
BASE = "(none)"
_ROW = re.compile(r"^\| (\S+) \|.*\|$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """What came of one mutant, or of the base: who noticed, seconds of building and of checking."""

    mutant: str
    noticed: str
    build: float | None = None
    check: float | None = None

    def __str__(self) -> str:
        """Return the line of the table."""
        times = ("" if each is None else f"{each:.0f}" for each in (self.build, self.check))
        return f"| {' | '.join((self.mutant, self.noticed.replace('|', '/'), *times))} |"


@dataclass(frozen=True)
class Record:
    """The table of one architecture in a document, between two comments; ``order`` is that of its mutants."""

    path: Path
    arch: Arch
    order: Sequence[str]

    def put(self, row: Row) -> None:
        """Put a row in the place of the one that says the same mutant; raises UsageError where there is no table."""
        before, table, after = self._parts()
        rows = {match[1]: match[0] for match in _ROW.finditer(table)} | {row.mutant: str(row)}
        lines = [rows[name] for name in (BASE, *self.order) if name in rows]
        self.path.write_text(before + HEAD + "".join(f"{line}\n" for line in lines) + after)

    def _parts(self) -> tuple[str, str, str]:
        text, begin, end = self.path.read_text(), f"<!-- table: {self.arch} -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        table, ended, after = rest.partition(end)
        if not found or not ended:
            raise UsageError(
                f"{self.path} has no table for {self.arch}",
                remedy=f"write {begin.strip()} and {end}, each on a line, where it shall be",
            )
        return before + found, table, ended + after
