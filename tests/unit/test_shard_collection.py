"""Shards under plain pytest: what is collected for each part of a small contract."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

CONTRACT = """
from hostwalk.claim import claim
from hostwalk.sabotage import refcount

def make(number):
    @claim(f"a.{number}", "p(2)", "It holds.", sabotage=refcount(+1))
    def test(subject, witness, target):
        pass
    return test

for number in range(12):
    globals()[f"test_{number}"] = make(number)

def test_that_is_no_claim(target):
    pass
"""


class Collected:
    """Rides along, and takes the names of what is left."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.names = [item.name for item in session.items]


def collected(directory: Path, shard: str, *words: str) -> tuple[int, list[str]]:
    argv = ["--collect-only", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(directory)]
    seen = Collected()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = pytest.main(
            [*argv, f"--rootdir={directory}", f"--hostwalk-shard={shard}", *words], plugins=[seen]
        )
    return int(status), seen.names


@pytest.fixture
def contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "test_small.py").write_text(CONTRACT)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.setenv("HOSTWALK_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_all_shards_together_are_exactly_the_whole(contract: Path) -> None:
    _, whole = collected(contract, "")
    parts = [collected(contract, f"{number}/3")[1] for number in (1, 2, 3)]
    assert len(whole) == 26
    assert sorted(name for part in parts for name in part) == sorted(whole)
    assert all(len(part) < len(whole) for part in parts)


def test_all_cells_of_a_claim_are_in_the_same_shard(contract: Path) -> None:
    _, part = collected(contract, "1/2")
    names = [name.partition("[")[0] for name in part]
    assert names
    assert all(names.count(name) == 2 for name in names)


def test_an_empty_shard_passes_but_an_empty_selection_does_not(contract: Path) -> None:
    statuses = [collected(contract, f"{number}/2", "-k", "a.1")[0] for number in (1, 2)]
    assert statuses == [0, 0]
    assert collected(contract, "1/2", "-k", "no_such_name")[0] == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_shard_that_makes_no_sense(contract: Path) -> None:
    assert collected(contract, "5/2")[0] == pytest.ExitCode.USAGE_ERROR
