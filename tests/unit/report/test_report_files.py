from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import ktap_reader
import pytest

from hostwalk.errors import UsageError
from hostwalk.report import json as json_report
from hostwalk.report import junit, ktap
from hostwalk.report.formats import FORMATS, check_place, write
from hostwalk.report.model import Result, Run
from hostwalk.report.story import Comparison, Entry, Operation, Seen, SeenPage, Story


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
        "schema", "version", "hostwalk", "seed", "seconds", "sabotage", "command", "exit_status", "counts",
        "targets", "results",
    ]  # fmt: skip
    assert list(document["targets"][0]) == [
        "name", "arch", "format", "kernel", "accel", "memory_mib", "cpus", "identity",
    ]  # fmt: skip
    assert list(document["results"][0]) == [
        "claim", "page", "sentence", "reading", "code", "target", "verdict", "reason", "detail", "seconds", "rerun",
        "where", "nodeid", "crashed", "kernels", "departs", "story", "untestable", "state", "costs", "printed",
    ]  # fmt: skip


STORY = Story(
    "assert x", (Operation("mmap()", "0x1"),),
    (Seen(1, "1 page", 0, (SeenPage(0, 0x1000, (Entry("pte", 8, 1, 1 << 63, "leaf", 4096, ("P",)),)),)),),
    Comparison("==", "entries", "", ((0, "0x1", "0x2"),)),
)  # fmt: skip


def test_json_tells_what_was_seen_in_hexadecimal(run: Run) -> None:
    results = (replace(run.results[1], story=STORY), run.results[0])
    told, kept = json.loads(json_report.text(replace(run, results=results)))["results"]
    assert kept["story"] is None
    assert told["story"]["readings"][0]["pages"][0]["entries"][0] == {
        "level": "pte", "entry_phys": "0x8", "index": 1, "value": "0x8000000000000000", "kind": "leaf",
        "phys_addr": "0x1000", "flags": ["P"], "before": None, "changes": [],
    }  # fmt: skip


def names(value: object) -> set[str]:
    """Return every name in plain data."""
    if isinstance(value, dict):
        return set(value) | {name for each in value.values() for name in names(each)}
    return {name for each in value for name in names(each)} if isinstance(value, list) else set()


def test_json_is_documented(run: Run) -> None:
    """Every field that a program may meet is in the table of docs/reports.md, and no other."""
    results = (replace(run.results[1], story=STORY),)
    met = names({**json_report.document(replace(run, results=results)), "counts": None})
    text = (Path(__file__).parents[3] / "docs/reports.md").read_text()
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", text, re.MULTILINE))))
    assert told == met | {"schema"}
    assert f"version {json_report.VERSION}" in text


JUNIT = {
    "testsuites": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"properties", "testcase"}),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, {"failure", "error", "skipped", "system-out"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}
"""Each element's attributes, all of them required, and what may be in it: the part of JUnit's schemas that all have."""


def check_junit(element: ET.Element) -> None:
    """Fail for what the schema does not allow, and for counts and times that do not add up."""
    attributes, inside = JUNIT[element.tag]
    assert set(element.keys()) == attributes
    for child in element:
        assert child.tag in inside
        check_junit(child)
    if element.tag in ("testsuites", "testsuite"):
        cases = list(element.iter("testcase"))
        assert int(element.get("tests", "")) == len(cases)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.get(attribute, "")) == sum(case.find(tag) is not None for case in cases)
    if element.tag == "testcase":
        assert len([child for child in element if child.tag != "system-out"]) <= 1
    assert float(element.get("time", "0")) >= 0


@pytest.mark.parametrize("sabotage", [False, True])
@pytest.mark.parametrize("crashed", [False, True])
def test_junit_keeps_to_its_schema(run: Run, *, sabotage: bool, crashed: bool) -> None:
    results = (run.results[0], replace(run.results[1], crashed=crashed), *run.results[2:])
    check_junit(ET.fromstring(junit.text(replace(run, results=results, sabotage=sabotage))))


def test_junit_calls_a_crash_an_error(run: Run) -> None:
    crash = replace(run.results[1], crashed=True, reason="the guest kernel crashed", detail="Oops: 0000")
    root = ET.fromstring(junit.text(replace(run, results=(crash,))))
    assert (root.get("failures"), root.get("errors")) == ("0", "1")
    (error,) = root.iter("error")
    assert error.get("message") == "the guest kernel crashed"
    assert "Oops: 0000" in (error.text or "")


def test_junit_properties_name_target_and_kernel(suites: ET.Element) -> None:
    properties = {each.get("name"): each.get("value") for each in suites[1].iter("property")}
    assert {name: properties[name] for name in ("arch", "format", "processors", "kernel")} == {
        "arch": "arm64", "format": "48bit", "processors": "1", "kernel": "debian:6.12",
    }  # fmt: skip


def test_ktap_can_be_read_back(run: Run) -> None:
    x86, arm = ktap_reader.read(ktap.text(run))
    assert (x86.ok, arm.ok) == (True, False)
    assert [(each.name, each.ok, each.directive) for each in arm.subtests] == [
        ("gup.ref.1", False, ""), ("gup.ret.2", True, "SKIP"), ("insert.1", False, "ERROR"),
    ]  # fmt: skip
    assert [each.why for each in arm.subtests] == ["", "needs CONFIG_X # yes", "agent: no answer in 10 s"]
    assert x86.subtests[2].directive == "XFAIL"
    assert "witness: 3 pages [red]!" in arm.subtests[0].diagnostics


def test_ktap_takes_any_text(run: Run) -> None:
    hostile = "# ok 1 x\nnot ok 2 # SKIP\r\n1..9\x1b[0m\x00KTAP version 1"
    results = tuple(
        replace(
            each,
            claim_id=f"a #{number} # TODO",
            page=hostile,
            sentence=hostile,
            reason=hostile,
            detail=hostile,
        )
        for number, each in enumerate(run.results)
    )
    tests = ktap_reader.read(
        ktap.text(replace(run, results=results, identities={run.targets[0].name: hostile}))
    )
    assert [len(test.subtests) for test in tests] == [3, 3]


def test_ktap_says_that_the_kernel_crashed(run: Run) -> None:
    crash = replace(run.results[1], crashed=True, reason="the guest kernel crashed", detail="Oops: 0000")
    _, arm = ktap_reader.read(ktap.text(replace(run, results=(run.results[0], crash))))
    assert "the guest kernel crashed" in arm.subtests[0].diagnostics


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_to_a_file(run: Run, name: str, tmp_path: Path) -> None:
    write(run, [(name, str(tmp_path / "report"))])
    assert (tmp_path / "report").read_text(encoding="utf-8") == FORMATS[name].text(run)


def test_places_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="there is no directory"):
        check_place("/nonexistent/report")


def test_every_member_of_a_result_is_in_json(run: Run) -> None:
    renamed = {"claim_id": "claim"}
    members = [renamed.get(field.name, field.name) for field in fields(Result) if field.name != "observed"]
    members += ["state", "costs", "printed"]
    assert sorted(json_report.document(run)["results"][0]) == sorted(members)


def test_every_report_tells_what_of_the_sentence_was_tested(run: Run) -> None:
    told = replace(run, results=(replace(run.results[1], reading="The second page."),))
    assert "  # tested: The second page.\n" in ktap.text(told)
    assert json_report.document(told)["results"][0]["reading"] == "The second page."
    (failure,) = ET.fromstring(junit.text(told)).iter("failure")
    assert "\ntested: The second page.\n" in str(failure.text)


def test_what_no_page_promises_is_not_quoted(run: Run) -> None:
    told = replace(
        run, results=(replace(run.results[1], page="mm/gup.c", sentence="It is so.", code="gup()"),)
    )
    for text in (ktap.text(told), next(iter(ET.fromstring(junit.text(told)).iter("failure"))).text):
        assert "mm/gup.c, gup(): It is so.\n" in str(text)
