"""The matrix: claims down, grouped by manual page, cells across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from xml.etree import ElementTree as ET

from hostwalk.report.html.markup import Child, anchor, element, lines_of
from hostwalk.report.model import Result, Run, Verdict, by_page
from hostwalk.report.words import SIGNS, worst
from hostwalk.target import Target

CLASSES = {
    Verdict.KEPT: None,
    Verdict.BROKEN: "b",
    Verdict.NOT_APPLICABLE: "n",
    Verdict.UNPROVEN: "u",
    Verdict.DEPARTS: "d",
}
NAMED = ("arch", "kernel", "format", "processors")
Cells = Mapping[Target, int]


def numbered(targets: Sequence[Target]) -> dict[Target, int]:
    """Return the cells with their numbers, from 1, ordered so that those that are alike stand together."""
    parts = [_parts(target) for target in targets]
    first = [list(dict.fromkeys(column)) for column in zip(*parts, strict=True)]
    ordered = sorted(targets, key=lambda target: tuple(map(list.index, first, _parts(target))))
    return {target: number for number, target in enumerate(ordered, 1)}


def _parts(target: Target) -> tuple[str, ...]:
    return (target.arch, target.kernel, target.format, str(target.cpus))


def table(run: Run, cells: Cells) -> ET.Element:
    """Return the table; its head repeats what tells the cells apart."""
    columns = element("colgroup", element("col", class_="id"), element("col"))
    columns.extend(element("col", class_="c") for _ in cells)
    made = element("table", columns, _head(list(cells)), class_="matrix")
    for page, claims in by_page(run.results).items():
        made.append(element("tbody", *lines_of(*_page(page, claims, cells))))
    return made


def _head(targets: Sequence[Target]) -> ET.Element:
    parts = [_parts(target) for target in targets]
    varying = [level for level in range(len(NAMED)) if len({part[level] for part in parts}) > 1]
    rows = [_head_row(parts, level) for level in varying]
    numbers = element("tr", element("th", "cell", colspan=2, scope="row"))
    numbers.extend(element("th", str(number), scope="col") for number in range(1, len(targets) + 1))
    return element("thead", *lines_of(*rows, numbers))


def _head_row(parts: Sequence[tuple[str, ...]], level: int) -> ET.Element:
    """Return a row that names one part of the targets, once for neighbours that share it and all before it."""
    row = element("tr", element("th", NAMED[level], colspan=2, scope="row"))
    for shared, alike in groupby(parts, key=lambda part: part[: level + 1]):
        row.append(element("th", shared[-1], colspan=len(list(alike)), scope="colgroup"))
    return row


def _page(page: str, claims: Mapping[str, Sequence[Result]], cells: Cells) -> Iterator[ET.Element]:
    row = element("tr", element("th", page or "no page", colspan=2, scope="rowgroup"), class_="page")
    results = [result for several in claims.values() for result in several]
    row.extend(_total([result.verdict for result in results if result.target == target]) for target in cells)
    yield row
    for claim_id, several in claims.items():
        yield _claim(claim_id, several, cells)


def _total(verdicts: Sequence[Verdict]) -> ET.Element:
    """Return how many are kept; or, where any is broken or unproven, how many of those."""
    counts = Counter(verdicts)
    for bad in (Verdict.BROKEN, Verdict.UNPROVEN):
        if counts[bad]:
            return element("td", f"{SIGNS[bad]}{counts[bad]}", class_=CLASSES[bad])
    return element("td", str(counts[Verdict.KEPT]) if verdicts else "")


def _claim(claim_id: str, results: Sequence[Result], cells: Cells) -> ET.Element:
    row = element("tr", element("th", claim_id, scope="row"), element("td", results[0].sentence))
    by_target: dict[Target, list[Verdict]] = {}
    for result in results:
        by_target.setdefault(result.target, []).append(result.verdict)
    row.extend(_cell(claim_id, by_target.get(target, []), number) for target, number in cells.items())
    return row


def _cell(claim_id: str, verdicts: Sequence[Verdict], number: int) -> ET.Element:
    if not verdicts:
        return element("td")
    verdict = worst(verdicts)
    return element("td", _sign(claim_id, verdict, number), class_=CLASSES[verdict])


def _sign(claim_id: str, verdict: Verdict, number: int) -> Child:
    """Return the verdict's sign; it leads to the reason, where there is one to tell."""
    if verdict is Verdict.KEPT:
        return SIGNS[verdict]
    place = anchor("broken", claim_id, number) if verdict is Verdict.BROKEN else anchor("why", claim_id)
    return element("a", SIGNS[verdict], href=f"#{place}", aria_label=f"{verdict}: {claim_id}, cell {number}")
