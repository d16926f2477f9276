from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hostwalk import resources
from hostwalk.claim import Claim
from hostwalk.options import CheckOptions
from hostwalk.report.model import Verdict
from hostwalk.sabotage import refcount
from hostwalk.target import Arch, Target
from hostwalk.verdicts import foreign, judge, rerun_command, run_command

CLAIM = Claim("gup.ref.1", "get_user_pages(9)", "S", refcount(+1))
DEFAULT = Target(Arch.X86_64)
OTHER = Target(Arch.ARM64, "debian:6.1", "52bit", cpus=2)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOSTWALK_COMMAND", raising=False)


@pytest.mark.parametrize(
    ("where", "options", "words"),
    [
        (DEFAULT, CheckOptions(), "hostwalk check --arch x86_64 -k gup.ref.1"),
        (
            OTHER,
            CheckOptions(sabotage=True, isolation="cell", audit=False),
            "hostwalk check --arch arm64 --format 52bit --kernel debian:6.1 --smp 2 --isolation=cell --sabotage "
            "--no-audit -k gup.ref.1",
        ),
    ],
)
def test_one_of_our_claims_again(where: Target, options: CheckOptions, words: str) -> None:
    assert rerun_command(CLAIM, where, options) == words


def test_a_claim_of_another_repository_again() -> None:
    words = rerun_command(CLAIM, OTHER, CheckOptions(audit=False), "tests/test_ring.py::test_it[a b]")
    assert words == (
        "pytest 'tests/test_ring.py::test_it[a b]' --hostwalk-arch arm64 --hostwalk-format 52bit "
        "--hostwalk-kernel debian:6.1 --hostwalk-smp 2 --hostwalk-no-audit"
    )


def item(path: Path, nodeid: str) -> SimpleNamespace:
    config = SimpleNamespace(invocation_params=SimpleNamespace(dir=Path("/src"), args=("tests", "-k", "a b")))
    return SimpleNamespace(path=path, nodeid=nodeid, config=config)


def test_where_a_claim_lives() -> None:
    assert foreign(item(resources.contract() / "test_fork.py", "test_fork.py::t[x]")) == ""  # type: ignore[arg-type]
    assert foreign(item(Path("/src/a/test_x.py"), "test_x.py::C::t[x]")) == "a/test_x.py::C::t[x]"  # type: ignore[arg-type]


def test_how_a_run_was_asked_for() -> None:
    config = item(Path(), "").config
    assert run_command(config, CheckOptions(matrix="full"), ours=True) == "hostwalk check --matrix=full"
    assert run_command(config, CheckOptions(), ours=True) == "hostwalk check"
    assert run_command(config, CheckOptions(), ours=False) == "pytest tests -k 'a b'"


def test_what_was_to_be_refused_and_was_not_breaks_the_claim() -> None:
    with pytest.raises(pytest.fail.Exception) as caught, pytest.raises(ValueError, match="x"):
        int("1")
    assert judge(CLAIM, 0, caught.value, "DID NOT RAISE").verdict is Verdict.BROKEN
    assert judge(CLAIM, 0, IndexError("2"), "").verdict is Verdict.UNPROVEN
