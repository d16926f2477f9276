"""Runs the contract under pytest, in this process, and hands back what was judged."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Generator, Iterator

import pytest

from hostwalk import parallel, resources
from hostwalk.cache import Cache
from hostwalk.cell import prepare
from hostwalk.errors import HostwalkError, UsageError
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.options import CheckOptions
from hostwalk.plugin import PROGRESS, SESSION, Session
from hostwalk.report.model import Run
from hostwalk.repro.record import Recorded

_PREFIX, _NO_BYTECODE = "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"


class _Collector:
    """Rides along in a pytest session: hands the progress in and takes the results out."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.session: Session | None = None
        self._stack = contextlib.ExitStack()
        self._advance: Callable[[int], None] = lambda _done: None
        self._counting = False
        self._done = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Give the plugin its progress before it starts."""
        config.stash[PROGRESS] = self.progress

    @pytest.hookimpl(wrapper=True)
    def pytest_cmdline_main(self) -> Generator[None, object, object]:
        """Raise what pytest finds wrong with its command line as an error of ours."""
        try:
            return (yield)
        except pytest.UsageError as error:
            raise _usage(error) from error

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Take note of the session; with workers, they say how many claims there are."""
        self.session = session.config.stash[SESSION]
        receiver = session.config.pluginmanager.get_plugin(parallel.RECEIVER)
        if receiver is not None:
            receiver.on_count = self._count
        else:
            self.session.cells.warm()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Start counting claims."""
        self._count(len(session.items))

    def _count(self, claims: int) -> None:
        if not self._counting:
            self._counting = True
            self._advance = self._stack.enter_context(self.progress.task("claims", claims))

    def pytest_runtest_logfinish(self) -> None:
        """Count one more."""
        self._done += 1
        self._advance(self._done)

    def pytest_unconfigure(self) -> None:
        """Stop counting."""
        self._stack.close()


def run_contract(options: CheckOptions, progress: Progress = SILENT) -> Run:
    """Run the claims on every target and return what was judged.

    Raises UsageError when no claim is selected or the options make no sense, and HostwalkError when the contract
    itself cannot be collected.
    """
    collector = _Collector(progress)
    if _is_shared_out(options):
        _prepare(options, progress)
    with _quiet(aloud=options.pdb) as output, _kept_bytecode():
        status = pytest.main(_arguments(options), plugins=[collector])
    if status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and collector.session is not None:
        return collector.session.run
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    empty_shard = collector.session is not None and options.shard and collector.session.selected
    if status == pytest.ExitCode.NO_TESTS_COLLECTED and empty_shard and collector.session is not None:
        return collector.session.run
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(
            f"no claim matches {options.keyword!r}", remedy="hostwalk check -k takes ids such as gup.ref.1"
        )
    raise HostwalkError(f"the contract could not be run:\n{output.getvalue().strip()}")


def _is_shared_out(options: CheckOptions) -> bool:
    return options.workers not in ("0", "1")


def _prepare(options: CheckOptions, progress: Progress) -> None:
    """Fetch and build what the workers need, for they show no progress; what fails they will say of each cell."""
    for target in options.targets:
        with contextlib.suppress(HostwalkError):
            prepare(target, options, progress, Cache.user())


def record_tests(nodeid: str, options: CheckOptions, progress: Progress = SILENT) -> list[Recorded]:
    """Run tests of the user's own, with scripts for those that fail; return the scripts.

    Raises UsageError when there are no such tests, or none fails; HostwalkError when they cannot be run, or when no
    script can be made of a failure.
    """
    collector = _Collector(progress)
    words = ["-p", "hostwalk.plugin", "-p", "no:cacheprovider", "-q", "-s", "--no-header"]
    with _quiet() as output:
        status = pytest.main([nodeid, *words, *options.pytest_arguments()], plugins=[collector])
    if collector.session is None or status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise UsageError(
            f"the tests could not be run:\n{output.getvalue().strip()}", remedy="look at the test"
        )
    if not collector.session.recorded and collector.session.unrecorded:
        raise collector.session.unrecorded[0]
    if not collector.session.recorded:
        why = f":\n{output.getvalue().strip()}" if status != pytest.ExitCode.OK else ""
        raise UsageError(
            f"no script came of {nodeid}{why or ': nothing failed'}", remedy="assert what is promised"
        )
    return collector.session.recorded


def _usage(error: pytest.UsageError) -> HostwalkError:
    """Return the error behind one of pytest's: our own where there is one."""
    if isinstance(error.__cause__, HostwalkError):
        return error.__cause__
    return UsageError(
        str(error), remedy="hostwalk check -k takes names joined by and, or, not: -k 'gup and not force'"
    )


def _arguments(options: CheckOptions) -> list[str]:
    contract = resources.contract()
    selected = [str(contract / nodeid) for nodeid in options.nodeids] or [str(contract)]
    return [
        *selected,
        "-p", "hostwalk.plugin", "-p", "no:cacheprovider", "-p", "no:tmpdir", "-c", os.devnull,
        f"--rootdir={contract}",
        "-q", "-s", "--tb=short", "--no-header", "--import-mode=importlib",
        *(["-p", "xdist.plugin", "-n", options.workers] if _is_shared_out(options) else []),
        *(["--pdb", "--no-summary"] if options.pdb else []),
        *options.pytest_arguments(),
    ]  # fmt: skip


@contextlib.contextmanager
def _kept_bytecode() -> Iterator[None]:
    """Have pytest keep the claims as it has compiled them, in the cache: to do it each time takes seconds."""
    before = sys.pycache_prefix, sys.dont_write_bytecode, os.environ.get(_NO_BYTECODE)
    sys.pycache_prefix, sys.dont_write_bytecode = str(Cache.user().root / "bytecode"), False
    os.environ[_PREFIX] = sys.pycache_prefix
    os.environ.pop(_NO_BYTECODE, None)
    try:
        yield
    finally:
        sys.pycache_prefix, sys.dont_write_bytecode, forbidden = before
        del os.environ[_PREFIX]
        if forbidden is not None:
            os.environ[_NO_BYTECODE] = forbidden


@contextlib.contextmanager
def _quiet(*, aloud: bool = False) -> Iterator[io.StringIO]:
    """Keep pytest's own words for the error that may need them, unless aloud, and other people's plugins out."""
    output, before = io.StringIO(), os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        with contextlib.nullcontext() if aloud else contextlib.redirect_stdout(output):
            yield output
    finally:
        if before is None:
            del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        else:
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = before
