"""``hostwalk kselftest``: arguments, which tests are chosen, the summary, the reports and the exit status."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostwalk.cli import kselftest, suites
from hostwalk.cli.main import main, parser_for
from hostwalk.errors import UsageError
from hostwalk.suites.building import Built
from hostwalk.suites.expected import Known
from hostwalk.suites.kselftests import Kselftests, without_extra
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.plan import Step
from hostwalk.suites.running import Runner
from hostwalk.suites.workers import Run, ran
from hostwalk.target import Arch


@pytest.fixture
def built(tmp_path: Path) -> Built:
    files = tmp_path / "files"
    files.mkdir()
    calls = 'CATEGORY="cow" run_test ./cow\nCATEGORY="mremap" run_test ./mremap_test\n'
    (files / "run_vmtests.sh").write_text(calls)
    (files / "helped.sh").write_text("./helper\n")
    (files / "cow").touch()
    return Built(files, ("cow", "helper", "mremap_test", "mseal_test"), {"mremap_test": "no header"})


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch, built: Built) -> dict[str, Outcome]:
    """What each step comes to; nothing boots."""
    told: dict[str, Outcome] = {}
    kernel = SimpleNamespace(release="7.3.4", identity="0" * 64)
    prepared = SimpleNamespace(
        kernel=kernel, target=SimpleNamespace(arch=Arch.X86_64, name="x86_64-4level/k", memory=1024)
    )
    monkeypatch.setattr(kselftest, "made_ready", lambda *_: (prepared, built))

    def run(_self: Runner, step: Step) -> tuple[Result, ...]:
        return (Result(step.name, told.get(step.name, Outcome.PASS), text="said\n"),)

    monkeypatch.setattr(Runner, "run", run)
    return told


def test_a_machine_of_these_tests_has_more_memory() -> None:
    args = parser_for("kselftest").parse_args(["kselftest", "mm", "--timeout", "5"])
    assert (args.memory, args.timeout, args.collection) == (1024, 5.0, "mm")


@pytest.mark.parametrize(
    ("words", "cores", "workers"),
    [([], 4, 4), ([], 1, 1), (["-k", "cow"], 4, 1), (["-n", "3", "-k", "cow"], 4, 3), (["-n", "0"], 4, 1)],
)
def test_a_whole_suite_runs_on_all_cores_and_a_selection_on_one(
    outcomes: dict[str, Outcome],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    cores: int,
    workers: int,
) -> None:
    asked: list[int] = []

    def noted(run: Run, steps: Sequence[Step], count: int) -> Generator[tuple[Result, ...], None, None]:
        asked.append(count)
        return ran(run, steps, count)

    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(cores)))
    monkeypatch.setattr(suites, "available_memory", lambda: 64 << 30)
    monkeypatch.setattr(suites, "ran", noted)
    assert main(["kselftest", "mm", *words]) == 0
    assert asked == [workers]


def test_a_guest_may_need_all_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(suites, "available_memory", lambda: 8 << 30)
    assert (suites.as_many_as_fit(256), suites.as_many_as_fit(1024), suites.as_many_as_fit(8192)) == (8, 3, 1)


def test_a_collection_that_is_not_known_is_refused() -> None:
    with pytest.raises(SystemExit) as caught:
        parser_for("kselftest").parse_args(["kselftest", "net"])
    assert caught.value.code == 2


def test_words_choose_by_category_and_name(built: Built) -> None:
    known = Kselftests("mm", built, Known()).steps()
    assert [step.name for step in suites.select(known, "")] == ["cow", "mremap_test", "mseal_test"]
    assert [step.name for step in suites.select(known, "mremap or unlisted")] == ["mremap_test", "mseal_test"]
    with pytest.raises(UsageError, match="'swap'"):
        suites.select(known, "swap")


def test_what_the_script_runs_only_with_a_is_one_skip_unless_asked_for() -> None:
    known = [Step("gup_test", ("./gup_test", f"-n {number}"), extra=number > 1) for number in range(1, 5)]
    first, extra = without_extra(known)
    assert first == known[0]
    assert (extra.name, extra.skip) == (
        "gup_test ...",
        "run_vmtests.sh runs 3 of them, and only with -a: give --all",
    )


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.SKIP, 0), (Outcome.LEAK, 1), (Outcome.UNPROVEN, 3)])
def test_the_worst_result_is_the_exit_status(
    outcomes: dict[str, Outcome], capsys: pytest.CaptureFixture[str], outcome: Outcome, status: int
) -> None:
    outcomes["cow"] = outcome
    assert main(["kselftest", "mm"]) == status
    out = capsys.readouterr().out
    assert f"{outcome:<13} cow" in out
    assert f"2 pass, 1 {outcome}" in out


def test_reports_are_written(outcomes: dict[str, Outcome], tmp_path: Path) -> None:
    junit, json = tmp_path / "r.xml", tmp_path / "r.json"
    assert main(["kselftest", "mm", "--junit", str(junit), "--json", str(json)]) == 0
    assert 'tests="3"' in junit.read_text()
    assert '"outcome": "pass"' in json.read_text()
    assert main(["kselftest", "mm", "--json", str(tmp_path / "no" / "r.json")]) == 2


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this host has no /dev/full")
def test_a_report_that_cannot_be_written_does_not_cost_the_other(
    outcomes: dict[str, Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json = tmp_path / "r.json"
    assert main(["kselftest", "mm", "--junit", "/dev/full", "--json", str(json)]) == 2
    assert "cannot write /dev/full: No space left on device" in capsys.readouterr().err
    assert '"outcome": "pass"' in json.read_text()


def test_a_list_says_what_cannot_run(
    outcomes: dict[str, Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kselftest", "mm", "--list", "-k", "mremap"]) == 0
    assert capsys.readouterr().out == "mremap            mremap_test  # SKIP not built: no header\n"


def test_what_runs_is_shown_while_it_does() -> None:
    shown: list[str] = []
    run = suites.Status(3, shown.append).shown(lambda step: (Result(step.name, Outcome.PASS),))
    assert run(Step("mm", ("./cow",)))[0].name == "cow"

    def fails(_step: Step) -> tuple[Result, ...]:
        raise UsageError("no such thing")

    failing = suites.Status(1, shown.append).shown(fails)
    with pytest.raises(UsageError):
        failing(Step("mm", ("./gone",)))
    assert shown == [
        "0 of 3 have run; now cow", "1 of 3 have run; now none",
        "0 of 1 have run; now gone", "1 of 1 have run; now none",
    ]  # fmt: skip
