"""Scripts under pytest: on the target that they were recorded on, red as long as they reproduce."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from hostwalk.errors import HostwalkError
from hostwalk.repro.pin import Pin
from hostwalk.repro.run import Outcome, Result, perform
from hostwalk.repro.script import MARK, load
from hostwalk.target import Target

if TYPE_CHECKING:
    from hostwalk.plugin import Session


class ReproducesError(AssertionError):
    """A script showed its failure again, or another one."""


class ChangedWarning(UserWarning):
    """A script runs on something else than it was recorded on."""


class Scripts:
    """A plugin of pytest: runs functions marked as scripts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Run a script as ``hostwalk repro run`` does; raise ReproducesError if it fails."""
        __tracebackhide__ = True
        if pyfuncitem.get_closest_marker(MARK) is None:
            return None
        script = load(pyfuncitem.path)
        target = pyfuncitem.callspec.params["target"]
        assert isinstance(target, Target)
        cell = self._session.cells.spare(target)
        try:
            changes = script.pin.changed(Pin.of(cell.prepared, cell.machine.accel.name))
            outcome = perform(script, cell)
        finally:
            cell.close()
        for change in changes:
            warnings.warn(ChangedWarning(f"{script.path.name}: {change}"), stacklevel=1)
        _raise(outcome)
        return True


def _raise(outcome: Outcome) -> None:
    __tracebackhide__ = True
    if outcome.result is Result.KEPT:
        return
    if outcome.failure is None:
        raise outcome.error or HostwalkError(outcome.said)
    lines = [f"{outcome.result}: {outcome.failure}", outcome.said, *outcome.story]
    raise ReproducesError("\n".join(lines))


def pinned(definition: pytest.Function, session: Session) -> tuple[Target, ...]:
    """Return the targets of a test: a script's own, unless others were asked for."""
    mark = definition.get_closest_marker(MARK)
    options = session.options
    if mark is None or options.kernels or options.archs or options.formats or options.matrix:
        return session.targets
    target: Target = mark.args[0].target
    session.cells.add(target)
    return (target,)
