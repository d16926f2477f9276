"""Other people's programs as pytest tests: each line that a program judges is a result of its own.

``pytest ring.hostwalk.toml`` runs the programs that a file names (docs/guest.md), ``pytest --hostwalk-kselftest mm``
the kernel's own; each in a fresh guest of each target. A program is one item; what it says comes as a report per line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hostwalk.errors import HostwalkError
from hostwalk.suites import programs
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.programs import Job

if TYPE_CHECKING:
    from hostwalk.options import CheckOptions

SUFFIX = ".hostwalk.toml"
OPTION = "--hostwalk-kselftest"
LINE = "hostwalk_line"
"""Where a worker of pytest-xdist keeps the id of a report: xdist insists on that of the item."""
_SKIPS = (Outcome.SKIP, Outcome.XFAIL)


def add_option(group: pytest.OptionGroup) -> None:
    """Add the option that asks for the kernel's own selftests."""
    group.addoption(
        OPTION, action="append", default=[], choices=("mm",), metavar="COLLECTION",
        help="run tools/testing/selftests/COLLECTION, too: mm; a result for each line",
    )  # fmt: skip


class Collecting:
    """The plugin that finds such files, and runs what they name."""

    def __init__(self, options: CheckOptions) -> None:
        self._options = options
        self._session: pytest.Session | None = None
        self._told: set[str] = set()

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Take the session, which counts tests."""
        self._session = session

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Take a file that names programs."""
        if not file_path.name.endswith(SUFFIX):
            return None
        jobs = partial(programs.jobs, file_path, self._options)
        return Programs.from_parent(parent, path=file_path, jobs=jobs)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Add the selftests that were asked for, before ``-k`` chooses."""
        for collection in config.getoption(OPTION):
            try:
                jobs = tuple(programs.selftests(collection, self._options))
            except HostwalkError as error:
                raise pytest.UsageError(str(error)) from error
            place = config.rootpath / f"selftests-{collection}"
            items.extend(_collected(Programs.from_parent(session, path=place, jobs=partial(tuple, jobs))))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Run a program and report each of its results."""
        if not isinstance(item, Program):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports(item, item.job.run()):
            if hasattr(item.config, "workerinput"):
                setattr(report, LINE, report.nodeid)
                report.nodeid = item.nodeid
            else:
                self._count(item.nodeid)
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_from_serializable(self, data: dict[str, Any]) -> None:
        """Give a report that came from a worker its own id, and leave the rest to pytest."""
        if LINE in data:
            self._count(data["nodeid"])
            data["nodeid"] = data.pop(LINE)

    def _count(self, nodeid: str) -> None:
        """Count each report of an item but its first as one more test, for pytest's percentage."""
        if nodeid in self._told and self._session is not None:
            self._session.testscollected += 1
        self._told.add(nodeid)


def _collected(parent: Programs) -> Iterator[pytest.Item]:
    """Yield what is in a collector that pytest did not find itself, and tell all plugins of it."""
    report = parent.ihook.pytest_make_collect_report(collector=parent)
    for item in report.result:
        parent.ihook.pytest_itemcollected(item=item)
        yield item
    parent.ihook.pytest_collectreport(report=report)


class Programs(pytest.File):
    """What a file names, or a collection of selftests."""

    def __init__(self, *, jobs: Callable[[], Iterable[Job]], **given: Any) -> None:
        super().__init__(**given)
        self._jobs = jobs

    def collect(self) -> Iterator[Program]:
        """Yield an item per program and target; raises CollectError for a file that makes no sense."""
        try:
            for job in self._jobs():
                yield Program.from_parent(self, name=f"{job.name}[{job.target}]", job=job)
        except HostwalkError as error:
            raise self.CollectError(str(error)) from error


class Program(pytest.Item):
    """A program on a target."""

    def __init__(self, *, job: Job, **given: Any) -> None:
        super().__init__(**given)
        self.job = job

    def runtest(self) -> None:
        """Run it where something else than our protocol asks for that; raises AssertionError for what failed."""
        failed = [result for result in self.job.run() if not result.outcome.good]
        assert not failed, "\n".join(f"{each.name}: {each.outcome}: {each.reason}" for each in failed)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where it comes from."""
        return self.path, 0, self.name


def reports(item: Program, results: Iterable[Result]) -> Iterator[pytest.TestReport]:
    """Yield a report per result, with an id of its own; what is unproven is an error, and no failure."""
    seen: dict[str, int] = {}
    for result in results:
        nodeid = _nodeid(item, result)
        seen[nodeid] = count = seen.get(nodeid, 0) + 1
        yield _report(item, result, nodeid if count == 1 else f"{nodeid} ({count})")


def _nodeid(item: Program, result: Result) -> str:
    """Return ``FILE::PROGRAM::LINE[TARGET]``; the name of the line is what its result's has beyond the program's."""
    line = result.name.removeprefix(item.job.title).removeprefix(" / ")
    base = item.nodeid.removesuffix(f"[{item.job.target}]")
    return f"{base}{f'::{line}' if line else ''}[{item.job.target}]"


def _report(item: Program, result: Result, nodeid: str) -> pytest.TestReport:
    path, _, _ = item.location
    domain = nodeid.partition("::")[2]
    extra = {"wasxfail": result.reason or "known"} if result.outcome is Outcome.XFAIL else {}
    now = time.time()
    return pytest.TestReport(
        nodeid, (path, 0, domain), {item.name: 1}, _outcome(result), _longrepr(path, result),
        "setup" if result.outcome is Outcome.UNPROVEN else "call",
        [("output", result.text)] if result.text else [], result.seconds, now - result.seconds, now,
        user_properties=[("outcome", str(result.outcome))], **extra,
    )  # fmt: skip


def _outcome(result: Result) -> Any:
    if result.outcome is Outcome.PASS:
        return "passed"
    return "skipped" if result.outcome in _SKIPS else "failed"


def _longrepr(path: str, result: Result) -> tuple[str, int, str] | str | None:
    match result.outcome:
        case Outcome.PASS:
            return None
        case Outcome.SKIP:
            return (path, 0, f"Skipped: {result.reason}")
        case _:
            return f"{result.outcome}: {result.reason}" if result.reason else str(result.outcome)
