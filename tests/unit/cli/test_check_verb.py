from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hostwalk import doctor, runner
from hostwalk.cli import check
from hostwalk.cli.main import main
from hostwalk.errors import BootError, MissingToolError
from hostwalk.options import CheckOptions
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.target import Arch


class FakeRunner:
    """Judges one claim on each target as ``verdict`` says."""

    def __init__(self) -> None:
        self.verdict = Verdict.KEPT
        self.untestable = False
        self.options = CheckOptions()
        self.tools: tuple[doctor.Tool, ...] = ()

    def run_contract(self, options: CheckOptions, _progress: object) -> Run:
        self.options = options
        results = tuple(
            Result("a.1", "p(2)", "S", target, self.verdict, untestable=self.untestable)
            for target in options.targets
        )
        return Run(results, options.targets, seed=7, seconds=1.0)

    def ensure(self, tools: tuple[doctor.Tool, ...], **_rest: object) -> None:
        self.tools = tools


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    fake = FakeRunner()
    monkeypatch.setattr(runner, "run_contract", fake.run_contract)
    monkeypatch.setattr(doctor, "ensure", fake.ensure)
    return fake


def test_every_option_arrives(fake: FakeRunner) -> None:
    words = (
        "check --kernel a --kernel debian:6.1 --arch arm64 --format 48bit --accel tcg --memory 512 --smp 2 "
        "-k gup --sabotage --mirror http://m --headers h --symbols s --seed 0x10 -v"
    )
    assert main(words.split()) == 0
    assert fake.options == CheckOptions(
        kernels=("a", "debian:6.1"), archs=("arm64",), formats=("48bit",), accel="tcg", memory=512, cpus=2,
        keyword="gup", sabotage=True, mirror="http://m", headers=Path("h"), symbols=Path("s"), seed=16,
        verbose=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "status"), [(Verdict.KEPT, 0), (Verdict.BROKEN, 1), (Verdict.UNPROVEN, 3)]
)
def test_exit_status(fake: FakeRunner, verdict: Verdict, status: int) -> None:
    fake.verdict = verdict
    assert main(["check"]) == status


def test_a_kernel_from_source_that_cannot_be_tested_is_neither_good_nor_bad(fake: FakeRunner) -> None:
    fake.verdict, fake.untestable = Verdict.UNPROVEN, True
    assert main(["check", "--kernel", "tree:."]) == 125


@pytest.mark.parametrize(
    ("verdict", "untestable", "status"),
    [
        (Verdict.KEPT, False, 0),
        (Verdict.BROKEN, False, 1),
        (Verdict.UNPROVEN, True, 125),
        (Verdict.UNPROVEN, False, 255),
    ],
)
def test_exit_status_for_git_bisect(
    fake: FakeRunner, verdict: Verdict, untestable: bool, status: int
) -> None:
    fake.verdict, fake.untestable = verdict, untestable
    assert main(["check", "--bisect", "--kernel", "tree:."]) == status


@pytest.mark.parametrize("words", [["--no-such-option"], ["--arch", "m68k"], ["--shard", "3/2"]])
def test_a_misspelt_command_stops_git_bisect(fake: FakeRunner, words: list[str]) -> None:
    assert main(["check", "--bisect", *words]) == 255


def test_only_the_tools_of_the_chosen_architecture(fake: FakeRunner) -> None:
    main(["check", "--arch", "x86_64"])
    assert "qemu-system-x86_64" in [tool.name for tool in fake.tools]
    assert not [tool.name for tool in fake.tools if tool.arch is Arch.ARM64]


def test_a_kernel_file_needs_no_debian(fake: FakeRunner, tmp_path: Path) -> None:
    kernel = tmp_path / "bzImage"
    kernel.touch()
    main(["check", "--kernel", str(kernel)])
    assert not [tool.name for tool in fake.tools if tool.archive]


def test_what_building_takes_is_asked_for_only_when_a_kernel_is_built(fake: FakeRunner) -> None:
    main(["check"])
    assert "flex" not in [tool.name for tool in fake.tools]
    main(["check", "--kernel", "source:7.3"])
    assert {"flex", "bison", "bc", "apt-get"} <= {tool.name for tool in fake.tools}
    main(["check", "--kernel", "tree:."])
    assert "flex" in [tool.name for tool in fake.tools]
    assert "apt-get" not in [tool.name for tool in fake.tools]


def test_all_reports_at_once(fake: FakeRunner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "--junit", str(tmp_path / "j.xml"), "--json", str(tmp_path / "r.json"), "--ktap"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("KTAP version 1\n")
    assert "1 claim on 2 targets" in err
    assert (tmp_path / "j.xml").read_text().startswith("<?xml")
    assert json.loads((tmp_path / "r.json").read_text())["seed"] == 7


def test_a_page_and_the_contract(fake: FakeRunner, tmp_path: Path) -> None:
    assert main(["check", "--html", str(tmp_path / "r.html"), "--contract", str(tmp_path / "c.md")]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>\n<html")
    assert "| `a.1` | S |  | ✔ | ✔ |" in (tmp_path / "c.md").read_text()


def test_the_table_goes_to_standard_output(fake: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check"])
    assert "✔ 2 kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["--arch", "m68k"], ["--format", "3level"], ["--json", "--ktap"], ["--junit", "/nonexistent/j.xml"]],
)
def test_usage_errors_come_before_any_work(fake: FakeRunner, words: list[str]) -> None:
    assert main(["check", *words]) == 2
    assert fake.options == CheckOptions()


def test_a_report_that_cannot_be_written(
    fake: FakeRunner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--junit", str(tmp_path)]) == 2
    assert f"no file can be written at {tmp_path}" in capsys.readouterr().err


def test_a_full_disk_costs_one_report_only(
    fake: FakeRunner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--html", "/dev/full", "--json", str(tmp_path / "run.json")]) == 2
    assert "cannot write /dev/full" in capsys.readouterr().err
    assert (tmp_path / "run.json").read_text().endswith("}\n")


def test_a_missing_tool(
    fake: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ensure(*_args: object, **_rest: object) -> None:
        raise MissingToolError("QEMU is not installed", remedy="apt-get install qemu-system-x86")

    monkeypatch.setattr(doctor, "ensure", ensure)
    assert main(["check"]) == 3
    assert "try: apt-get install qemu-system-x86" in capsys.readouterr().err


def test_an_infrastructure_error_of_the_run(fake: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_contract(*_args: object) -> Run:
        raise BootError("no console")

    monkeypatch.setattr(runner, "run_contract", run_contract)
    assert main(["check"]) == 3


def test_a_terminal_without_unicode(
    fake: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.stdout.reconfigure(encoding="ascii")  # type: ignore[union-attr]
    main(["check"])
    assert "+ 2 kept" in capsys.readouterr().out


def test_options_become_arguments_of_the_plugin() -> None:
    options = CheckOptions(
        kernels=("debian:6.1",), archs=("arm64",), keyword="gup or mm", sabotage=True, seed=3
    )
    assert options.pytest_arguments() == [
        "--hostwalk-kernel=debian:6.1", "--hostwalk-arch=arm64", "--hostwalk-accel=auto",
        "--hostwalk-memory=256", "--hostwalk-smp=1", "--hostwalk-isolation=claim", "--hostwalk-sabotage",
        "--hostwalk-seed=3", "-k", "gup or mm",
    ]  # fmt: skip


def test_the_module_has_what_main_expects() -> None:
    assert callable(check.arguments)
    assert callable(check.run)
