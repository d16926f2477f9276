"""The scripts of examples/repros: whole, short, and about departures that are written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostwalk.repro.pin import exerciser_hash
from hostwalk.repro.script import load

TOP = Path(__file__).parents[3]
SCRIPTS = sorted((TOP / "examples" / "repros").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_a_script_about_a_known_departure(path: Path) -> None:
    script, text = load(path), path.read_text()
    assert 20 <= len(text.splitlines()) <= 60
    assert script.pin.image
    assert script.pin.exerciser
    claim = script.title.split(" is not kept")[0]
    family = claim.rsplit(".", 1)[0]
    assert family in (TOP / "docs" / "departures.md").read_text()
    assert path.stem == claim.replace(".", "_")


def test_there_are_examples() -> None:
    assert len(SCRIPTS) >= 15
    assert len(exerciser_hash()) == 64
