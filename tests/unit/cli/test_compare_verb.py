from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from hostwalk import doctor
from hostwalk.cli import compare as verb
from hostwalk.cli.main import main
from hostwalk.comparing import run as comparing
from hostwalk.comparing.comparison import Comparison, Side, compared
from hostwalk.comparing.sides import Asked
from hostwalk.errors import FetchError, HostwalkError
from hostwalk.options import CheckOptions
from hostwalk.report.model import Result, Run, Verdict

Request = tuple[Side, CheckOptions]


class Fake:
    """Stands for the machines: one claim on each target, whose verdict on the patched side can be chosen."""

    def __init__(self) -> None:
        self.verdict = Verdict.KEPT
        self.options: list[CheckOptions] = []
        self.proven: list[str] = []
        self.error: HostwalkError | None = None

    def prove(self, name: str, _side: Side, *_rest: object) -> None:
        self.proven.append(name)
        if self.error is not None:
            raise self.error

    def compare(self, base: Request, patched: Request, _progress: object, **_rest: object) -> Comparison:
        self.options = [base[1], patched[1]]
        runs = [self._run(base[1], Verdict.KEPT), self._run(patched[1], self.verdict)]
        return compared(base[0], patched[0], *runs)

    def _run(self, options: CheckOptions, verdict: Verdict) -> Run:
        return Run(
            tuple(Result("a.1", "p(2)", "S", each, verdict) for each in options.targets), options.targets
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    fake = Fake()
    monkeypatch.setattr(verb, "prove", fake.prove)
    monkeypatch.setattr(verb, "compare", fake.compare)
    monkeypatch.setattr(doctor, "ensure", lambda *_args, **_rest: None)
    monkeypatch.setenv("HOSTWALK_CACHE", str(tmp_path / "cache"))
    return fake


def test_both_sides_get_the_same_request(fake: Fake) -> None:
    words = [
        "compare",
        "debian:6.1",
        "debian:6.12",
        "--arch",
        "arm64",
        "-k",
        "gup",
        "--shard",
        "1/2",
        "--smp",
        "2",
        "-n",
        "3",
        "--no-audit",
    ]
    assert main(words) == 0
    base, patched = fake.options
    assert (base.instead, patched.instead) == ("debian:6.1", "debian:6.12")
    assert (base.keyword, base.shard, base.cpus, base.workers, base.audit) == ("gup", "1/2", 2, "3", False)
    assert [target.name for target in patched.targets] == ["arm64-48bit-smp2/debian:6.12"]
    assert base.seed == patched.seed == 0
    assert base.costs
    assert patched.costs


def test_the_cells_of_a_matrix_whatever_its_kernels(fake: Fake) -> None:
    assert main(["compare", "debian:6.1", "debian:6.12", "--matrix", "full"]) == 0
    base, patched = ([target.cell for target in options.targets] for options in fake.options)
    assert base == patched
    assert len(base) == len(set(base)) == 8
    assert {target.kernel for target in fake.options[0].targets} == {"debian:6.1"}


def test_headers_for_one_side_or_both(fake: Fake) -> None:
    main(["compare", "a", "b", "--headers", "h1", "--headers", "h2", "--symbols", "s"])
    assert [(each.headers, each.symbols) for each in fake.options] == [
        (Path("h1"), Path("s")), (Path("h2"), Path("s")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(Verdict.KEPT, 0), (Verdict.BROKEN, 1), (Verdict.UNPROVEN, 3), (Verdict.DEPARTS, 0)],
)
def test_exit_status(fake: Fake, verdict: Verdict, status: int) -> None:
    fake.verdict = verdict
    assert main(["compare", "debian:6.1", "debian:6.12"]) == status


@pytest.mark.parametrize(("status"), [125, 3])
def test_a_side_that_fails(fake: Fake, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    fake.error = error = FetchError("not to be had")
    error.exit_status = status
    assert main(["compare", "debian:6.1", "debian:6.12"]) == status
    assert error.message in capsys.readouterr().err
    assert fake.options == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["debian:6.1"],
        ["a", "b", "--git", "A..B"],
        ["--patch", "/nonexistent.patch"],
        ["a", "b", "--arch", "m68k"],
        ["a", "b", "--text", "/nonexistent/t"],
        ["debian:6.1", "debian:6.12", "--with", "debug"],
        ["--git", "HEAD~1..HEAD", "--with", "no-such"],
        ["--git", "HEAD~1..HEAD", "--with", "De bug"],
        ["--git", "HEAD~1..HEAD", "--arch", "x86_64", "--format", "48bit"],
        ["a", "b", "--json", "--html"],
        ["a", "b", *["--headers", "h"] * 3],
    ],
)
def test_usage_errors_come_before_any_work(
    fake: Fake, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "sides", lambda *_args: pytest.fail("something was checked out"))
    assert main(["compare", *words]) == 2
    assert fake.proven == []


def test_formats_that_only_built_kernels_have_and_a_debug_configuration_on_both_sides(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def checked_out(asked: Asked, *_rest: object) -> AbstractContextManager[tuple[Side, Side]]:
        return nullcontext((Side("b", asked.spec(tmp_path / "b")), Side("p", asked.spec(tmp_path / "p"))))

    monkeypatch.setattr(verb, "sides", checked_out)
    words = ["--with", "debug", "--arch", "arm64", "--format", "64k-52bit"]
    assert main(["compare", "--git", "HEAD~1..HEAD", *words]) == 0
    specs = [target.kernel for options in fake.options for target in options.targets]
    assert specs == [f"tree:{tmp_path}/b+debug", f"tree:{tmp_path}/p+debug"]


def test_reports(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "compare",
        "debian:6.1",
        "debian:6.12",
        "--report",
        str(tmp_path / "r"),
        "--html",
        str(tmp_path / "h"),
    ]
    monkeypatch.setattr(sys, "argv", ["hostwalk", *words, "--json"])
    monkeypatch.delenv("HOSTWALK_COMMAND", raising=False)
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["schema"], document["command"]) == (
        "hostwalk.comparison", f"hostwalk {' '.join(words)} --json",
    )  # fmt: skip
    assert "nothing changed" in err
    assert (tmp_path / "r").read_text().endswith("  hostwalk compare debian:6.1 debian:6.12\n")
    assert (tmp_path / "h").read_text().startswith("<!DOCTYPE html>")


def test_the_table_goes_to_standard_output(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", "debian:6.1", "debian:6.12"])
    assert capsys.readouterr().out.endswith("nothing changed\n")


def test_what_repeats_it_writes_no_files(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "told"
    words = [
        "compare",
        "--html",
        f"{tmp_path}/page",
        "a",
        "b",
        f"--json={tmp_path}/all",
        "-k",
        "gup",
        "--text",
    ]
    monkeypatch.setattr(sys, "argv", ["hostwalk", *words, str(place)])
    main([*words, str(place)])
    assert place.read_text().splitlines()[-1].endswith(" compare a b -k gup")


def test_what_stands_behind_the_verb() -> None:
    assert verb.SIDES is comparing.SIDES
