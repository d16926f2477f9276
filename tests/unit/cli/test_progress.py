from __future__ import annotations

import io

import pytest
from rich.console import Console

from hostwalk.cli import question
from hostwalk.cli.progress import BarProgress, PlainProgress, busy, showing


def test_a_pipe_gets_one_line_for_each_task() -> None:
    file = io.StringIO()
    with showing(Console(file=file, width=80)) as progress:
        assert isinstance(progress, PlainProgress)
        with progress.task("fetch linux-image", 23_400_000) as done:
            done(1)
        with busy(progress)("boot [x86_64]"):
            pass
    assert file.getvalue() == "fetch linux-image (23.4 MB)\nboot [x86_64]\n"


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = io.StringIO()
    with showing(Console(file=file, width=100, force_terminal=True)) as progress:
        assert isinstance(progress, BarProgress)
        with progress.task("claims", 36) as done:
            done(12)
            progress._bars.refresh()
        with progress.task("fetch", 100) as done, progress.task("build", None):
            done(37)
            progress._bars.refresh()
    text = file.getvalue()
    assert "12 of 36" in text
    assert "37 %" in text


def test_a_task_that_fails_vanishes() -> None:
    with showing(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})) as progress:
        assert isinstance(progress, BarProgress)
        with pytest.raises(ZeroDivisionError), progress.task("x", 1):
            raise ZeroDivisionError
        assert progress._bars.tasks == []


@pytest.mark.parametrize(
    ("answer", "agreed"), [("", True), ("y", True), ("Yes", True), ("n", False), (" No", False)]
)
def test_answers(answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda: answer)
    assert question.ask("Install?") is agreed


def test_the_end_of_input_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert question.ask("Install?") is False


def test_nobody_is_asked_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert question.asker() is None
