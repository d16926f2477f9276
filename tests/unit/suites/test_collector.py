"""Other people's programs under pytest: what a file means, and a report for each result."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from hostwalk.errors import ResolveError, UsageError
from hostwalk.options import CheckOptions
from hostwalk.suites import programs
from hostwalk.suites.collector import LINE, Collecting
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.programs import Job, listed

TITLE, TARGET = "ring / ring -v", "x86_64-4level/debian:6.12"
RESULTS = (
    Result(f"{TITLE} / maps", Outcome.PASS, text="ok 1 maps\n", seconds=2.5),
    Result(f"{TITLE} / ring / maps", Outcome.FAIL, "exit=1", "not ok 2 ring\n"),
    Result(f"{TITLE} / huge", Outcome.SKIP, "no huge pages"),
    Result(f"{TITLE} / old", Outcome.XFAIL, "since 6.1"),
    Result(f"{TITLE} / maps", Outcome.PASS),
    Result(TITLE, Outcome.CRASH, "killed by SIGABRT (after maps)"),
    Result(TITLE, Outcome.TIMEOUT, "not ended within 4 s"),
    Result(TITLE, Outcome.MISMATCH, "7 planned, 5 ran"),
    Result(TITLE, Outcome.LEAK, "3 pages were pinned before it, 7 after it"),
    Result(TITLE, Outcome.UNPROVEN, "no machine"),
)


class Seen:
    """Rides along, and takes the reports."""

    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []
        self.collected: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = [item.nodeid for item in session.items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)


def run(place: Path, *words: str) -> tuple[int, Seen, str]:
    argv = [
        "-p",
        "no:cacheprovider",
        "-v",
        "--import-mode=importlib",
        f"--rootdir={place}",
        str(place),
        *words,
    ]
    seen, said = Seen(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main(
            [*argv, "--hostwalk-arch=x86_64", "--hostwalk-kernel=debian:6.12"], plugins=[seen]
        )
    return int(status), seen, said.getvalue()


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a file whose one program has all results."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "ring.hostwalk.toml").write_text('programs = ["./ring -v"]\n')
    monkeypatch.setenv("HOSTWALK_CACHE", str(tmp_path / "cache"))

    def made(file: Path, options: CheckOptions) -> Iterable[Job]:
        yield Job("ring -v", "ring", TITLE, options.targets[0].name, lambda: RESULTS)

    monkeypatch.setattr(programs, "jobs", made)
    return tmp_path


def test_each_result_is_a_report_of_its_own(suite: Path) -> None:
    status, seen, said = run(suite)
    assert status == 1
    assert seen.collected == [f"ring.hostwalk.toml::ring -v[{TARGET}]"]
    names = [report.nodeid.removeprefix("ring.hostwalk.toml::ring -v") for report in seen.reports]
    assert names == [
        f"::maps[{TARGET}]", f"::ring / maps[{TARGET}]", f"::huge[{TARGET}]", f"::old[{TARGET}]",
        f"::maps[{TARGET}] (2)",
        f"[{TARGET}]", *(f"[{TARGET}] ({number})" for number in (2, 3, 4, 5)),
    ]  # fmt: skip
    assert [report.outcome for report in seen.reports] == [
        "passed", "failed", "skipped", "skipped", "passed", *["failed"] * 5
    ]  # fmt: skip
    assert seen.reports[-1].when == "setup"
    assert "5 failed, 2 passed, 1 skipped, 1 xfailed, 1 error" in said
    assert "crash: killed by SIGABRT (after maps)" in said
    assert "not ok 2 ring" in said
    assert "110%" not in said


def test_a_report_of_a_worker_s_has_its_own_id_again() -> None:
    """xdist refuses a report whose id is not its item's; how a report travels is pytest's."""
    collecting = Collecting(CheckOptions())
    data = {"nodeid": "ring.hostwalk.toml::ring", LINE: "ring.hostwalk.toml::ring::maps", "outcome": "passed"}
    assert collecting.pytest_report_from_serializable(data) is None
    assert data == {"nodeid": "ring.hostwalk.toml::ring::maps", "outcome": "passed"}
    other = {"nodeid": "test_x.py::test"}
    collecting.pytest_report_from_serializable(other)
    assert other == {"nodeid": "test_x.py::test"}


def test_junit_has_them_all(suite: Path) -> None:
    run(suite, f"--junitxml={suite / 'j.xml'}")
    (found,) = ET.parse(suite / "j.xml").getroot()
    assert {name: found.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "10", "failures": "5", "errors": "1", "skipped": "2",
    }  # fmt: skip


def test_programs_are_chosen_by_name(suite: Path) -> None:
    status, seen, _ = run(suite, "-k", "other")
    assert (status, seen.collected) == (5, [])


def test_the_kernel_s_selftests_are_added(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("cow -x", "cow", "mm / cow -x", "t", lambda: (Result("mm / cow -x / a", Outcome.PASS),))
    monkeypatch.setattr(programs, "selftests", lambda collection, options: iter([job]))
    status, seen, said = run(suite, "--hostwalk-kselftest=mm", "-k", "cow")
    assert status == 0
    assert "collected 2 items / 1 deselected / 1 selected" in said
    assert [report.nodeid for report in seen.reports] == ["selftests-mm::cow -x::a[t]"]


def test_selftests_that_cannot_be_had_are_a_usage_error(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(collection: str, options: CheckOptions) -> Iterable[Job]:
        raise ResolveError("no source")

    monkeypatch.setattr(programs, "selftests", fail)
    status, _, said = run(suite, "--hostwalk-kselftest=mm")
    assert status == 4
    assert "no source" in said


def written(place: Path, text: str) -> Path:
    (place / "ring.hostwalk.toml").write_text(text)
    return place / "ring.hostwalk.toml"


def test_a_file_names_programs_and_what_they_need(tmp_path: Path) -> None:
    said = listed(
        written(
            tmp_path,
            'directory = "build/{arch}"\nprograms = ["./ring -v", "bash ./all.sh"]\ntimeout = 4\nmemory = 512\n'
            'setup = "echo 8 > /proc/sys/vm/nr_hugepages"\n'
            '[[expect]]\ntest = "ring / ring / old"\nreason = "since 6.1"\n',
        )
    )
    assert (said.name, said.seconds, said.memory) == ("ring", 4.0, 512)
    assert said.commands == (("./ring", "-v"), ("bash", "./all.sh"))
    assert said.known.expectations[0].reason == "since 6.1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("programs = 3", "programs cannot be 3"),
        ("programs = []", "names no programs"),
        ("name = 'ring'", "names no programs"),
        ("programs = ['./a']\nprogram = 1", "a key 'program' that is not known"),
        ("programs = ['./a']\nexpect = [{test = 'x'}]", "needs test and reason"),
        ("programs = [", "cannot read"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        listed(written(tmp_path, text))


def test_a_program_that_is_not_there_is_unproven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTWALK_CACHE", str(tmp_path / "cache"))
    file = written(tmp_path, 'directory = "build/{arch}"\nprograms = ["./ring"]')
    options = CheckOptions(kernels=("debian:6.12",), archs=("x86_64", "arm64"))
    results = [result for job in programs.jobs(file, options) for result in job.run()]
    assert [(result.outcome, result.reason) for result in results] == [
        (Outcome.UNPROVEN, f"there is no {tmp_path}/build/{arch}/ring") for arch in ("x86_64", "arm64")
    ]


def test_a_kernel_that_cannot_be_had_is_unproven_whatever_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTWALK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "ring").touch()
    text = 'programs = ["./ring"]\n[[expect]]\ntest = "ring*"\nreason = "since 6.1"\n'
    options = CheckOptions(kernels=(str(tmp_path / "none"),), archs=("x86_64",))
    (job,) = programs.jobs(written(tmp_path, text), options)
    (result,) = job.run()
    assert result.outcome is Outcome.UNPROVEN
    assert str(tmp_path / "none") in result.reason
