"""Replays and searches at the command line: what they take, and what they say of each replay."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostwalk.cli import exact
from hostwalk.cli.main import main
from hostwalk.exact.playing import Replay
from hostwalk.machine.course import BUSY, Mark
from hostwalk.repro.run import Outcome, Result

MARKS = (Mark(1, BUSY, "boot"), Mark(2, "a", "a reading"), Mark(3, "b", "verdict"), Mark(4, "c", "end"))
PIN = SimpleNamespace(arch="x86_64", release="6.12", image="a" * 64, format="4level", qemu="7.2.22")
RECORDING = SimpleNamespace(
    marks=MARKS, verdict=2, said="1 == 2", pin=PIN, cost=SimpleNamespace(plain=1.0),
    script=SimpleNamespace(path=Path("toy.py"), title="A toy."),
)  # fmt: skip
REPRODUCES = Outcome(Result.REPRODUCES, said="2 == 1")


def replay(monkeypatch: pytest.MonkeyPatch, found: Replay) -> int:
    """Return the exit status of two replays that go like this."""
    loads: list[Path] = []

    def load(path: Path) -> Any:
        loads.append(path)
        return RECORDING

    monkeypatch.setattr(exact.Recording, "load", load)
    prepared = SimpleNamespace(kernel="a kernel")
    player = SimpleNamespace(recording=RECORDING, prepared=prepared, perform=lambda _stop: found)
    monkeypatch.setattr(exact, "resolve", lambda *_, **__: None)
    monkeypatch.setattr(exact, "ready", lambda *_: None)
    monkeypatch.setattr(exact, "player", lambda *_: player)
    monkeypatch.setattr(exact.debuggers, "found", lambda kind, arch: f"{kind} {arch}")
    given: list[Any] = []
    monkeypatch.setattr(exact.debuggers, "require_vmlinux", lambda *words: given.append(words))
    monkeypatch.setattr(PIN, "target", SimpleNamespace(arch="x86_64", format=""), raising=False)
    monkeypatch.setattr(PIN, "kernel", "debian:6.12", raising=False)
    status = main(["repro", "replay", "toy.exact.zip", "--times", "2", "--gdb", "--vmlinux", "vmlinux"])
    assert given == [("gdb", Path("vmlinux"), "a kernel")], "once, before the first replay"
    assert loads == [Path("toy.exact.zip")], "a recording is large: it is read once"
    return status


def test_what_was_compared_is_told_from_what_was_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(monkeypatch, Replay(3, 2, (True, True, True), REPRODUCES, 2.0)) == 0
    out = capsys.readouterr().out
    line = "2 of 2 compared checkpoints equal, 1 not compared, it reproduces, 2.0 s (2.0 times a plain run)"
    assert out.count(line) == 2
    assert "equal at every checkpoint that is compared in 2 of 2 replays" in out
    assert (out.count("1 == 2"), out.count("2 == 1")) == (1, 0)


@pytest.mark.parametrize(
    ("equal", "line", "first"),
    [
        ((True, False, True), "1 of 2 compared checkpoints equal", "checkpoint 2: a reading"),
        ((True, True), "1 of 1 compared checkpoints equal", "checkpoint 3: verdict"),
    ],
)
def test_a_replay_that_goes_another_way_says_why(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    equal: tuple[bool, ...],
    line: str,
    first: str,
) -> None:
    outcome = Outcome(Result.UNPROVEN, said="operation: the replay stopped at instruction 2, not at 3")
    assert replay(monkeypatch, Replay(3, len(equal) - 1, equal, outcome, 2.0)) == 3
    out = capsys.readouterr().out
    assert f"{line}, 1 not compared, it proves nothing" in out
    assert out.count("the replay stopped at instruction 2, not at 3") == 2
    assert f"first difference at {first}" in out


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "x", "--times", "0"),
        ("replay", "x", "--times", "-1"),
        ("who-wrote", "x", "0x10", "--size", "0"),
        ("who-wrote", "x", "0x10", "--size", "-3"),
        ("run", "x", "--tries", "0"),
        ("record", "x", "--limit", "some"),
    ],
)
def test_numbers_are_at_least_one(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["repro", *words])
    assert caught.value.code == 2
    assert f"{words[-2]}: no positive number: {words[-1]!r}" in capsys.readouterr().err


def test_more_than_one_processor_is_refused_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exact, "ready", lambda *_: pytest.fail("it went on"))
    script = Path(__file__).parents[3] / "examples/repros/mlock_error_1.py"
    assert main(["repro", "record", "--exact", str(script), "--smp", "2"]) == 2
    said = capsys.readouterr().err
    assert "2 processors, and QEMU records no more than one" in said
    assert "--smp 1" in said
