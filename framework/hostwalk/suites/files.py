"""The results of a suite as text for a terminal, as JUnit XML and as JSON. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from hostwalk.report.junit import document
from hostwalk.report.words import plain
from hostwalk.suites.outcome import Outcome, Result

_TAGS = {
    Outcome.FAIL: "failure", Outcome.LEAK: "failure", Outcome.MISMATCH: "failure", Outcome.TIMEOUT: "failure",
    Outcome.CRASH: "error", Outcome.UNPROVEN: "error", Outcome.SKIP: "skipped", Outcome.XFAIL: "skipped",
}  # fmt: skip
KEPT_LINES = 15


@dataclass(frozen=True)
class SuiteRun:
    """What a run of a collection came to; ``identity`` says what was booted."""

    collection: str
    target: str
    identity: str
    results: tuple[Result, ...]
    seconds: float

    @property
    def exit_status(self) -> int:
        """1 where something failed, else 3 where something is unproven or nothing ran, else 0."""
        found = {result.outcome for result in self.results}
        if any(not outcome.good and outcome is not Outcome.UNPROVEN for outcome in found):
            return 1
        return 3 if Outcome.UNPROVEN in found or not found else 0


def totals(results: Sequence[Result]) -> str:
    """Return how many results there are of each kind: ``12 pass, 1 skip``."""
    counted = Counter(result.outcome for result in results)
    return (
        ", ".join(f"{counted[outcome]} {outcome}" for outcome in Outcome if counted[outcome]) or "nothing ran"
    )


def lines(result: Result, *, verbose: bool = False) -> Iterator[str]:
    """Yield how a result reads: one line, and for a failure the end of what was printed."""
    reason = f": {' '.join(plain(result.reason).split())}" if result.reason else ""
    yield f"{result.outcome:<13} {plain(result.name)}{reason}"
    if verbose or not result.outcome.good:
        yield from (f"    {line}" for line in plain(result.text).splitlines()[-KEPT_LINES:])


def junit(run: SuiteRun) -> str:
    """Return a run as an XML document: one test case per result, all its output with it."""
    counted = Counter(_TAGS.get(result.outcome, "") for result in run.results)
    numbers = {
        "tests": str(len(run.results)), "failures": str(counted["failure"]), "errors": str(counted["error"]),
        "skipped": str(counted["skipped"]), "time": f"{run.seconds:.3f}",
    }  # fmt: skip
    root = ET.Element("testsuites", {"name": "hostwalk", **numbers})
    suite = ET.SubElement(root, "testsuite", {"name": f"{run.target} {run.collection}", **numbers})
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="identity", value=plain(run.identity))
    suite.extend(_case(run, result) for result in run.results)
    return document(root)


def _case(run: SuiteRun, result: Result) -> ET.Element:
    classname = plain(f"{run.target}.{run.collection}")
    case = ET.Element("testcase", name=plain(result.name), classname=classname, time=f"{result.seconds:.3f}")
    if tag := _TAGS.get(result.outcome):
        message = plain(result.reason or result.outcome)
        ET.SubElement(case, tag, message=message, type=result.outcome)
    if result.text:
        ET.SubElement(case, "system-out").text = plain(result.text)
    return case


def as_json(run: SuiteRun) -> str:
    """Return a run as JSON: ``results`` with name, outcome, reason, seconds and output each."""
    results = [
        {
            "name": result.name, "outcome": result.outcome, "reason": result.reason,
            "seconds": round(result.seconds, 3), "output": result.text,
        }
        for result in run.results
    ]  # fmt: skip
    about = {"collection": run.collection, "target": run.target, "identity": run.identity}
    return json.dumps({**about, "seconds": round(run.seconds, 3), "results": results}, indent=1) + "\n"
