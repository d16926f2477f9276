"""Parallel runs with pytest-xdist: how many workers fit, and how results travel from them to the one who reports.

Workers judge; what they found rides on pytest's own reports as plain data. The controller puts it in the order of
collection, so that a run's outcome does not depend on who judged what and when.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hostwalk.errors import HostwalkError
from hostwalk.machine.command import TRANSLATED_MIB
from hostwalk.observed import Observed
from hostwalk.report.model import Result, Verdict, kernel_in
from hostwalk.report.story import plain, story_of
from hostwalk.target import Target
from hostwalk.template import measured_forks

if TYPE_CHECKING:
    from hostwalk.plugin import Session

PARCEL = "hostwalk"
RECEIVER = "hostwalk-receiver"
SEED = "hostwalk_seed"
SELECTED = "hostwalk_selected"
CRASHED = "???"
CHANGED = (
    "infrastructure: the kernel was built anew while it was checked, and others judged another one; change nothing in "
    "its tree meanwhile, or check a git worktree of it"
)
PYTHON_BYTES = 192 << 20
MACHINES = 2
"""Of each worker: the one that a claim runs on, and the next."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return for ``-n auto`` as many workers as there are cores, and fewer where memory is short."""
    guest = int(config.getoption("--hostwalk-memory")) << 20
    return fitting(len(os.sched_getaffinity(0)), available_memory(), machine_bytes(guest))


def fitting(cores: int, memory: int, machine: int) -> int:
    """Return how many workers fit into ``memory`` bytes; at least one."""
    return max(1, min(cores, memory // (PYTHON_BYTES + MACHINES * machine)))


def machine_bytes(guest: int) -> int:
    """Return the bytes that a machine takes: thrice what forks had when they began, if any was ever measured.

    And what QEMU translates in the time that it is kept.
    """
    measured = measured_forks()
    return (min(guest, 3 * max(measured)) if measured else guest) + (TRANSLATED_MIB << 20)


def available_memory() -> int:
    """Return the bytes that the host can still give: MemAvailable of proc_meminfo(5)."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    values = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines)}
    return int(values["MemAvailable"]) << 10


def is_worker(config: pytest.Config) -> bool:
    """Whether this is a process that pytest-xdist has started."""
    return hasattr(config, "workerinput")


def packed(result: Result) -> dict[str, Any]:
    """Return a result as plain data."""
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    story = plain(result.story) if result.story is not None else None
    told = {"target": result.target.name, "verdict": str(result.verdict), "story": story}
    return values | told | {"observed": result.observed.plain()}


def unpacked(values: Mapping[str, Any], targets: Iterable[Target]) -> Result:
    """Return the result that was packed."""
    target = next(target for target in targets if target.name == values["target"])
    story = story_of(values["story"]) if values["story"] is not None else None
    told = {"target": target, "verdict": Verdict(values["verdict"]), "story": story}
    return Result(**{**values, **told, "observed": Observed.of(values["observed"])})


class Sender:
    """The plugin of a worker: puts on each report what has changed since the last."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sent: list[Result] = []
        self._order: dict[str, int] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn the order; every worker collects the same."""
        self._order = {item.nodeid: number for number, item in enumerate(session.items)}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Load the report."""
        report = yield
        identities = dict(self._session.cells.identities)
        setattr(report, PARCEL, {"results": self._news(), "identities": identities})
        return report

    def _news(self) -> list[list[Any]]:
        now, before = self._session.results, self._sent
        start = max(0, len(before) - 1)
        news = [result for result in now[start:] if not any(result is old for old in before[start:])]
        self._sent = list(now)
        return [[self._order.get(result.nodeid, 0), packed(result)] for result in news]


class Receiver:
    """The plugin of the controller: collects what the workers found, in the order of collection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._results: dict[tuple[int, str], Result] = {}
        self.on_count: Callable[[int], None] = lambda _count: None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give each worker the run's seed."""
        node.workerinput[SEED] = self._session.seed

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Hear how many there are."""
        self.on_count(len(ids))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Unload a report; that of a worker's crash leaves the test that ran there unproven."""
        parcel = getattr(report, PARCEL, None)
        if parcel is not None:
            others = self._others(parcel["identities"])
            for number, values in parcel["results"]:
                found = unpacked(values, self._session.targets)
                self._keep(number, _not_of_ours(found) if found.target.name in others else found)
        elif report.when == CRASHED:
            self._keep(len(self._results), self._lost(report))

    def _others(self, identities: Mapping[str, str]) -> set[str]:
        """Note what was booted; return the names of the targets of which another worker booted another kernel."""
        known = self._session.cells.identities
        others = {
            name
            for name, identity in identities.items()
            if kernel_in(known.get(name, identity)) != kernel_in(identity)
        }
        known.update({name: identity for name, identity in identities.items() if name not in others})
        return others

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear how many claims there were before a shard of them was chosen."""
        output = getattr(node, "workeroutput", {})
        self._session.selected = max(self._session.selected, int(output.get(SELECTED, 0)))

    def pytest_keyboard_interrupt(self) -> None:
        """Have the workers end at once, and what they run: pytest-xdist gives them ten seconds and kills them."""
        for pid in children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def _keep(self, number: int, result: Result) -> None:
        self._results[number, result.nodeid] = result
        self._session.results[:] = [self._results[key] for key in sorted(self._results)]

    def _lost(self, report: pytest.TestReport) -> Result:
        target = next((each for each in self._session.targets if each.name in report.nodeid), None)
        if target is None:
            raise HostwalkError(f"a worker process ended: {report.longreprtext}")
        reason = "infrastructure: the worker process ended"
        return Result(
            report.nodeid, "", "", target, Verdict.UNPROVEN, reason, report.longreprtext, nodeid=report.nodeid
        )


def _not_of_ours(found: Result) -> Result:
    """Return a result of another kernel as one that proves nothing: a report is about one kernel of each target."""
    return replace(found, verdict=Verdict.UNPROVEN, reason=CHANGED, detail="", crashed=False, story=None)


def children() -> tuple[int, ...]:
    """Return the process's own children, whoever started them: /proc/PID/task/TID/children of proc(5)."""
    lists = Path("/proc/self/task").glob("*/children")
    return tuple(int(pid) for each in lists for pid in each.read_text(encoding="ascii").split())


def tell_selected(config: pytest.Config, selected: int) -> None:
    """Tell the controller, from a worker, how many claims there were before a shard was chosen."""
    output: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if output is not None:
        output[SELECTED] = selected


def take_part(config: pytest.Config, session: Session) -> None:
    """Register what a parallel run needs, if this is one."""
    if is_worker(config):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        config.pluginmanager.register(Sender(session), "hostwalk-sender")
    elif config.getoption("dist", "no") != "no":
        config.pluginmanager.register(Receiver(session), RECEIVER)
