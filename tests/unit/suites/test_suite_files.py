"""The results of a suite as text, JUnit and JSON, and what the exit status is."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from hostwalk.suites.files import SuiteRun, as_json, junit, lines, totals
from hostwalk.suites.outcome import Outcome, Result


def run_of(*outcomes: Outcome) -> SuiteRun:
    results = tuple(
        Result(f"mm / t{number}", outcome, "why", "said\x1b[1m\n", 1.5)
        for number, outcome in enumerate(outcomes)
    )
    return SuiteRun("mm", "x86_64-4level/source:7.3", "Linux 7.3.4", results, 2.0)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ((), 3),
        ((Outcome.PASS, Outcome.SKIP, Outcome.XFAIL), 0),
        ((Outcome.PASS, Outcome.UNPROVEN), 3),
        *(
            (((bad, Outcome.UNPROVEN)), 1)
            for bad in (Outcome.FAIL, Outcome.CRASH, Outcome.LEAK, Outcome.TIMEOUT)
        ),
        ((Outcome.MISMATCH,), 1),
    ],
)
def test_the_exit_status_is_the_worst(outcomes: tuple[Outcome, ...], status: int) -> None:
    assert run_of(*outcomes).exit_status == status


def test_junit_counts_what_it_holds() -> None:
    root = ET.fromstring(junit(run_of(*Outcome)))
    suite = root.find("testsuite")
    assert suite is not None
    assert {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": len(Outcome),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    assert len(suite.findall("testcase/failure")) == 4
    assert len(suite.findall("testcase/error")) == 2


def test_junit_names_the_suite_that_ran() -> None:
    ran = replace(run_of(Outcome.PASS), collection="ltp mm")
    root = ET.fromstring(junit(ran))
    (case,) = root.iter("testcase")
    assert root.get("name") == "hostwalk"
    assert case.get("classname") == "x86_64-4level/source:7.3.ltp mm"
    assert "kselftest" not in junit(ran)


def test_json_has_every_result_with_its_output() -> None:
    told = json.loads(as_json(run_of(Outcome.PASS, Outcome.LEAK)))
    assert [each["outcome"] for each in told["results"]] == ["pass", "leak"]
    assert told["results"][0]["output"].startswith("said")


def test_a_failure_shows_the_end_of_its_output_and_a_pass_does_not() -> None:
    run = run_of(Outcome.PASS, Outcome.FAIL)
    passed, failed = run.results
    assert list(lines(passed)) == ["pass          mm / t0: why"]
    assert len(list(lines(failed))) == 2
    assert len(list(lines(passed, verbose=True))) == 2
    assert totals(run.results) == "1 pass, 1 fail"
