"""Running a script: on a fresh fork each time, and judged by whether the same failure comes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

import pytest

from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, boot, prepare
from hostwalk.errors import CacheError, HostwalkError, UsageError
from hostwalk.guest import NotExported, Subject
from hostwalk.guest.agent import OPERATION_SECONDS
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.options import CheckOptions
from hostwalk.repro.failure import CheckFailed, Failure, failure_of
from hostwalk.repro.pin import Pin
from hostwalk.repro.script import Script
from hostwalk.target import Target
from hostwalk.template import NoTemplateError, Template, template_of
from hostwalk.witness import Witness


class Result(StrEnum):
    """What became of a run."""

    REPRODUCES = "reproduces"
    KEPT = "does not reproduce"
    OTHER = "fails otherwise"
    UNPROVEN = "proves nothing"


AT_ONCE = frozenset({"assertion", "refuses", "faults", "refused", "faulted"})
"""Failures that are known before a script's process ends."""
EXIT_STATUS = {Result.REPRODUCES: 1, Result.KEPT: 0, Result.OTHER: 3, Result.UNPROVEN: 3}


Ending = Callable[[BaseException | None], None]


def _nothing(_failed: BaseException | None) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Outcome:
    """The result of one run, the failure if there was one, and what is to be said about it."""

    result: Result
    failure: Failure | None = None
    said: str = ""
    story: tuple[str, ...] = ()
    error: HostwalkError | None = field(default=None, compare=False)


@dataclass
class Stage:
    """A target on which scripts are run, each time in the state of its template; a context manager.

    ``seconds`` are what each operation of a script has.
    """

    prepared: Prepared
    template: Template | None
    seed: int | None = None
    reason: str = ""
    seconds: float = OPERATION_SECONDS
    _cell: Cell | None = None

    @classmethod
    def of(cls, prepared: Prepared, seed: int | None = None) -> Self:
        """Make the target's template, or where none can be made be ready to boot each time."""
        try:
            return cls(prepared, template_of(prepared), seed)
        except (NoTemplateError, CacheError) as error:
            return cls(prepared, None, seed, error.message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def fresh(self) -> Cell:
        """Return a machine in the template's state; the one before is not to be used any more."""
        if self._cell is None or self._cell.broken or self.template is None:
            self._drop()
            self._cell = self.template.fork(self.seed) if self.template else boot(self.prepared)
        else:
            self._cell = self.template.reset(self._cell, self.seed)
        self._cell.agent.seconds = self.seconds
        return self._cell

    def _drop(self) -> None:
        if self._cell is not None:
            self._cell.close()
        self._cell = None

    @property
    def pin(self) -> Pin:
        """What runs here."""
        accel = self.template.accel.name if self.template else self.prepared.target.accel
        return Pin.of(self.prepared, accel, self.seed)

    def run(self, script: Script) -> Outcome:
        """Run a script once on a fresh machine.

        What the kernel reports when a process ends counts for scripts that show a report.
        """
        return perform(script, self.fresh(), last=script.shows.kind in AT_ONCE)


def stage_for(
    target: Target, options: CheckOptions, seed: int | None = None, progress: Progress = SILENT
) -> Stage:
    """Prepare a target; raises what preparing and booting it raise."""
    prepared = prepare(target, options, progress, Cache.user())
    with progress.task(f"boot {target}", None):
        return Stage.of(prepared, seed)


def perform(script: Script, cell: Cell, ending: Ending = _nothing, *, last: bool = False) -> Outcome:
    """Run a script in a process of a machine, and judge how it ended.

    ``ending`` is called when all is done or something has failed, with what was raised, while the process is still
    there. ``last``: the machine is not used any more, so that nobody waits for the process to end. Where an operation
    failed, that is what is told, not what its process's end makes of it.
    """
    witness = Witness(cell)
    error: Exception | None = None
    failed: BaseException | None = None
    try:
        spawned = cell.agent.spawn()
        with nullcontext(spawned) if last else spawned as subject:
            failed = _failed(script, witness, subject)
            ending(failed)
            if failed is not None:
                raise failed
        _look_back(script.shows, witness)
    except pytest.skip.Exception as skipped:
        return Outcome(Result.UNPROVEN, said=f"it says nothing here: {skipped.msg}")
    except (AssertionError, HostwalkError) as raised:
        error = found_after(failed if isinstance(failed, HostwalkError) else raised, witness)
    return _judged(script, witness, error)


def _failed(script: Script, witness: Witness, subject: Subject) -> BaseException | None:
    """Do what a script does; return what was raised, for whoever looks at it to be in no handler of it."""
    try:
        _act(script, witness, subject)
        _look(script.shows, witness)
    except (AssertionError, HostwalkError, pytest.skip.Exception) as raised:
        return raised
    return None


def _act(script: Script, witness: Witness, subject: Subject) -> None:
    given = {"subject": subject, "witness": witness, "agent": witness.cell.agent}
    function = script.compiled()
    try:
        function(**{name: given[name] for name in script.fixtures})
    except (AssertionError, HostwalkError):
        raise
    except Exception as error:
        raise UsageError(
            f"the script itself fails: {type(error).__name__}: {error}", remedy="mend the script"
        ) from error


def _look(shows: Failure, witness: Witness) -> None:
    """Look for what a script shows beyond its assertions, while its process is there."""
    if shows.kind == "audit":
        witness.check_invariants()
    _look_back(shows, witness)


def _look_back(shows: Failure, witness: Witness) -> None:
    """Look at the console; warnings count for a script that shows one."""
    if shows.kind == "warning":
        witness.check_console(None)
    else:
        witness.reported()


def found_after(error: Exception, witness: Witness) -> Exception:
    """Return the crash of the kernel behind an error, if there was one."""
    try:
        witness.prefer_crash(error)
    except HostwalkError as crash:
        return crash
    return witness.machine.explain(error) if isinstance(error, HostwalkError) else error


def _judged(script: Script, witness: Witness, error: Exception | None) -> Outcome:
    if error is None:
        return Outcome(Result.KEPT)
    failure = failure_of(error)
    if failure is None:
        return _unproven(error)
    said = error.sides if isinstance(error, CheckFailed) else str(error).splitlines()[0]
    same = failure.same(script.shows)
    result = Result.REPRODUCES if same else Result.OTHER
    return Outcome(result, failure, said, tuple(witness.story()))


def _unproven(error: Exception) -> Outcome:
    if isinstance(error, NotExported):
        return Outcome(Result.UNPROVEN, said=f"it says nothing here: {error.message}")
    known = error if isinstance(error, HostwalkError) else None
    said = f"{known.phase}: {known.message}" if known else f"{type(error).__name__}: {error}"
    return Outcome(Result.UNPROVEN, said=said, error=known)


def times(stage: Stage, script: Script, tries: int) -> list[Outcome]:
    """Run a script some times, each on a fresh machine."""
    return [stage.run(script) for _ in range(tries)]


__all__ = ["EXIT_STATUS", "Outcome", "Result", "Stage", "perform", "stage_for", "times"]
