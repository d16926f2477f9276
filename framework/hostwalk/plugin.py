"""The pytest plugin: options, fixtures, and the verdict on each claim.

Fixtures, for this project's contract and for tests of any other repository: ``target``, ``cell``, ``machine``,
``agent``, ``layout``, ``subject``, ``witness``; ``build_module`` and ``load_module`` for a driver of one's own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hostwalk import debugging, drivers, parallel, plugin_options, twice
from hostwalk.cache import Cache
from hostwalk.cells import Cell, Cells
from hostwalk.claim import Claim, claim_of
from hostwalk.errors import HostwalkError
from hostwalk.guest import Agent, Subject
from hostwalk.image import build_module as build_a_module
from hostwalk.image.layout import Layout
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.machine import Machine
from hostwalk.observed import NOTHING
from hostwalk.options import CheckOptions
from hostwalk.plugin_options import options_of
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.report.story import Comparison, Story
from hostwalk.reporting import asked, write_all
from hostwalk.repro import recording, testing
from hostwalk.repro.record import Recorded
from hostwalk.sabotage import Saboteur
from hostwalk.shard import Shard
from hostwalk.sharding import Sharding
from hostwalk.suites.collector import Collecting
from hostwalk.target import Target
from hostwalk.telling import compared, explained
from hostwalk.verdicts import Ending, foreign, judge, judge_error, rerun_command, run_command, said
from hostwalk.witness import Witness


class Session:
    """One pytest session: its cells, and the results so far."""

    def __init__(self, options: CheckOptions, progress: Progress, command: str = "") -> None:
        self.options = options
        self.shard = Shard.parse(options.shard)
        self.command = command
        self.targets = options.targets
        self.seed = random.randrange(1 << 32) if options.seed is None else options.seed  # noqa: S311
        self.cells = Cells(self.targets, options, progress)
        self.cells.on_loss = self._lost
        self.results: list[Result] = []
        self.selected = 0
        self.comparison: Comparison | None = None
        self.recorded: list[Recorded] = []
        self.unrecorded: list[HostwalkError] = []
        self._start = time.monotonic()

    def amend(self, ending: Ending, when: str, story: Story | None = None) -> None:
        """Replace the verdict of the last claim, which was kept until something came to light afterwards."""
        why = f"it was kept, but {when}: {ending.reason}".rstrip(": ")
        self.results[-1] = replace(
            self.results[-1], verdict=ending.verdict, reason=why, detail=ending.detail,
            crashed=ending.crashed, story=story,
        )  # fmt: skip

    def _lost(self, target: Target, error: HostwalkError) -> None:
        """Blame damage that was found in a machine between two claims on the one that ran there last."""
        last = self.results[-1] if self.results and not self.options.sabotage else None
        if last is not None and last.target == target and last.verdict is Verdict.KEPT:
            self.amend(judge_error(error), "before the next claim began")

    @property
    def run(self) -> Run:
        """Everything that was judged so far."""
        return Run(
            tuple(self.results), self.targets, dict(self.cells.identities), self.seed,
            time.monotonic() - self._start, self.options.sabotage, self.command, self.options.shard,
        )  # fmt: skip


pytest_addoption = plugin_options.pytest_addoption
pytest_xdist_auto_num_workers = parallel.pytest_xdist_auto_num_workers
SESSION = pytest.StashKey[Session]()
PROGRESS = pytest.StashKey[Progress]()
PUT_AWAY = "its machine was put away: the next claim gets a fresh one"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and start a session; no machine boots before a test asks for one."""
    config.addinivalue_line(
        "markers", "claim(claim): one sentence of a manual page; use hostwalk.claim.claim"
    )
    config.addinivalue_line("markers", "repro(pin, shows): a script that shows a failure; use hostwalk.repro")
    try:
        options = options_of(config)
        session = Session(
            options,
            config.stash.get(PROGRESS, SILENT),
            run_command(config, options, ours=PROGRESS in config.stash),
        )
        config.stash[SESSION] = session
        config.pluginmanager.register(testing.Scripts(session), "hostwalk-scripts")
        if session.options.repro_dir is not None:
            config.pluginmanager.register(recording.Recordings(session), "hostwalk-recordings")
        parallel.take_part(config, session)
        config.pluginmanager.register(Sharding(session), "hostwalk-sharding")
        config.pluginmanager.register(Collecting(options), "hostwalk-suites")
        asked(config)
    except HostwalkError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_sessionstart(session: pytest.Session) -> None:
    """Take the debugger over: by now pytest has made its own ready."""
    debugging.take_over(session.config)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the reports that were asked for."""
    write_all(session.config, session.config.stash[SESSION].run)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End every machine."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.cells.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses a machine on each target, target by target."""
    if "target" in metafunc.fixturenames:
        targets = testing.pinned(metafunc.definition, metafunc.config.stash[SESSION])
        metafunc.parametrize("target", targets, ids=[target.name for target in targets], scope="session")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let ``-k`` select a claim by its id."""
    claim = claim_of(item)
    if claim is not None:
        item.extra_keyword_matches.add(claim.id)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """In a sabotage run, run a claim's test twice: see hostwalk.twice."""
    sabotage = item.config.stash[SESSION].options.sabotage
    if not sabotage or claim_of(item) is None or not isinstance(item, pytest.Function):
        return None
    twice.run(item, nextitem)
    return True


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    """Return hostwalk's view of the running pytest session."""
    return pytestconfig.stash[SESSION]


@pytest.fixture
def cell(session: Session, target: Target) -> Cell:
    """Return the booted target; a machine that broke is replaced by a fresh one."""
    return session.cells.get(target)


@pytest.fixture
def machine(cell: Cell) -> Machine:
    """Return the running QEMU."""
    return cell.machine


@pytest.fixture
def agent(cell: Cell) -> Agent:
    """Return the client of the guest's agent."""
    return cell.agent


@pytest.fixture
def layout(cell: Cell) -> Layout:
    """Return the constants that the kernel was compiled with."""
    return cell.prepared.image.layout


@pytest.fixture
def subject(cell: Cell) -> Iterator[Subject]:
    """Return a fresh process in the guest, ended after the test."""
    with cell.agent.spawn() as made:
        yield made


@pytest.fixture
def build_module(cell: Cell) -> Callable[[Path], Path]:
    """Return a function that builds the module in a directory for the target's kernel and returns its file."""
    return lambda directory: build_a_module(cell.prepared.kernel, directory, Cache.user())


@pytest.fixture
def load_module(
    cell: Cell, subject: Subject, build_module: Callable[[Path], Path]
) -> Iterator[Callable[..., str]]:
    """Return ``load_module(directory, params="")``: builds a module and loads it until the test's subject has ended."""
    loaded: list[str] = []
    with cell.agent.spawn() as loader:

        def load(directory: Path, params: str = "") -> str:
            loaded.append(drivers.load(cell, loader, build_module(directory), params))
            return loaded[-1]

        yield load
        if not cell.agent.broken:
            subject.reap()
            for name in reversed(loaded):
                loader.unload_module(name)


@pytest.fixture
def witness(cell: Cell, request: pytest.FixtureRequest, session: Session) -> Witness:
    """Return the host's eyes on the machine; in a sabotage run they look at altered evidence once."""
    claim = claim_of(request.node)
    altered = session.options.sabotage and not twice.is_clean(request.node)
    saboteur = Saboteur(claim.sabotage) if claim is not None and altered else None
    return Witness(cell, saboteur=saboteur)


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Explain a comparison of columns that failed page by page, and keep it for the reports."""
    found = compared(op, left, right)
    if found is None:
        return None
    config.stash[SESSION].comparison = found
    return explained(found, left, right)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Judge what the test alone cannot see: the kernel's own warnings, and whether a sabotage was noticed."""
    claim = claim_of(pyfuncitem)
    witness = pyfuncitem.funcargs.get("witness")
    if claim is None or not isinstance(witness, Witness):
        return (yield)
    pyfuncitem.config.stash[SESSION].comparison = None
    witness.require(claim)
    if witness.saboteur is not None:
        return (yield from twice.noticed(claim, witness.saboteur))
    wanted = pyfuncitem.config.stash[SESSION].options.costs
    subject = pyfuncitem.funcargs.get("subject") if wanted else None
    try:
        with witness.observing(claim, subject if isinstance(subject, Subject) else None):
            result = yield
    except pytest.skip.Exception:
        witness.check_console(claim)
        raise
    except (Exception, pytest.fail.Exception) as error:
        if isinstance(error, HostwalkError):
            witness.machine.explain(error)
        witness.prefer_crash(error)
        raise
    witness.check_console(claim)
    options = pyfuncitem.config.stash[SESSION].options
    if options.audit and not options.sabotage:
        witness.check_invariants()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the end of a claim's test into its result."""
    report = yield
    claim = claim_of(item)
    if claim is None or not isinstance(item, pytest.Function):
        return report
    if twice.is_clean(item):
        return _clean(item, claim, call, report)
    if call.when == "teardown":
        return _look_back(item, claim, call, report)
    if call.when == "setup" and call.excinfo is None:
        return report
    ending = _ending(item, claim, call, report)
    _conclude(item, claim, ending, call.duration, report)
    seen = item.funcargs.get("witness")
    if ending.verdict is Verdict.BROKEN and isinstance(seen, Witness):
        report.sections.append(("hostwalk", "\n".join(seen.story())))
    return report


def _conclude(
    item: pytest.Function, claim: Claim, ending: Ending, seconds: float, report: pytest.TestReport
) -> None:
    """Keep the result and have pytest's report agree with it."""
    _record(item, claim, ending, seconds, report)
    if ending.verdict is Verdict.DEPARTS:
        report.outcome, report.wasxfail = "skipped", f"departs: {ending.reason}"
    if ending.verdict is Verdict.NOT_APPLICABLE:
        report.outcome = "skipped"


def _clean(
    item: pytest.Function, claim: Claim, call: pytest.CallInfo[None], report: pytest.TestReport
) -> pytest.TestReport:
    """Let a claim that is not kept with nothing altered end so: its sabotage would prove nothing."""
    if call.excinfo is not None and not item.stash[twice.UNFIT]:
        ending = twice.unfit(item, _ending(item, claim, call, report))
        _conclude(item, claim, ending, call.duration, report)
    return report


def _look_back(
    item: pytest.Function, claim: Claim, call: pytest.CallInfo[None], report: pytest.TestReport
) -> pytest.TestReport:
    """Break a claim that was kept if the end of its subject shows that the kernel was damaged."""
    session, witness = item.config.stash[SESSION], item.funcargs.get("witness")
    kept = bool(session.results) and session.results[-1].verdict is Verdict.KEPT
    if not isinstance(witness, Witness) or not kept:
        return report
    error = call.excinfo.value if call.excinfo is not None else witness.aftermath(claim)
    ending = judge(claim, witness.layout["LINUX_VERSION_CODE"], error, str(error))
    if ending.verdict not in (Verdict.KEPT, Verdict.NOT_APPLICABLE):
        session.amend(ending, "as its subject ended", witness.told(ending.reason, None))
        report.outcome, report.longrepr = "failed", f"{session.results[-1].reason}\n{ending.detail}"
    return report


def _ending(
    item: pytest.Function, claim: Claim, call: pytest.CallInfo[None], report: pytest.TestReport
) -> Ending:
    error = call.excinfo.value if call.excinfo is not None else None
    witness = item.funcargs.get("witness")
    if not isinstance(witness, Witness):
        return judge(claim, 0, error, report.longreprtext)
    ending = judge(claim, witness.layout["LINUX_VERSION_CODE"], error, _detail(report, witness))
    if witness.cell.broken:
        return replace(ending, detail=f"{ending.detail}\n{PUT_AWAY}")
    return ending


def _detail(report: pytest.TestReport, witness: Witness) -> str:
    return "\n".join([said(report.longreprtext), *witness.story()])


def _story(item: pytest.Function, ending: Ending, report: pytest.TestReport) -> Story | None:
    """Return what was done and seen, where somebody has to look into it."""
    witness = item.funcargs.get("witness")
    if ending.verdict not in (Verdict.BROKEN, Verdict.UNPROVEN) or not isinstance(witness, Witness):
        return None
    return witness.told(said(report.longreprtext), item.config.stash[SESSION].comparison)


def _record(
    item: pytest.Function, claim: Claim, ending: Ending, seconds: float, report: pytest.TestReport
) -> None:
    session = item.config.stash[SESSION]
    target = item.callspec.params["target"]
    assert isinstance(target, Target)
    witness = item.funcargs.get("witness")
    observed = witness.observed if isinstance(witness, Witness) else NOTHING
    path, line, _ = item.location
    session.results.append(
        Result(
            claim.id, claim.page, claim.sentence, target, ending.verdict, ending.reason, ending.detail,
            seconds, rerun_command(claim, target, session.options, foreign(item)),
            f"{path}:{(line or 0) + 1}", item.nodeid, ending.crashed, claim.kernels.text,
            claim.departs.known if claim.departs is not None else "", _story(item, ending, report),
            ending.untestable, observed,
            claim.reading, claim.code,
        )
    )  # fmt: skip
