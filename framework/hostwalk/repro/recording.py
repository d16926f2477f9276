"""The part of the pytest plugin that records: what each test does, and a script for each that fails."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hostwalk.claim import Claim
from hostwalk.errors import HostwalkError
from hostwalk.report.model import Result, Verdict
from hostwalk.repro.pin import Pin
from hostwalk.repro.record import Comparison, Draft, Source, drafts, save
from hostwalk.repro.recorder import Recorder
from hostwalk.repro.run import Outcome, perform
from hostwalk.repro.script import FIXTURES, Script
from hostwalk.target import Target
from hostwalk.witness import Witness

if TYPE_CHECKING:
    from hostwalk.plugin import Session


@dataclass
class Recording:
    """What one test did, and what its last failed comparison compared."""

    recorder: Recorder
    witness: Witness
    roots: tuple[tuple[object, str], ...]
    comparison: Comparison | None = None


class Recordings:
    """A plugin of pytest: records each test that has a witness, and writes a script for each that breaks."""

    def __init__(self, session: Session) -> None:
        self._session = session
        options = session.options
        self._directory = options.repro_dir or Path()
        self._wanted = {Verdict.BROKEN, *([Verdict.DEPARTS] if options.repro_departures else [])}
        self._current: Recording | None = None

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Listen to what the test does."""
        witness = pyfuncitem.funcargs.get("witness")
        self._current = None
        if not isinstance(witness, Witness):
            return (yield)
        agent = witness.cell.agent
        given = {name: pyfuncitem.funcargs.get(name) for name in FIXTURES} | {"agent": agent}
        roots = tuple((given[name], name) for name in FIXTURES if given[name] is not None)
        self._current = Recording(Recorder(agent), witness, roots)
        with self._current.recorder.listening():
            return (yield)

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> None:
        """Take note of what a failed assertion compared; pytest explains it."""
        if self._current is not None:
            self._current.comparison = (op, left, right)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Write the script of a test that broke, and say where it is."""
        report = yield
        recording = self._current
        if recording is None or call.when == "setup" or not isinstance(item, pytest.Function):
            return report
        marker = item.get_closest_marker("claim")
        claim = marker.args[0] if marker is not None else None
        error = _error(recording, claim, call)
        if error is not None and self._is_wanted(item, claim, report):
            self._current = None
            self._tell(item, report, self._script(recording, item, claim, error))
        return report

    def _is_wanted(self, item: pytest.Function, claim: Claim | None, report: pytest.TestReport) -> bool:
        if claim is None:
            return report.failed
        result = self._result(item)
        return result is not None and result.verdict in self._wanted

    def _result(self, item: pytest.Function) -> Result | None:
        results = self._session.results
        return results[-1] if results and results[-1].nodeid == item.nodeid else None

    def _tell(self, item: pytest.Function, report: pytest.TestReport, line: str) -> None:
        report.sections.append(("hostwalk repro", line))
        result = self._result(item)
        if result is not None:
            self._session.results[-1] = replace(result, detail=f"{result.detail}\n{line}".lstrip())

    def _script(
        self, recording: Recording, item: pytest.Function, claim: Claim | None, error: BaseException
    ) -> str:
        """Write the script, run it, and return a line that says where it is and what it does."""
        cell, target = recording.witness.cell, item.callspec.params["target"]
        assert isinstance(target, Target)
        source = Source(
            claim.id if claim else item.originalname,
            _about(item, claim),
            recording.roots,
            cell.agent.page_size,
        )
        candidates = drafts(
            source,
            recording.recorder,
            error,
            Pin.of(cell.prepared, cell.machine.accel.name),
            recording.comparison,
        )
        try:
            made = save(
                candidates, lambda draft: self._path(draft, target), lambda script: self._run(script, target)
            )
        except HostwalkError as why:
            self._session.unrecorded.append(why)
            return f"no repro script: {why.message}"
        self._session.recorded.append(made)
        return str(made)

    def _run(self, script: Script, target: Target) -> Outcome:
        cell = self._session.cells.spare(target)
        try:
            return perform(script, cell)
        finally:
            cell.close()

    def _path(self, draft: Draft, target: Target) -> Path:
        where = re.sub(r"\W+", "_", target.name)
        return self._directory / f"{draft.name}_{where}.py"


def _error(recording: Recording, claim: Claim | None, call: pytest.CallInfo[None]) -> BaseException | None:
    """Return what ended a test, or what came to light when its process ended."""
    if call.excinfo is not None:
        return call.excinfo.value
    return recording.witness.aftermath(claim) if claim is not None and call.when == "teardown" else None


def _about(item: pytest.Function, claim: Claim | None) -> str:
    if claim is None:
        words = (item.function.__doc__ or "").strip().splitlines()
        return f"{item.originalname}: {words[0]}" if words else item.originalname
    return f"{claim.id} is not kept. {claim.page} says: {claim.sentence}"
