from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from hostwalk.report import json as json_report
from hostwalk.report import junit, ktap
from hostwalk.report.model import Run


@pytest.fixture
def suites(run: Run) -> ET.Element:
    return ET.fromstring(junit.text(run))


def test_junit_counts(suites: ET.Element) -> None:
    counted = {name: suites.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counted == {"tests": "6", "failures": "1", "errors": "1", "skipped": "2"}
    assert [suite.get("tests") for suite in suites] == ["3", "3"]


def test_junit_names_what_was_booted(suites: ET.Element) -> None:
    properties = {each.get("name"): each.get("value") for each in suites[0].iter("property")}
    assert properties["target"] == "x86_64-4level/debian:6.12"
    assert properties["identity"] == "6.12.1, boot 3fa8, QEMU 7.2, tcg: asked for"
    assert properties["seed"] == "4711"


def test_junit_failure_tells_the_story_without_control_characters(suites: ET.Element) -> None:
    (failure,) = suites.iter("failure")
    assert failure.get("message") == "claimed: 4 pages"
    assert failure.text is not None
    assert "witness: 3 pages [red]!\n  pte 0x8000000001234567 present" in failure.text
    assert "hostwalk check --arch arm64 -k gup.ref.1" in failure.text


def test_junit_error_and_skip_give_their_reason(suites: ET.Element) -> None:
    (error,) = suites.iter("error")
    assert error.get("message") == "agent: no answer in 10 s"
    assert [skip.get("message") for skip in suites.iter("skipped")] == ["needs CONFIG_X # yes"] * 2


def test_junit_departure_passes_and_is_cited(suites: ET.Element) -> None:
    (out,) = suites.iter("system-out")
    assert out.text == 'departs: commit 0123abc ("mm: x")'


def test_junit_in_sabotage_mode(run: Run) -> None:
    root = ET.fromstring(junit.text(replace(run, sabotage=True)))
    assert root[0].find("properties/property[@name='sabotage']").get("value") == "true"  # type: ignore[union-attr]


def test_ktap(run: Run) -> None:
    assert ktap.text(run).splitlines() == [
        "KTAP version 1",
        "1..2",
        "  KTAP version 1",
        "  # Subtest: x86_64-4level/debian:6.12",
        "  # 6.12.1, boot 3fa8, QEMU 7.2, tcg: asked for",
        "  # seed 4711",
        "  1..3",
        "  ok 1 gup.ref.1",
        "  ok 2 gup.ret.2 # SKIP needs CONFIG_X # yes",
        '  ok 3 insert.1 # XFAIL commit 0123abc ("mm: x")',
        "ok 1 x86_64-4level/debian:6.12",
        "  KTAP version 1",
        "  # Subtest: arm64-48bit/debian:6.12",
        "  # seed 4711",
        "  1..3",
        '  # get_user_pages(9): "Sentence of gup.ref.1 & <more>"',
        "  # claimed: 4 pages",
        "  # witness: 3 pages [red]!",
        "  #   pte 0x8000000001234567 present",
        "  # hostwalk check --arch arm64 -k gup.ref.1",
        "  not ok 1 gup.ref.1",
        "  ok 2 gup.ret.2 # SKIP needs CONFIG_X # yes",
        '  # vm_insert_page(9): "Sentence of insert.1 & <more>"',
        "  # hostwalk check --arch arm64 -k insert.1",
        "  not ok 3 insert.1 # ERROR agent: no answer in 10 s",
        "not ok 2 arm64-48bit/debian:6.12",
    ]


def test_ktap_of_a_target_without_results(kept: Run) -> None:
    assert ktap.text(replace(kept, results=())).splitlines()[-1].endswith("# ERROR nothing was judged")


def test_json(run: Run) -> None:
    document = json.loads(json_report.text(run))
    assert document["schema"] == "hostwalk.run"
    assert document["version"] == 1
    assert document["exit_status"] == 1
    assert document["counts"] == {"kept": 1, "broken": 1, "n/a": 2, "unproven": 1, "departs": 1}
    assert [target["arch"] for target in document["targets"]] == ["x86_64", "arm64"]
    assert document["results"][1]["verdict"] == "broken"


def test_json_schema_is_stable(run: Run) -> None:
    """A field that goes or changes its name breaks somebody: raise VERSION then."""
    document = json_report.document(run)
    assert list(document) == [
        "schema", "version", "hostwalk", "seed", "seconds", "sabotage", "exit_status", "counts",
        "targets", "results",
    ]  # fmt: skip
    assert list(document["targets"][0]) == [
        "name", "arch", "format", "kernel", "accel", "memory_mib", "cpus", "identity",
    ]  # fmt: skip
    assert list(document["results"][0]) == [
        "claim", "page", "sentence", "target", "verdict", "reason", "detail", "seconds", "rerun", "where",
        "nodeid", "state", "costs", "printed",
    ]  # fmt: skip
