"""The report as JUnit XML: broken is a failure, a crash or what is unproven an error, not applicable a skip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from hostwalk.report.model import Result, Run, Verdict
from hostwalk.report.words import plain, promise, tested, word
from hostwalk.target import Target

_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


def text(run: Run) -> str:
    """Return the report as an XML document."""
    root = ET.Element("testsuites", {"name": "hostwalk", **_totals(run.results, run.seconds)})
    for target in run.targets:
        root.append(_suite(run, target))
    return document(root)


def document(root: ET.Element) -> str:
    """Return an element as the text of a file, indented; the element is changed for it."""
    ET.indent(root)
    return f"{_DECLARATION}{ET.tostring(root, encoding='unicode')}\n"


def _suite(run: Run, target: Target) -> ET.Element:
    results = run.on(target)
    seconds = sum(result.seconds for result in results)
    suite = ET.Element("testsuite", {"name": target.name, **_totals(results, seconds)})
    facts = {
        "target": target.name,
        "arch": target.arch,
        "format": target.format,
        "processors": str(target.cpus),
        "kernel": target.kernel,
        "identity": run.identities.get(target.name, ""),
        "seed": str(run.seed),
        "sabotage": str(run.sabotage).lower(),
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=plain(value))
    suite.extend(_case(result, sabotage=run.sabotage) for result in results)
    return suite


def _totals(results: Sequence[Result], seconds: float) -> dict[str, str]:
    tags = Counter(_tag(result) for result in results)
    return {
        "tests": str(len(results)),
        "failures": str(tags["failure"]),
        "errors": str(tags["error"]),
        "skipped": str(tags["skipped"]),
        "time": f"{seconds:.3f}",
    }


def _case(result: Result, *, sabotage: bool) -> ET.Element:
    name = f"{result.claim_id}: {result.sentence}"
    classname = f"{result.target.name}.{result.page}"
    case = ET.Element("testcase", name=plain(name), classname=plain(classname), time=f"{result.seconds:.3f}")
    if tag := _tag(result):
        message = plain(_message(result, sabotage=sabotage))
        ET.SubElement(case, tag, message=message, type=result.verdict).text = plain(_story(result))
    elif result.reason:
        ET.SubElement(case, "system-out").text = plain(f"{result.verdict}: {result.reason}")
    return case


_TAGS = {Verdict.BROKEN: "failure", Verdict.UNPROVEN: "error", Verdict.NOT_APPLICABLE: "skipped"}


def _tag(result: Result) -> str:
    """Return what JUnit calls the outcome; nothing for what passes."""
    return "error" if result.crashed else _TAGS.get(result.verdict, "")


def _message(result: Result, *, sabotage: bool) -> str:
    first = next((line for line in (result.reason or result.detail).splitlines() if line.strip()), "")
    return first or word(result.verdict, sabotage=sabotage)


def _story(result: Result) -> str:
    """Return what a reader of a CI page has to know; a skip's reason says it all."""
    if result.verdict is Verdict.NOT_APPLICABLE:
        return ""
    lines = (promise(result), tested(result), result.reason, result.detail, result.where, result.rerun)
    return "\n".join(line.rstrip() for line in lines if line.strip())
