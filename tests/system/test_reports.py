"""What a broken claim of another repository tells, from a worker's machine to the reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

TOP = Path(__file__).resolve().parents[2]
SECONDS = 600
CLAIMS = """\
from hostwalk.claim import claim
from hostwalk.sabotage import entry_bit


@claim("false.entries.1", "mprotect(2)", "Entries stay as they are.", sabotage=entry_bit("dirty", set=False))
def test_entries_stay(subject, witness):
    area = subject.mmap(pages=3).touch()
    before = witness.pages(area)
    subject.mprotect(area[1], "r")
    assert witness.pages(area).entries == before.entries


@claim("false.pins.1", "get_user_pages(9)", "Pins cost nothing.", sabotage=entry_bit("dirty", set=False))
def test_pins_cost_nothing(subject, witness):
    area = subject.mmap(pages=2).touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True):
        assert witness.pages(area).refcounts == before.refcounts


@claim("crash.1", "panic(9)", "The kernel survives.", sabotage=entry_bit("dirty", set=False))
def test_the_kernel_survives(subject, witness):
    subject.mmap(pages=1).touch()
    witness.cell.agent.crash("panic")
    witness.pages(subject.mmap(pages=1).touch())
"""


@pytest.fixture(scope="module", params=["0", "2"], ids=["alone", "in parallel"])
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run claims that are false under plain pytest; return the directory with the reports."""
    place = tmp_path_factory.mktemp("reports")
    (place / "test_false.py").write_text(CLAIMS)
    (place / "pytest.ini").write_text("[pytest]\n")
    words = [f"--hostwalk-{name}={place / name}" for name in ("html", "json", "junit", "ktap", "contract")]
    plugins = ["-p", "hostwalk.plugin", "-p", "xdist.plugin"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-q", "-n", request.param, "--hostwalk-arch", "x86_64", *words],
        cwd=place, text=True, capture_output=True, timeout=SECONDS, check=False,
        env={**os.environ, "PYTHONPATH": str(TOP / "framework"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return place


@pytest.fixture
def results(reports: Path) -> dict[str, dict[str, Any]]:
    document = json.loads((reports / "json").read_text())
    return {result["claim"]: result for result in document["results"]}


def test_the_entry_that_changed_is_told_bit_by_bit(results: dict[str, dict[str, Any]]) -> None:
    result = results["false.entries.1"]
    assert result["verdict"] == "broken"
    story = result["story"]
    assert [operation["what"].partition(": ")[2].partition("(")[0] for operation in story["operations"]] == [
        "mmap", "store", "mprotect",
    ]  # fmt: skip
    assert [operation["after"] for operation in story["operations"]] == [0, 0, 1]
    last = story["readings"][-1]
    changed = {page["page"]: page["entries"][-1] for page in last["pages"] if page["entries"][-1]["changes"]}
    assert list(changed) == [1]
    assert "RW 1 -> 0" in changed[1]["changes"]
    assert [row[0] for row in story["comparison"]["rows"]] == [1]
    assert story["comparison"]["rows"][0][1:] == [changed[1]["value"], changed[1]["before"]]
    assert [entry["level"] for entry in last["pages"][0]["entries"]] == ["pgd", "pud", "pmd", "pte"]


def test_the_reference_counts_before_and_after_are_told(results: dict[str, dict[str, Any]]) -> None:
    story = results["false.pins.1"]["story"]
    page = story["readings"][-1]["pages"][0]
    assert "refcount 1" in page["frame_before"]
    assert "refcount 2" in page["frame"]
    assert any("nr_pages=2" in operation["details"] for operation in story["operations"])
    assert "page 0: 2 and 1" in story["failure"]


def test_a_crash_is_an_error_with_its_report(reports: Path, results: dict[str, dict[str, Any]]) -> None:
    assert results["crash.1"]["crashed"]
    root = ET.fromstring((reports / "junit").read_text())
    (error,) = root.iter("error")
    assert "panic" in (error.text or "")
    assert root.get("failures") == "2"


def test_the_command_that_repeats_it_is_pytests(results: dict[str, dict[str, Any]]) -> None:
    assert results["false.pins.1"]["rerun"] == (
        "pytest 'test_false.py::test_pins_cost_nothing[x86_64-4level/debian:6.12]' --hostwalk-arch x86_64"
    )


@pytest.mark.parametrize(
    ("place", "said"), [("none/x", "there is no directory for"), ("taken", "no file can be written at")]
)
def test_a_report_that_cannot_be_written(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "test_a.py").write_text("def test_a(): pass\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "hostwalk.plugin", "-c", os.devnull, "--hostwalk-html", place, "."],
        cwd=tmp_path, text=True, capture_output=True, timeout=SECONDS, check=False,
        env={**os.environ, "PYTHONPATH": str(TOP / "framework"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert said in ran.stderr
    assert "INTERNALERROR" not in ran.stdout + ran.stderr
    assert ran.returncode in (2, 4)


def test_every_report_is_there(reports: Path) -> None:
    assert "<mark>" in (reports / "html").read_text()
    assert (reports / "ktap").read_text().startswith("KTAP version 1\n1..1\n")
    assert "| `false.pins.1` | Pins cost nothing. |" in (reports / "contract").read_text()
