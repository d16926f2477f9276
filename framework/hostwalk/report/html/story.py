"""A broken claim, unfolded: what was done, what was seen, every page-table level, and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from hostwalk.report.html.markup import (
    Child,
    anchor,
    differing,
    digits_differing,
    element,
    entry_digits,
    joined,
    lines_of,
)
from hostwalk.report.model import Result, Verdict
from hostwalk.report.story import Comparison, Entry, Operation, Seen, SeenPage, Story
from hostwalk.report.words import tested

COLUMNS = ("page", "level", "entry at", "index", "entry", "leads to", "bits")


def unfolded(result: Result, name: str) -> Iterator[ET.Element]:
    """Yield the parts; ``name`` makes their ids unique in the page."""
    words: Child = result.sentence if result.code else element("q", result.sentence)
    source = f", {result.code}: " if result.code else ": "
    yield element("p", element("b", result.page), source, words, class_="sentence")
    if result.reading:
        yield element("p", tested(result))
    told = result.verdict is Verdict.BROKEN and not result.crashed and result.story is not None
    story = result.story or Story()
    if result.reason:
        yield element("p", result.reason)
    if said := (story.failure if told and story.failure else result.detail).strip():
        yield element("pre", said, class_="said")
    if told and story.comparison is not None:
        yield _comparison(story.comparison)
    yield from _again(result)
    if story.operations or story.readings:
        yield element("h4", "What was done, and when the witness looked")
        yield _course(story, name)
    yield from _readings(story, name)
    if told and story.console:
        yield element("h4", "The last lines of the console")
        yield element("pre", story.console, tabindex=0, class_="console")


def _again(result: Result) -> Iterator[ET.Element]:
    if result.rerun:
        yield element("p", element("code", result.rerun, class_="command"), class_="again")
    if result.where:
        yield element("p", "at ", element("code", result.where), class_="quiet")


def _comparison(comparison: Comparison) -> ET.Element:
    head = element("tr", element("th", "page", scope="col"))
    for side, name in (("left of", comparison.left), ("right of", comparison.right)):
        head.append(element("th", f"{name}, " if name else "", f"{side} {comparison.op}", scope="col"))
    rows = (_compared(*row) for row in comparison.rows)
    caption = f"{comparison.left_out} more pages differ" if comparison.left_out else None
    foot = element("caption", caption) if caption else None
    return element("table", foot, element("thead", head), element("tbody", *lines_of(*rows)), class_="sides")


def _compared(page: int, left: str, right: str) -> ET.Element:
    sides = ((left, right), (right, left))
    cells = (element("td", element("code", *digits_differing(*pair))) for pair in sides)
    return element("tr", element("td", str(page)), *cells)


def _course(story: Story, name: str) -> ET.Element:
    """Return operations and readings in the order in which they happened."""
    first = story.operations_left_out
    skipped = element("li", f"{first} earlier operations are left out", class_="quiet") if first else None
    done: list[tuple[int, int, ET.Element]] = [
        (operation.after, 0, _operation(operation)) for operation in story.operations
    ]
    done += [(seen.number - 1, 1, _looked(seen, name)) for seen in story.readings]
    ordered = (item for _, _, item in sorted(done, key=lambda each: each[:2]))
    return element("ol", *lines_of(skipped, *ordered), class_="course")


def _operation(operation: Operation) -> ET.Element:
    details = element("code", operation.details, class_="quiet") if operation.details else None
    between = " " if details is not None else None
    outcome = element("code", operation.outcome, class_="outcome")
    who, _, what = operation.what.rpartition(": ")
    subject = element("span", f"{who}: " if who else "", class_="quiet")
    return element("li", element("code", subject, what), between, details, " = ", outcome)


def _looked(seen: Seen, name: str) -> ET.Element:
    link = element("a", f"reading {seen.number}", href=f"#{anchor(name, 'reading', seen.number)}")
    differs = element("b", f", differs from reading {seen.since}") if seen.changed else None
    return element("li", link, f": {seen.title}", differs, class_="looked")


def _readings(story: Story, name: str) -> Iterator[ET.Element]:
    """Yield the readings, the last first and open."""
    if story.readings:
        yield element("h4", "What the witness saw, last reading first")
    for place, seen in enumerate(reversed(story.readings)):
        since = f", compared with reading {seen.since}" if seen.since else ""
        summary = element("summary", element("b", f"Reading {seen.number}"), f": {seen.title}{since}")
        body = element("div", *_reading(seen), id=anchor(name, "reading", seen.number))
        yield element("details", summary, body, open=place == 0 or seen.changed, class_="reading")


def _reading(seen: Seen) -> Iterator[ET.Element]:
    if seen.pages:
        yield _walks(seen.pages)
    if seen.left_out:
        yield element("p", f"{seen.left_out} more pages are left out", class_="quiet")
    if seen.lines:
        yield element("pre", *_lines(seen))


def _lines(seen: Seen) -> Iterator[Child]:
    before = [*seen.lines_before, *[""] * len(seen.lines)] if seen.since else [""] * len(seen.lines)
    for line, old in zip(seen.lines, before, strict=False):
        for part in _before_and_now(line, old):
            yield from part
            yield "\n"


def _walks(pages: Sequence[SeenPage]) -> ET.Element:
    """Return the walks of a reading as the tree that they are: tables that pages share stand there once."""
    head = element("tr", *(element("th", name, scope="col") for name in COLUMNS))
    rows: list[ET.Element] = []
    drawn: set[int] = set()
    for page in pages:
        for entry in page.entries:
            last = entry is page.entries[-1]
            if last or entry.entry_phys not in drawn:
                rows += _entry_rows(entry, page if last else None)
            drawn.add(entry.entry_phys)
        rows += _meaning_rows(page)
    table = element("table", element("thead", head), element("tbody", *lines_of(*rows)), class_="walk")
    return element("div", table, class_="wide", tabindex=0, role="region", aria_label="page-table walks")


def _entry_rows(entry: Entry, page: SeenPage | None) -> Iterator[ET.Element]:
    """Yield an entry; where it differs from the earlier one, that one stands above it."""
    changed = bool(entry.changes)
    leaf = "leaf" if page is not None else None
    if changed and entry.before is not None:
        cells = (element("td", colspan=4), element("td", entry_digits(entry.before, entry.value)))
        yield element("tr", *cells, element("td", "before", colspan=2), class_=f"before {leaf or ''}".strip())
    yield element(
        "tr",
        element("td", f"{page.page}" if page is not None else ""),
        element("th", entry.level, scope="row"),
        element("td", element("code", f"{entry.entry_phys:#x}")),
        element("td", element("code", f"{entry.index}"), class_="right"),
        element("td", entry_digits(entry.value, entry.before if changed else None)),
        element(
            "td", element("code", f"{entry.phys_addr:#x}" if entry.phys_addr is not None else entry.kind)
        ),
        element("td", element("code", " ".join(entry.flags), *_changes(entry))),
        class_=leaf if not changed else None,
    )


def _changes(entry: Entry) -> Iterator[Child]:
    for change in entry.changes:
        yield " "
        yield element("mark", change.replace(" -> ", " → "))


def _meaning_rows(page: SeenPage) -> Iterator[ET.Element]:
    """Yield what the page is: its address and what the leaf means, then its struct page; and what these were before."""
    where = f"{page.virt_addr:#x}: " if page.virt_addr is not None else ""
    compared = bool(page.meaning_before or page.frame_before)
    meaning = (where + page.meaning, where + page.meaning_before if compared else "")
    for label, (now, before) in (("", meaning), ("struct page", (page.frame, page.frame_before))):
        if now or before:
            lines = [element("code", *part) for part in _before_and_now(now, before if compared else "")]
            number = "" if page.entries else str(page.page)
            cell = element("td", *joined(lines, "\n"), colspan=5)
            yield element("tr", element("td", number), element("td", label), cell, class_="means")


def _before_and_now(now: str, before: str) -> Iterator[list[Child]]:
    """Yield a line, or, where it was another before, that one and this one with the words marked that differ."""
    if before and before != now:
        yield ["before ", *differing(before, now)]
        yield ["now    ", *differing(now or "none", before)]
    else:
        yield [now]
