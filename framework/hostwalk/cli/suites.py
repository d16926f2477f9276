"""What the verbs that run other people's suites share: their options, choosing tests, running them, the reports."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Lock

from rich.console import Console
from rich.text import Text

from hostwalk.cell import Prepared
from hostwalk.cli import machines, output
from hostwalk.cli.arguments import chosen_workers, workers
from hostwalk.cli.run import seconds
from hostwalk.errors import UsageError
from hostwalk.machine.command import TRANSLATED_MIB
from hostwalk.parallel import available_memory, fitting
from hostwalk.report.formats import check_place, write_texts
from hostwalk.suites import files
from hostwalk.suites.machines import MEMORY, Machines
from hostwalk.suites.outcome import Result
from hostwalk.suites.plan import Step
from hostwalk.suites.running import SECONDS, Runner
from hostwalk.suites.suite import Suite
from hostwalk.suites.workers import Run, ran


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that each such verb has."""
    machines.arguments(parser.add_argument_group("which machine"))
    parser.set_defaults(memory=MEMORY)
    parser.add_argument(
        "-k", dest="keyword", default="", metavar="WORD",
        help="only tests with WORD in category or name: 'cow or gup'",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=seconds, metavar="S",
        help=f"for each test (default: {SECONDS:g}, more for a few that are known to take long)",
    )  # fmt: skip
    parser.add_argument(
        "-n", dest="workers", type=workers, metavar="N",
        help="run N tests at once, or auto: as many as cores and memory allow (default: auto for a whole suite, one "
        "for what -k selects)",
    )  # fmt: skip
    parser.add_argument(
        "--list", action="store_true", help="only say which tests there are, and which cannot run"
    )
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="show the output of what passes, too"
    )


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for a report that cannot be written, before anything is made ready."""
    for place in filter(None, (args.junit, args.json)):
        check_place(place)


def select(known: Iterable[Step], keyword: str) -> tuple[Step, ...]:
    """Return the steps with a word in name or category; raises UsageError where none has it."""
    found = tuple(step for step in known if fits(step, keyword))
    if not found:
        raise UsageError(f"no test has {keyword!r} in its name or category", remedy="see them with --list")
    return found


def fits(step: Step, keyword: str) -> bool:
    """Return whether a step's category and name have a word, or one of several: ``cow or gup``."""
    return any(word.strip() in f"{step.category} {step.name}" for word in keyword.split(" or "))


def as_many_as_fit(memory: int) -> int:
    """Return how many guests of ``memory`` MiB can run at once: a test may use all of its guest's."""
    return fitting(len(os.sched_getaffinity(0)), available_memory(), (memory + TRANSLATED_MIB) << 20)


@dataclass(frozen=True)
class Session:
    """One run of a suite on one target: the steps that were chosen, and what the command line asks for."""

    suite: Suite
    prepared: Prepared
    chosen: Sequence[Step]
    args: argparse.Namespace

    def run(self) -> int:
        """List the steps or run them; return the exit status."""
        return self._list() if self.args.list else self._run()

    def _list(self) -> int:
        for step in self.chosen:
            why = self.suite.why_not(step)
            _print(f"{step.category:<17} {step.name}{f'  # SKIP {why}' if why else ''}")
        return 0

    def _run(self) -> int:
        begun, kernel, target = time.monotonic(), self.prepared.kernel, self.prepared.target
        runner = Runner(self.suite, Machines(lambda: self.prepared).make, self.args.timeout)
        results: list[Result] = []
        with (
            _status(len(self.chosen)) as (console, status),
            closing(ran(status.shown(runner.run), self.chosen, self._workers())) as found,
        ):
            for came in found:
                self._tell(came, console)
                results.extend(came)
        identity, spent = f"Linux {kernel.release} ({kernel.identity[:12]})", time.monotonic() - begun
        done = files.SuiteRun(self.suite.name, target.name, identity, tuple(results), spent)
        _print(f"\n{done.target}, {identity}: {files.totals(done.results)}, {done.seconds:.0f} s")
        self._write(done)
        return done.exit_status

    def _workers(self) -> int:
        chosen = chosen_workers(self.args.workers, few=bool(self.args.keyword))
        return as_many_as_fit(self.prepared.target.memory) if chosen == "auto" else max(1, int(chosen))

    def _tell(self, came: Iterable[Result], console: Console) -> None:
        for result in came:
            for line in files.lines(result, verbose=bool(self.args.verbose)):
                console.print(Text(line), soft_wrap=True)

    def _write(self, done: files.SuiteRun) -> None:
        wanted = ((files.junit, self.args.junit), (files.as_json, self.args.json))
        write_texts((text(done), place) for text, place in wanted if place)


class Status:
    """What runs at the moment: results come in the suite's order, so one that takes long holds others back."""

    def __init__(self, total: int, show: Callable[[str], None]) -> None:
        self._running: list[str] = []
        self._done, self._total, self._show = 0, total, show
        self._lock = Lock()

    def shown(self, run: Run) -> Run:
        """Return a function that runs a step, and shows which while it does; for several threads."""

        def shown(step: Step) -> tuple[Result, ...]:
            with self._during(step.name):
                return run(step)

        return shown

    @contextmanager
    def _during(self, name: str) -> Iterator[None]:
        with self._lock:
            self._running.append(name)
            self._tell()
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(name)
                self._done += 1
                self._tell()

    def _tell(self) -> None:
        self._show(f"{self._done} of {self._total} have run; now {', '.join(self._running) or 'none'}")


@contextmanager
def _status(total: int) -> Iterator[tuple[Console, Status]]:
    """Lend the console for results with a line below them of what runs; without that line where no one looks."""
    console = output.out()
    if not console.is_terminal or console.is_dumb_terminal:
        yield console, Status(total, lambda _text: None)
        return
    with console.status("") as line:
        yield console, Status(total, lambda text: line.update(Text(text, overflow="ellipsis", no_wrap=True)))


def _print(line: str) -> None:
    output.out().print(Text(line), soft_wrap=True)
