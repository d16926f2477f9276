"""``hostwalk run --watch``: what a command does to its page tables, told on standard error or as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from hostwalk import watching
from hostwalk.cell import Cell
from hostwalk.cli import output
from hostwalk.deadline import Deadline
from hostwalk.errors import HostwalkError, UsageError
from hostwalk.machine.pump import Streams
from hostwalk.report.formats import check_place
from hostwalk.watching import Sample, Wanted, Watch


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a watch."""
    parser.add_argument(
        "--watch", nargs="?", const="", metavar="WHAT",
        help="tell on standard error what changes in the page tables and mappings of the command and its children, "
        "call by call; WHAT: MS to look every so many milliseconds, or NAME,NAME to stop at (system calls, kernel "
        "functions) instead of at all calls that alter an address space",
    )  # fmt: skip
    parser.add_argument(
        "--watch-json", metavar="FILE", help="write that as JSON, one sample a line, to a file instead"
    )


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for a watch that makes no sense, before anything boots."""
    if args.watch_json is not None:
        check_place(args.watch_json)
        args.watch = args.watch or ""
    if args.watch is not None:
        Wanted.parse(args.watch)


def stream(cell: Cell, args: argparse.Namespace, streams: Streams, limit: Deadline) -> int:
    """Run a command under a watch; return its status. Raises what a watch and Ssh.stream raise."""
    wanted = Wanted.parse(args.watch)
    with ExitStack() as stack:
        file = stack.enter_context(_opened(args.watch_json)) if args.watch_json is not None else None
        run = stack.enter_context(watching.watched(cell, args.command, wanted, limit))
        telling = _Telling(run.watch, file, timed=wanted.every is not None)
        try:
            status = run.finish(replace(streams, beside=telling))
        except BaseException:
            with suppress(HostwalkError):  # what is told is what came first
                telling.tell()
            raise
        telling.tell()
        return status


@contextmanager
def _opened(place: str) -> Iterator[TextIO]:
    try:
        file = Path(place).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UsageError(f"cannot write {place}: {error.strerror}") from error
    try:
        yield file
    finally:
        with suppress(OSError):  # each line is out by now, or was told not to be
            file.close()


@dataclass(frozen=True)
class _Telling:
    """Serves a watch and tells its samples at once."""

    watch: Watch
    file: TextIO | None
    timed: bool

    @property
    def due(self) -> float:
        """Seconds until there is something to do."""
        return self.watch.due

    def fileno(self) -> int:
        """Return what to wait for."""
        return self.watch.fileno()

    def serve(self) -> None:
        """Let the watch do what there is to do, and tell it."""
        self.watch.serve()
        self.tell()

    def tell(self) -> None:
        """Tell the samples that there are."""
        for sample in self.watch.take():
            self._tell(sample)

    def _tell(self, sample: Sample) -> None:
        if self.file is not None:
            _write(self.file, json.dumps(watching.plain(sample)))
            return
        for line in watching.lines(sample, timed=self.timed):
            output.err().print(line, soft_wrap=True, markup=False, highlight=False)


def _write(file: TextIO, line: str) -> None:
    try:
        file.write(f"{line}\n")
    except OSError as error:
        raise HostwalkError(f"cannot write {file.name}: {error.strerror}") from error
