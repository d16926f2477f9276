"""Runs the steps of a suite, each in a fresh guest; the host looks for pages that are left pinned behind each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from hostwalk.cell import Cell
from hostwalk.errors import CommandTimeoutError, GuestCrashError, HostwalkError
from hostwalk.machine.pump import Streams
from hostwalk.suites.expected import Needs
from hostwalk.suites.furnishing import furnish, within
from hostwalk.suites.outcome import Ending, Outcome, Result
from hostwalk.suites.patience import Patience
from hostwalk.suites.pins import Pins, leaked, pins, settled
from hostwalk.suites.plan import Step
from hostwalk.suites.suite import Suite

SECONDS = 300.0
"""The time of a test that nothing else is known of."""
BUSY = 0.5
"""The share of the time that a guest is run for below which its test's failure may be the host's."""


@dataclass(frozen=True)
class Runner:
    """Runs steps of a suite; ``make`` lends a fresh machine for each.

    ``seconds`` is the time of each step, None for what is known of it.
    """

    suite: Suite
    make: Callable[[], Cell]
    seconds: float | None = None

    def run(self, step: Step) -> tuple[Result, ...]:
        """Run one step, known failures marked as such; an error of the infrastructure is a result, too."""
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
        known, kernel, said = self.suite.known, cell.prepared.kernel, bytearray()
        before = _made_ready(cell, self.suite, step)
        ending = self._ending(cell, step, said) if isinstance(before, Pins) else before
        results = self.suite.judged(name, said.decode(errors="replace"), ending)
        told = [explained(result, known.needs_of(step), kernel.config) for result in results]
        if isinstance(before, Pins):
            told.extend(_aftermath(cell, name, before, ending))
        applied = known.applied(told, kernel.release, cell.prepared.target.arch)
        return tuple(remarked(result, ending.share) for result in applied)

    def _ending(self, cell: Cell, step: Step, said: bytearray) -> Ending:
        """Run a step's command; all that it says goes to ``said``."""
        needs = self.suite.known.needs_of(step)
        seconds = self.seconds or needs.seconds or SECONDS
        streams, limit = Streams(said.extend, said.extend), Patience.of(seconds, cell.machine.pid)
        try:
            command, whole = within(needs, self.suite.command(step)), self.suite.whole
            status = cell.machine.ssh().stream(command, streams, deadline=limit, whole=whole)
            return Ending(status, share=limit.share)
        except CommandTimeoutError:
            return Ending(timeout=seconds, share=limit.share)
        except HostwalkError as error:
            return _broken(error)


def _made_ready(cell: Cell, suite: Suite, step: Step) -> Pins | Ending:
    """Make a guest ready for a step; return what is pinned before it, or how it ends where the guest cannot be."""
    try:
        furnish(cell, suite, step)
        return pins(cell)
    except CommandTimeoutError:
        return Ending(lost="the guest could not be made ready for it in time")
    except OSError as error:
        return Ending(lost=f"its files cannot be read: {error}")
    except HostwalkError as error:
        return _broken(error)


def _broken(error: HostwalkError) -> Ending:
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


def remarked(result: Result, share: float) -> Result:
    """Return a result, what is no good with the word that the host did not run the guest for most of the time.

    Clocks of the guest go on then, so that what a test waits for does not come in its time.
    """
    if result.outcome.good or share > BUSY:
        return result
    busy = f"the host was busy: it ran the guest for {share:.0%} of the time"
    return replace(result, reason=f"{result.reason} ({busy})".strip())


def _aftermath(cell: Cell, name: str, before: Pins, ending: Ending) -> tuple[Result, ...]:
    """Return what the host sees when a step has ended: pins that are still held, warnings of the kernel."""
    if ending.crash is not None or ending.lost is not None:
        return ()
    try:
        after = settled(cell, before.count)
        leak = f"{before.count} pages were pinned before it, {after.count} after it"
        leaks = () if after.count <= before.count else (f"{leak}: {leaked(cell, before, after)}",)
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
