"""``--pdb``: the debugger where a claim fails, before anything is undone, with the machine held still.

pytest enters it once the test's ``with`` blocks have ended, which for a claim means that the guest has run on and
given back what was under test. So the test's own frame is watched (sys.settrace), and the debugger begins with the
failing assertion itself. An error that is no failed assertion is left to pytest, with the machine held still.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import pytest

from hostwalk.cell import Cell
from hostwalk.errors import HostwalkError
from hostwalk.report.model import Verdict
from hostwalk.verdicts import judge

INVOKER = "pdbinvoke"
"""The name of pytest's own plugin that enters the debugger (_pytest/debugging.py)."""
SEEN = pytest.StashKey[BaseException]()
NAMES = ("cell", "machine", "agent", "subject", "witness", "layout")


def take_over(config: pytest.Config) -> None:
    """Put ours in the place of pytest's way into the debugger, where ``--pdb`` asks for it."""
    theirs = config.pluginmanager.get_plugin(INVOKER)
    if theirs is not None:
        config.pluginmanager.unregister(theirs)
        config.pluginmanager.register(_Invoker(theirs), INVOKER)


class _Invoker:
    """Enters the debugger once for each failure."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Iterator[None]:
        """Watch the test's frame while it runs, where it has a machine."""
        if not isinstance(pyfuncitem.funcargs.get("cell"), Cell) and not _cell_of(pyfuncitem):
            return (yield)
        code, before = getattr(pyfuncitem.obj, "__code__", None), sys.gettrace()
        sys.settrace(_watcher(code, lambda error, trace: self._enter(pyfuncitem, error, trace)))
        try:
            return (yield)
        finally:
            sys.settrace(before)

    def _enter(self, item: pytest.Function, error: BaseException, trace: Any) -> None:
        if is_expected(item, error):
            return
        item.stash[SEEN] = error
        with held(item):
            _say(item, error)
            sys.modules["_pytest.debugging"].post_mortem(trace)

    def pytest_exception_interact(self, node: pytest.Item, call: Any, report: Any) -> None:
        """Leave to pytest what was not seen as it happened."""
        seen = node.stash.get(SEEN, None)
        if seen is not None and call.excinfo is not None and call.excinfo.value is seen:
            return
        with held(node):
            self._theirs.pytest_exception_interact(node=node, call=call, report=report)

    def pytest_internalerror(self, excrepr: Any, excinfo: Any) -> None:
        """Leave pytest's own failures to pytest."""
        self._theirs.pytest_internalerror(excrepr=excrepr, excinfo=excinfo)


def _say(item: pytest.Function, error: BaseException) -> None:
    capture = item.config.pluginmanager.get_plugin("capturemanager")
    said = "\n".join(f"E   {line}" for line in str(error).splitlines())
    with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
        sys.stdout.write(f"\n{item.nodeid}\n{said}\n")
        sys.stdout.write(f"the machine is held still; in hand: {', '.join(names_of(item))}\n")
        sys.stdout.flush()


def is_expected(item: pytest.Item, error: BaseException) -> bool:
    """Whether a failed assertion breaks nothing: evidence that was altered on purpose, or a known departure."""
    marker, cell = item.get_closest_marker("claim"), _cell_of(item)
    if item.config.getoption("--hostwalk-sabotage"):
        return True
    if marker is None or cell is None:
        return False
    version = cell.prepared.image.layout["LINUX_VERSION_CODE"]
    return judge(marker.args[0], version, error, str(error)).verdict is not Verdict.BROKEN


def _watcher(code: Any, enter: Callable[[BaseException, Any], None]) -> Callable[..., Any]:
    """Return a trace function that calls ``enter`` at the first failed assertion in a function."""
    entered: list[BaseException] = []

    def local(_frame: FrameType, event: str, arg: Any) -> Any:
        if event == "exception" and issubclass(arg[0], AssertionError) and not entered:
            error = arg[1] if isinstance(arg[1], BaseException) else arg[0](arg[1])
            entered.append(error)
            enter(error, arg[2])
        return local

    def watch(frame: FrameType, _event: str, _arg: Any) -> Any:
        if frame.f_code is not code:
            return None
        frame.f_trace_lines = False
        return local

    return watch


def _cell_of(item: object) -> Cell | None:
    """Return the machine that a test uses, whichever fixture it came by."""
    request = getattr(item, "_request", None)
    try:
        cell = request.getfixturevalue("cell") if request is not None and _uses_cell(item) else None
    except pytest.FixtureLookupError:
        return None
    return cell if isinstance(cell, Cell) else None


def _uses_cell(item: object) -> bool:
    return "cell" in getattr(item, "fixturenames", ())


def names_of(item: object) -> Mapping[str, object]:
    """Return what is in hand in the debugger, by name."""
    cell = _cell_of(item)
    if cell is None:
        return {}
    given: Mapping[str, object] = getattr(item, "funcargs", {})
    own = {
        "cell": cell, "machine": cell.machine, "agent": cell.agent, "guest": cell.agent, "memory": cell.memory,
        "linux": cell.linux, "symbols": cell.prepared.kernel.symbols,
    }  # fmt: skip
    return own | {name: given[name] for name in NAMES if name in given}


@contextlib.contextmanager
def held(item: object) -> Iterator[None]:
    """Hold a test's machine still, and let every frame see the names in hand; as they were at the end."""
    cell, names = _cell_of(item), names_of(item)
    before = {name: vars(builtins)[name] for name in names if name in vars(builtins)}
    vars(builtins).update(names)
    try:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(HostwalkError):
                if cell is not None:
                    stack.enter_context(cell.machine.stopped())
            yield
    finally:
        for name in names:
            vars(builtins).pop(name, None)
        vars(builtins).update(before)
