"""Replays and searches at the command line: what they take, and what they say of each replay."""

from __future__ import annotations

import pytest

from hostwalk.cli.main import main


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
