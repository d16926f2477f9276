"""Runs the steps of a suite, each in a fresh guest; the host counts the pages pinned before and after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hostwalk.cell import Cell
from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, GuestCrashError, HostwalkError
from hostwalk.linux.node import Node
from hostwalk.machine.pump import Streams
from hostwalk.suites import ktap
from hostwalk.suites.building import Built
from hostwalk.suites.expected import Known
from hostwalk.suites.outcome import Ending, Outcome, Result, judged
from hostwalk.suites.plan import Step

PLACE = "/root"
SETUP_SECONDS = 60.0
SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Runner:
    """Runs steps of a collection; ``make`` lends a fresh machine for each, ``seconds`` is a step's time-out."""

    collection: str
    built: Built
    known: Known
    make: Callable[[], Cell]
    seconds: float

    def run(self, step: Step) -> tuple[Result, ...]:
        """Run one step; an error of the infrastructure is a result, too."""
        name = f"{self.collection} / {step.name}"
        why = self.why_not(step)
        if why:
            return (Result(name, Outcome.SKIP, why),)
        begun = time.monotonic()
        results = self._on_machine(name, step)
        spent = time.monotonic() - begun
        return (replace(results[0], seconds=spent), *results[1:])

    def why_not(self, step: Step) -> str:
        """Return why a step cannot run, empty if it can."""
        if step.skip:
            return step.skip
        if step.program in self.built.failures:
            return f"not built: {self.built.failures[step.program]}"
        if step.command[0] not in ("bash", f"./{step.program}"):
            return f"needs {step.command[0]}, which is not in the guest"
        return (
            ""
            if self.built.file(step.program).is_file()
            else "the Makefile of this kernel does not build it here"
        )

    def _on_machine(self, name: str, step: Step) -> tuple[Result, ...]:
        try:
            cell = self.make()
        except HostwalkError as error:
            return (Result(name, Outcome.UNPROVEN, str(error.message)),)
        try:
            return self._in_guest(cell, name, step)
        finally:
            cell.close()

    def _in_guest(self, cell: Cell, name: str, step: Step) -> tuple[Result, ...]:
        said, ending, before = bytearray(), Ending(), 0
        try:
            self._furnish(cell, step)
            before = pinned(cell)
            streams = Streams(said.extend, said.extend)
            status = cell.machine.ssh().stream(step.command, streams, deadline=Deadline.after(self.seconds))
            ending = Ending(status)
        except HostwalkError as error:
            ending = self._broken(error)
        results = judged(name, ktap.parse(said.decode(errors="replace")), ending)
        return (*results, *self._aftermath(cell, name, before, ending))

    def _broken(self, error: HostwalkError) -> Ending:
        if isinstance(error, CommandTimeoutError):
            return Ending(timeout=self.seconds)
        if isinstance(error, GuestCrashError):
            return Ending(crash=error.message)
        return Ending(lost=error.message)

    def _aftermath(self, cell: Cell, name: str, before: int, ending: Ending) -> tuple[Result, ...]:
        """Return what the host sees when a step has ended: pins that are still held, warnings of the kernel."""
        if ending.crash is not None or ending.lost is not None:
            return ()
        try:
            after = settled(cell, before)
        except HostwalkError as error:
            return (
                Result(name, Outcome.UNPROVEN, f"its pins could not be counted afterwards: {error.message}"),
            )
        warned = tuple(
            Result(name, Outcome.FAIL, f"the guest's kernel reported: {report.title}")
            for report in cell.machine.reports
        )
        if after == before:
            return warned
        return (
            *warned,
            Result(name, Outcome.LEAK, f"{before} pages were pinned before it, {after} after it"),
        )

    def _furnish(self, cell: Cell, step: Step) -> None:
        ssh = cell.machine.ssh()
        for file in self._files(step):
            ssh.put(self.built.file(file), f"{PLACE}/{file}")
        setup = self.known.setup_of(step.category)
        if setup:
            ssh.run(["sh", "-c", setup], deadline=Deadline.after(SETUP_SECONDS))

    def _files(self, step: Step) -> tuple[str, ...]:
        """Return what a step needs: its program, for a script all others that it names."""
        if not step.program.endswith(".sh"):
            return (step.program,)
        text = self.built.file(step.program).read_text(errors="replace")
        scripts = [path.name for path in self.built.directory.glob("*.sh")]
        there = [name for name in (*self.built.programs, *scripts) if self.built.file(name).is_file()]
        return tuple(dict.fromkeys([step.program, *(name for name in there if name in text)]))


def pinned(cell: Cell) -> int:
    """Return how many pages are pinned, by the kernel's own counters as the host reads them.

    NR_FOLL_PIN_ACQUIRED less NR_FOLL_PIN_RELEASED (mm/gup.c). Raises LayoutError, WalkError, and what a broken
    machine raises.
    """
    with cell.machine.stopped():
        node = Node.first(cell.moment().linux)
        return node.stat("NR_FOLL_PIN_ACQUIRED") - node.stat("NR_FOLL_PIN_RELEASED")


def settled(cell: Cell, wanted: int) -> int:
    """Return how many pages are pinned when the kernel has had time to release what it releases late."""
    limit = Deadline.after(SETTLE_SECONDS)
    while (held := pinned(cell)) != wanted and not limit.expired:
        cell.settle()
    return held
