"""Which reports a command line asks for, and where they go."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from hostwalk.cli import output
from hostwalk.errors import UsageError
from hostwalk.report import terminal
from hostwalk.report.formats import FORMATS, check_place, write
from hostwalk.report.model import Run

STDOUT = "-"


@dataclass(frozen=True)
class Reports:
    """Reports by format and where each goes: a file, or ``-``."""

    wanted: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def arguments(group: argparse._ArgumentGroup) -> None:
        """Add one option for each format."""
        for name, format_ in FORMATS.items():
            group.add_argument(f"--{name}", nargs="?", const=STDOUT, metavar="FILE", help=format_.purpose)

    @classmethod
    def of(cls, args: argparse.Namespace) -> Reports:
        """Return what a command line asks for; raises UsageError before any work is done in vain."""
        asked = ((name, getattr(args, name)) for name in FORMATS)
        reports = cls(tuple((name, place) for name, place in asked if place is not None))
        if [place for _, place in reports.wanted].count(STDOUT) > 1:
            raise UsageError("two reports cannot share standard output", remedy="give one of them a file")
        for _, place in reports.wanted:
            if place != STDOUT:
                check_place(place)
        return reports

    def write(self, run: Run, *, verbose: bool = False) -> None:
        """Write all reports; the table goes to standard error where another report takes standard output."""
        taken = any(place == STDOUT for _, place in self.wanted)
        terminal.show(run, output.err() if taken else output.out(), verbose=verbose)
        for name in (name for name, place in self.wanted if place == STDOUT):
            sys.stdout.write(FORMATS[name].text(run))
        write(run, ((name, place) for name, place in self.wanted if place != STDOUT))
