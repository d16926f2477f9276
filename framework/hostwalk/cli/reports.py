"""Which reports a command line asks for, and where they go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostwalk.cli import output
from hostwalk.errors import UsageError
from hostwalk.report import json, junit, ktap, terminal
from hostwalk.report.model import Run

STDOUT = "-"
_WRITERS: dict[str, tuple[Callable[[Run], str], str]] = {
    "junit": (junit.text, "JUnit XML, for CI systems"),
    "json": (json.text, "everything, in a stable schema"),
    "ktap": (ktap.text, "KTAP, the kernel's own test protocol"),
}


@dataclass(frozen=True)
class Reports:
    """Reports by format and where each goes: a file, or ``-``."""

    wanted: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def arguments(group: argparse._ArgumentGroup) -> None:
        """Add one option for each format."""
        for name, (_, text) in _WRITERS.items():
            group.add_argument(f"--{name}", nargs="?", const=STDOUT, metavar="FILE", help=text)

    @classmethod
    def of(cls, args: argparse.Namespace) -> Reports:
        """Return what a command line asks for; raises UsageError before any work is done in vain."""
        asked = ((name, getattr(args, name)) for name in _WRITERS)
        reports = cls(tuple((name, place) for name, place in asked if place is not None))
        if [place for _, place in reports.wanted].count(STDOUT) > 1:
            raise UsageError("two reports cannot share standard output", remedy="give one of them a file")
        for _, place in reports.wanted:
            check_place(place)
        return reports

    def write(self, run: Run) -> None:
        """Write all reports; the table goes to standard error where another report takes standard output."""
        taken = any(place == STDOUT for _, place in self.wanted)
        terminal.show(run, output.err() if taken else output.out())
        for name, place in self.wanted:
            text = _WRITERS[name][0](run)
            write_to(place, text)


def check_place(place: str) -> None:
    """Raise UsageError for a file in a directory that there is not."""
    if place != STDOUT and not Path(place).absolute().parent.is_dir():
        raise UsageError(f"there is no directory for {place}", remedy="make it, or choose another file")


def write_to(place: str, text: str) -> None:
    """Write a report to a file, or to standard output for ``-``; raises UsageError when that cannot be."""
    if place == STDOUT:
        sys.stdout.write(text)
        return
    path = Path(place)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
