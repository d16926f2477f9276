"""Runs the steps of a suite, each in a fresh guest; the host looks for pages that are left pinned behind each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from hostwalk.cell import Cell
from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, GuestCrashError, HostwalkError
from hostwalk.machine.pump import Streams
from hostwalk.suites.expected import Needs
from hostwalk.suites.furnishing import furnish, within
from hostwalk.suites.outcome import Ending, Outcome, Result
from hostwalk.suites.pins import Pins, leaked, pins, settled
from hostwalk.suites.plan import Step
from hostwalk.suites.suite import Suite

SECONDS = 300.0
"""The time of a test that nothing else is known of."""
NOTHING = Pins(0, {})


@dataclass(frozen=True)
class Runner:
    """Runs steps of a suite; ``make`` lends a fresh machine for each.

    ``seconds`` is the time of each step, None for what is known of it.
    """

    suite: Suite
    make: Callable[[], Cell]
    seconds: float | None = None

    def run(self, step: Step) -> tuple[Result, ...]:
        """Run one step; an error of the infrastructure is a result, too."""
        name = f"{self.suite.name} / {step.name}"
        why = self.suite.why_not(step)
        if why:
            return (Result(name, Outcome.SKIP, why),)
        begun = time.monotonic()
        results = self._on_machine(name, step)
        spent = time.monotonic() - begun
        return (replace(results[0], seconds=spent), *results[1:])

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
        said, ending, before = bytearray(), Ending(), NOTHING
        needs = self.suite.known.needs_of(step)
        seconds = self.seconds or needs.seconds or SECONDS
        try:
            furnish(cell, self.suite, step)
            before = pins(cell)
            streams, limit = Streams(said.extend, said.extend), Deadline.after(seconds)
            command = within(needs, self.suite.command(step))
            ending = Ending(cell.machine.ssh().stream(command, streams, deadline=limit))
        except HostwalkError as error:
            ending = _broken(error, seconds)
        results = self.suite.judged(name, said.decode(errors="replace"), ending)
        told = (explained(result, needs, cell.prepared.kernel.config) for result in results)
        return (*told, *_aftermath(cell, name, before, ending))


def _broken(error: HostwalkError, seconds: float) -> Ending:
    if isinstance(error, CommandTimeoutError):
        return Ending(timeout=seconds)
    if isinstance(error, GuestCrashError):
        return Ending(crash=error.message)
    return Ending(lost=error.message)


def explained(result: Result, needs: Needs, config: Mapping[str, str]) -> Result:
    """Return a result, a skip with the options that the kernel lacks for it."""
    about = f"{result.name}: {result.reason}"
    fitting = dict.fromkeys(option for option, pattern in needs.config if fnmatchcase(about, pattern))
    lacking = [option for option in fitting if option not in config]
    if result.outcome is not Outcome.SKIP or not lacking:
        return result
    why = f"this kernel has no {' and no '.join(lacking)}"
    return replace(result, reason=f"{result.reason} ({why})" if result.reason else why)


def _aftermath(cell: Cell, name: str, before: Pins, ending: Ending) -> tuple[Result, ...]:
    """Return what the host sees when a step has ended: pins that are still held, warnings of the kernel."""
    if ending.crash is not None or ending.lost is not None:
        return ()
    try:
        after = settled(cell, before.count)
        leak = f"{before.count} pages were pinned before it, {after.count} after it"
        leaks = () if after.count == before.count else (f"{leak}: {leaked(cell, before, after)}",)
    except HostwalkError as error:
        reason = f"its pins could not be counted afterwards: {error.message}"
        return (Result(name, Outcome.UNPROVEN, reason),)
    return (
        *(
            Result(name, Outcome.FAIL, f"the guest's kernel reported: {report.title}")
            for report in cell.machine.reports
        ),
        *(Result(name, Outcome.LEAK, reason) for reason in leaks),
    )
