"""Scripts: what is one, and what the verb says about what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostwalk.cli.main import main
from hostwalk.cli.repro import not_built, status_of
from hostwalk.errors import BootError, BuildError, BuildInterruptedError, HostwalkError, UsageError
from hostwalk.repro.failure import CheckFailed
from hostwalk.repro.run import Outcome, Result
from hostwalk.repro.script import load, parse

GOOD = '''"""What it shows."""
from hostwalk.repro import Failure, Pin, repro
PIN = Pin(arch="x86_64", kernel="debian:6.12", format="4level")
@repro(PIN, Failure("assertion", "x == 2", ("1 == 2",)))
def test_it(subject):
    x = 1
    assert x == 2, f"x is {x}"
'''


def test_a_script_tells_both_sides_of_its_assertion() -> None:
    script = parse(GOOD, Path("good.py"))
    with pytest.raises(CheckFailed, match="x is 1") as raised:
        script.compiled()(subject=None)
    assert raised.value.failure.same(script.shows)
    assert (script.title, script.fixtures) == ("What it shows.", ("subject",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD[:-40], "cut short"),
        (GOOD[: GOOD.index("@repro")], "no function"),
        (GOOD.replace("(subject)", "(subject, tmp_path)"), "no tmp_path"),
        (GOOD.replace('arch="x86_64"', 'bits="64"'), "does not load"),
        (GOOD.replace("import Failure", "import Failures as Failure"), "does not load"),
        (GOOD.replace('Failure("assertion", "x == 2", ("1 == 2",))', "PIN"), "takes a Pin and a Failure"),
        (GOOD + GOOD, "more than one function"),
        ("print(1)", "no repro script"), ("\0", "no Python"),
    ],
)  # fmt: skip
def test_what_is_no_script_is_said(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text, Path("bad.py"))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF\xff\xfe")
    for path in (tmp_path / "missing.py", tmp_path, tmp_path / "binary"):
        with pytest.raises(UsageError, match="cannot be read"):
            load(path)


def test_the_verb_ends_with_2_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for deed in (["run"], ["shrink"], ["export", "--c"]):
        assert main(["repro", *deed, str(tmp_path / "missing.py")]) == 2
        assert "cannot be read" in capsys.readouterr().err
    assert main(["repro", "record", str(tmp_path / "missing.py::test_it")]) == 2
    (tmp_path / "script.py").write_text(GOOD)
    assert main(["repro", "run", str(tmp_path / "script.py"), "--arch", "sparc"]) == 2


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ((Result.REPRODUCES,), 1), ((Result.KEPT,), 0), ((Result.OTHER,), 3), ((Result.UNPROVEN,), 3),
        ((Result.KEPT, Result.REPRODUCES), 1), ((Result.KEPT, Result.UNPROVEN), 3), ((Result.KEPT, Result.OTHER), 3),
    ],
)  # fmt: skip
def test_exit_status(results: tuple[Result, ...], status: int) -> None:
    assert status_of([Outcome(result) for result in results]) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [(BuildError("no"), 125), (BootError("no"), 125), (BuildInterruptedError("killed"), 3)],
)
def test_a_build_that_was_killed_stops_a_bisection(error: HostwalkError, status: int) -> None:
    assert not_built(error) == status
