"""What tests that boot machines share."""

from __future__ import annotations

import signal
from pathlib import Path

import proofs
import pytest
from failure_runs import ONE_CLAIM, Hostwalk

from hostwalk.cache import Cache

FIRST_SECONDS = 600
# A shell that starts tests in the background has them, and what they start, ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache, with all that one claim on x86-64 needs; it must not be changed."""
    root = Cache.user().root
    done = Hostwalk(tmp_path_factory.mktemp("warm"), root).run(*ONE_CLAIM, seconds=FIRST_SECONDS)
    assert done.status == 0, done.text
    return root


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was proven, format by format."""
    table = list(proofs.lines())
    if table:
        terminalreporter.section("formats and proofs")
        terminalreporter.write_line("\n".join(table))
