"""From what a witness read and heard to a story for the reports: plain, and no larger than a reader can take in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from hostwalk.column import Column
from hostwalk.paging import Step
from hostwalk.paging.naming import differences
from hostwalk.readings import Reading, Record
from hostwalk.report.story import Comparison, Entry, Operation, Seen, SeenPage, Story

READINGS, PAGES, OPERATIONS, ROWS, LINES = 6, 8, 80, 16, 40
SHOWN, BRIEF = 4, 120
LINE, TEXT = 400, 8000
"""Characters of a line, and of a text of many lines."""
Piece = TypeVar("Piece")


def tell(
    failure: str,
    operations: Sequence[Operation],
    readings: Sequence[Reading],
    comparison: Comparison | None,
    console: str,
) -> Story:
    """Return the story: the last operations and readings, each reading compared with the one before of the same."""
    shown = max(0, len(readings) - READINGS)
    return Story(
        _text(failure),
        tuple(_cut(operation) for operation in operations[-OPERATIONS:]),
        tuple(_seen(readings, index) for index in range(shown, len(readings))),
        comparison,
        _text(console, last=True),
        max(0, len(operations) - OPERATIONS),
        shown,
    )


def compared(op: str, left: object, right: object) -> Comparison | None:
    """Return a failed comparison of a column with another, or with a number; None for anything else."""
    if op not in ("==", "!="):
        return None
    if isinstance(right, Column) and not isinstance(left, Column):
        turned = compared(op, right, left)
        return turned and replace(
            turned, left=turned.right, right=turned.left, rows=tuple((n, b, a) for n, a, b in turned.rows)
        )
    if not isinstance(left, Column) or not isinstance(right, Sequence | int) or isinstance(right, str):
        return None
    differing = left.differing(right) if op != "!=" else range(len(left))
    other = [right] * len(left) if isinstance(right, int) else right
    rows = tuple((page, _at(left, page, left), _at(other, page, left)) for page in differing[:ROWS])
    name = right.name if isinstance(right, Column) else ""
    return Comparison(op, left.name, name, rows, max(0, len(differing) - ROWS))


def explained(comparison: Comparison, left: object, right: object) -> list[str]:
    """Return the comparison as lines, for pytest, which shows no more than eight."""
    rows = comparison.rows[:SHOWN]
    more = len(comparison.rows) + comparison.left_out - len(rows)
    return [
        f"{repr(left)[:BRIEF]} {comparison.op} {repr(right)[:BRIEF]}",
        *(f"page {page}: {mine or 'none'} and {other or 'none'}" for page, mine, other in rows),
        *([f"and {more} more"] if more else []),
    ]


def _at(values: Sequence[object], page: int, like: Column) -> str:
    if page >= len(values):
        return ""
    value = values[page]
    return like.text(int(value)) if isinstance(value, int) else str(value)[:LINE]


def _cut(operation: Operation) -> Operation:
    return replace(operation, what=operation.what[:LINE], details=operation.details[:LINE])


def _text(text: str, *, last: bool = False) -> str:
    if len(text) <= TEXT:
        return text
    return f"…{text[-TEXT:]}" if last else f"{text[:TEXT]}…"


def _lines(reading: Reading) -> tuple[str, ...]:
    return tuple(line.strip()[:LINE] for line in reading.lines()[1 : LINES + 1])


def _seen(readings: Sequence[Reading], index: int) -> Seen:
    reading = readings[index]
    if not reading.records:
        since = _latest(readings[:index], lambda old: old.title == reading.title)
        before = _lines(readings[since - 1]) if since else ()
        return Seen(index + 1, reading.title, since, lines=_lines(reading), lines_before=before)
    since = _latest(readings[:index], lambda old: bool(_places(old) & _places(reading)))
    earlier = dict(_placed(readings[since - 1])) if since else {}
    pairs = [(page, record, earlier.get(place)) for page, (place, record) in enumerate(_placed(reading))]
    pages = sorted((_page(*pair) for pair in _interesting(pairs)), key=lambda page: page.page)
    return Seen(index + 1, reading.title, since, tuple(pages), left_out=len(reading.records) - len(pages))


def _latest(readings: Sequence[Reading], fits: Callable[[Reading], bool]) -> int:
    """Return the number of the last reading that fits; 0 for none."""
    return next((number for number in range(len(readings), 0, -1) if fits(readings[number - 1])), 0)


Place = tuple[int, int]


def _placed(reading: Reading) -> Iterator[tuple[Place, Record]]:
    """Yield the pages by what makes them the same page in two readings: root and address, or the page frame."""
    for record in reading.records:
        walk = record.walk
        yield ((walk.space.root, walk.virt_addr) if walk is not None else (-1, record.pfn)), record


def _places(reading: Reading) -> set[Place]:
    return {place for place, _ in _placed(reading)}


Pair = tuple[int, Record, Record | None]


def _interesting(pairs: Sequence[Pair]) -> list[Pair]:
    """Return as many pages as are told: those that changed first."""
    return sorted(pairs, key=lambda pair: pair[2] is None or not _changed(pair[1], pair[2]))[:PAGES]


def _changed(record: Record, earlier: Record) -> bool:
    return record.entry != earlier.entry or record.frame != earlier.frame


def _page(page: int, record: Record, earlier: Record | None) -> SeenPage:
    walk, before = record.walk, earlier.walk if earlier is not None else None
    old = {step.name: step for step in before.levels} if before is not None else {}
    entries = (
        tuple(_entry(step, old.get(step.name), record) for step in walk.levels) if walk is not None else ()
    )
    return SeenPage(
        page,
        walk.virt_addr if walk is not None else None,
        entries,
        _meaning(record),
        str(record.frame or ""),
        _meaning(earlier),
        str(earlier.frame or "") if earlier is not None else "",
    )


def _meaning(record: Record | None) -> str:
    if record is None or record.walk is None:
        return ""
    return record.leaf.describe() if record.leaf is not None else str(record.walk.end)


def _entry(step: Step, before: Step | None, record: Record) -> Entry:
    assert record.walk is not None
    changes = differences(before, step, record.walk.space.linux) if before is not None else ()
    return Entry(
        step.name, step.entry_phys, step.index, step.entry, str(step.kind), step.phys_addr, step.flags,
        before.entry if before is not None else None, changes,
    )  # fmt: skip
