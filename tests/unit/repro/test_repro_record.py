"""From a failure to a script: the assertion in the script's words, and what becomes of a draft."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from repro_stage import PAGE, Stage

from hostwalk.errors import HostwalkError
from hostwalk.repro.failure import Failure
from hostwalk.repro.pin import Pin
from hostwalk.repro.record import Draft, drafts, save
from hostwalk.repro.run import Outcome, Result
from hostwalk.repro.script import Script, checking, checks, parse

PIN = Pin(arch="x86_64", kernel="debian:6.12", format="4level", release="6.12.1-cloud-amd64")
TEST = """
def doubled(values):
    return [2 * value for value in values]

def act(subject, witness):
    area = subject.mmap(pages=2).touch()
    before = witness.pages(area)
    witness.shift = 5
    pfns = witness.pages(area).pfns
    assert {asserted}
"""


@pytest.fixture
def failed(tmp_path: Path) -> Callable[[str], tuple[Stage, BaseException]]:
    def run(asserted: str) -> tuple[Stage, BaseException]:
        stage, path = Stage(), tmp_path / "a_test.py"
        path.write_text(TEST.format(asserted=asserted))
        names = {"__name__": "a_test", **checks()}
        exec(compile(checking(path.read_text(), str(path)), str(path), "exec"), names)
        with stage.recorder.listening(), pytest.raises(AssertionError) as raised:
            names["act"](stage.subject, stage.witness)
        return stage, raised.value

    return run


def texts(stage: Stage, error: BaseException) -> list[str]:
    return [draft.text for draft in drafts(stage.source, stage.recorder, error, PIN)]


def last_line(text: str) -> str:
    return ast.unparse(parse(text, Path("toy.py")).function.body[-1])


def test_a_script_has_all_that_it_needs(failed: Callable[..., tuple[Stage, BaseException]]) -> None:
    (text,) = texts(*failed("before.pfns == pfns"))
    script = parse(text, Path("toy_1.py"))
    assert (script.test, script.pin, script.fixtures) == ("test_toy_1", PIN, ("subject", "witness"))
    assert script.shows == Failure("assertion", "before.pfns == seen.pfns", ("… == …",))
    assert [ast.unparse(node) for node in script.function.body] == [
        "area = subject.mmap(pages=2).touch()",
        "before = witness.pages(area)",
        "seen = witness.pages(area)",
        "assert before.pfns == seen.pfns",
    ]
    assert 20 <= len(text.splitlines()) <= 60


@pytest.mark.parametrize(
    ("asserted", "said"),
    [
        ("pfns == 7", "assert seen.pfns == 7"),
        ("len(area) == 3", "assert len(area) == 3"),
        ("area.start == 1, 'where'", "assert area.start == 1, 'where'"),
        ("[a - area.start for a in area] == [0]", "assert [a - area.start for a in area] == [0]"),
        ("witness.pages(area).pfns == 1", "assert seen2.pfns == 1"),
        ("not area", "assert not area"),
    ],
)
def test_assertions_in_the_words_of_the_script(
    failed: Callable[..., tuple[Stage, BaseException]], asserted: str, said: str
) -> None:
    assert last_line(texts(*failed(asserted))[0]) == said


@pytest.mark.parametrize("asserted", ["doubled([1]) == [3]", "1 == 2"])
def test_what_speaks_of_nothing_that_was_done_is_no_script(
    failed: Callable[..., tuple[Stage, BaseException]], asserted: str
) -> None:
    with pytest.raises(HostwalkError):
        texts(*failed(asserted))


def draft(number: int) -> Draft:
    shows = Failure("assertion", f"area.pages == {number}", ("1 == 2",))
    text = "\n".join([
        "from hostwalk.repro import Failure, Pin, repro",
        "@repro(Pin(arch='x86_64', kernel='k', format='4level'), "
        f"Failure('assertion', 'area.pages == {number}', ('1 == 2',)))",
        "def test_it(subject):", f"    assert subject.mmap(pages={number}).pages == 0",
    ])  # fmt: skip
    return Draft(f"draft_{number}", text, shows)


def outcomes(*results: Result) -> Callable[[Script], Outcome]:
    left = list(results)
    return lambda _script: Outcome(left.pop(0))


def test_the_first_draft_that_reproduces_is_kept(tmp_path: Path) -> None:
    run = outcomes(Result.KEPT, Result.REPRODUCES)
    made = save(iter([draft(1), draft(2)]), lambda each: tmp_path / f"{each.name}.py", run)
    assert [path.name for path in tmp_path.iterdir()] == ["draft_2.py"]
    assert str(made).endswith("draft_2.py (reproduces)")


def test_how_often_a_script_reproduced_is_said(tmp_path: Path) -> None:
    run = outcomes(Result.KEPT, Result.REPRODUCES, Result.KEPT, Result.REPRODUCES, Result.KEPT)
    made = save(iter([draft(1)]), lambda each: tmp_path / "script.py", run)
    assert (made.held, made.tries) == (2, 5)
    assert "did not reproduce at once: 2 of 5 runs did" in str(made)


def test_addresses_are_not_kept(failed: Callable[..., tuple[Stage, BaseException]]) -> None:
    stage, error = failed("area.start == 1")
    assert hex(stage.recorder.events[0].result.start) not in texts(stage, error)[0]
    assert PAGE == 4096
