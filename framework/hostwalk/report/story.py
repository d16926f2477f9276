"""How a verdict came about: what was done, and what was seen, entry by entry.

Plain values, bounded in size, so that they travel between processes and into files. ``before`` is what the same place
held in an earlier reading; ``changes`` names the bits that differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A page-table entry on the way of a walk.

    ``entry_phys`` is its guest physical address, ``value`` its 64 bits, ``kind`` what it is to the hardware,
    ``phys_addr`` where it points (None: nowhere), ``flags`` the manual's names of the bits that are set.
    """

    level: str
    entry_phys: int
    index: int
    value: int
    kind: str
    phys_addr: int | None = None
    flags: tuple[str, ...] = ()
    before: int | None = None
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SeenPage:
    """A page of a reading: the walk to it, root first, what its leaf means, and its ``struct page`` in words.

    ``virt_addr`` is None where a page frame was read that nobody looked for by address.
    """

    page: int
    virt_addr: int | None = None
    entries: tuple[Entry, ...] = ()
    meaning: str = ""
    frame: str = ""
    meaning_before: str = ""
    frame_before: str = ""


@dataclass(frozen=True)
class Seen:
    """A reading of the witness; they are numbered from 1.

    ``since`` is the number of the reading that it is compared with, 0 for none. What is no page is told in
    ``lines``. ``left_out`` pages are not told.
    """

    number: int
    title: str
    since: int = 0
    pages: tuple[SeenPage, ...] = ()
    lines: tuple[str, ...] = ()
    lines_before: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything differs from the reading that it is compared with."""
        if not self.since:
            return False
        return self.lines != self.lines_before or any(map(page_changed, self.pages))


@dataclass(frozen=True)
class Operation:
    """A call in the guest and its outcome, made after ``after`` readings; ``details`` are an ioctl's arguments."""

    what: str
    outcome: str
    after: int = 0
    details: str = ""


@dataclass(frozen=True)
class Comparison:
    """The comparison of columns that failed: ``left op right``, and the pages that differ as (page, left, right)."""

    op: str
    left: str
    right: str
    rows: tuple[tuple[int, str, str], ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class Story:
    """Why a claim is broken or unproven: ``failure`` in words, ``console`` the last lines that the guest printed."""

    failure: str = ""
    operations: tuple[Operation, ...] = ()
    readings: tuple[Seen, ...] = ()
    comparison: Comparison | None = None
    console: str = ""
    operations_left_out: int = 0
    readings_left_out: int = 0


def page_changed(page: SeenPage) -> bool:
    """Whether a page differs from what it was in the earlier reading, if there was one."""
    moved = any(entry.changes for entry in page.entries)
    return moved or bool(page.frame_before and page.frame_before != page.frame)


_HEX = ("entry_phys", "value", "phys_addr", "before", "virt_addr")
"""Members with 64 significant bits, which many a JSON reader would round: text in plain data."""
Told = Entry | SeenPage | Seen | Operation | Comparison | Story
_PARTS: Mapping[str, type] = {
    "entries": Entry, "pages": SeenPage, "readings": Seen, "operations": Operation, "comparison": Comparison,
}  # fmt: skip


def plain(told: Told) -> dict[str, Any]:
    """Return a story, or a part of one, as lists, dicts, numbers and text; addresses and entries in hexadecimal."""
    return {field.name: _plain(field.name, getattr(told, field.name)) for field in fields(told)}


def _plain(name: str, value: object) -> object:
    match value:
        case Entry() | SeenPage() | Seen() | Operation() | Comparison() | Story():
            return plain(value)
        case tuple():
            return [_plain("", each) for each in value]
        case int() if name in _HEX:
            return f"{value:#x}"
    return value


def story_of(values: Mapping[str, Any]) -> Story:
    """Return the story that :func:`plain` has flattened."""
    made: Story = _made(Story, values)
    return made


def _made(kind: type, values: Mapping[str, Any]) -> Any:
    return kind(**{name: _restored(name, value) for name, value in values.items()})


def _restored(name: str, value: Any) -> Any:
    if name in _PARTS and isinstance(value, Mapping):
        return _made(_PARTS[name], value)
    if name in _PARTS and value is not None:
        return tuple(_made(_PARTS[name], each) for each in value)
    if name in _HEX and value is not None:
        return int(value, 16)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list | tuple) else value
