"""The scripts of examples/repros: whole, short, and about departures that are written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostwalk.repro.edits import count
from hostwalk.repro.export import export
from hostwalk.repro.pin import exerciser_hash
from hostwalk.repro.script import load

TOP = Path(__file__).parents[3]
SEEDED = sorted(
    path
    for path in (TOP / "examples" / "repros" / "seeded").glob("*.py")
    if not path.stem.endswith("_shrunk")
)
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


@pytest.mark.parametrize("path", SEEDED, ids=lambda path: path.stem)
def test_a_planted_bug_has_its_patch_its_scripts_and_its_program(path: Path) -> None:
    whole, small = load(path), load(path.with_name(f"{path.stem}_shrunk.py"))
    assert whole.shows == small.shows
    assert whole.pin == small.pin
    assert whole.pin.kernel == "tree:linux"
    assert count(small.function) < count(whole.function)
    assert "\n+++ b/mm/" in path.with_suffix(".patch").read_text()
    program = path.with_name(f"{path.stem}_c")
    assert {each.name: each.read_text() for each in program.iterdir()} == export(small).files


def test_there_are_examples() -> None:
    assert len(SCRIPTS) >= 15
    assert len(SEEDED) >= 3
    assert len(exerciser_hash()) == 64
