"""What a claim's run showed, made comparable with another run: readings without addresses, costs, warnings.

Left out is what differs between two runs, or two kernels, that do the same: addresses and page frame numbers, what
the whole machine has counted before the claim began, references to the zero page, which every process has. Kept is
the state of each page and its entry, of each mapping, and the address space's counters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

from hostwalk.linux import Page, Vma
from hostwalk.linux.pages import ALIASES
from hostwalk.machine.reports import STAMP, TRACE_LINE, Report
from hostwalk.paging import Leaf
from hostwalk.readings import (
    NO_PFN,
    CommittedReading,
    Contents,
    CountersReading,
    MmReading,
    Reading,
    Record,
    VmaReading,
    VmasReading,
)

MIRRORED = frozenset(
    ("P", "RW", "US", "A", "D", "NX", "PS", "PAT", "PWT", "PCD", "V", "USER", "RO", "AF", "DBM", "PXN", "UXN")
)
"""Hardware flags that rights, memory type and Linux's own terms say already."""
MM_FIELDS = (
    "rss_anon", "rss_file", "rss_shmem", "rss_swap", "total_vm", "locked_vm", "pinned_vm", "data_vm", "map_count",
    "pgtables_bytes", "mmap_lock",
)  # fmt: skip
DIGEST_DIGITS = 16
Runs = tuple[tuple[str, int], ...]
"""A column of texts, one per page: each text and how often in a row."""


@dataclass(frozen=True)
class Seen:
    """One reading: what was looked at, and for each field a text per page (per mapping, or just one)."""

    title: str
    fields: tuple[tuple[str, Runs], ...] = ()


@dataclass(frozen=True)
class Observed:
    """All that a claim's run showed. ``costs`` are named numbers; ``warnings`` what the kernel printed, by line."""

    readings: tuple[Seen, ...] = ()
    costs: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A short digest of the readings: equal when they are."""
        text = json.dumps([[seen.title, seen.fields] for seen in self.readings])
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS] if self.readings else ""

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, for another process or a file."""
        return {
            "readings": [[seen.title, [[name, list(map(list, runs))] for name, runs in seen.fields]]
                         for seen in self.readings],
            "costs": [list(cost) for cost in self.costs],
            "warnings": list(self.warnings),
        }  # fmt: skip

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return what :meth:`plain` made plain."""
        readings = tuple(
            Seen(
                title,
                tuple((name, tuple((text, int(count)) for text, count in runs)) for name, runs in fields),
            )
            for title, fields in values["readings"]
        )
        costs = tuple((str(name), int(value)) for name, value in values["costs"])
        return cls(readings, costs, tuple(values["warnings"]))


NOTHING = Observed()


def comparable(readings: Sequence[Reading]) -> tuple[Seen, ...]:
    """Return readings without what differs from run to run; machine-wide counters count from their first reading."""
    first: dict[str, Mapping[str, int]] = {}
    seen = []
    for reading in readings:
        totals = _totals(reading)
        if totals is not None:
            begin = first.setdefault(reading.kind, totals)
            fields = [(name, _one(value - begin[name])) for name, value in totals.items()]
        else:
            fields = _fields(reading)
        seen.append(Seen(plain_title(reading.title), tuple(fields)))
    return tuple(seen)


def plain_title(text: str) -> str:
    """Return a reading's title without addresses and process numbers."""
    return _replaced(text, _IN_TITLES)


def plain_line(text: str) -> str:
    """Return what the kernel printed on a line without its time and its numbers, which differ between machines."""
    return _replaced(STAMP.sub("", text), _IN_LINES)


def printed(text: str, reports: Sequence[Report], provoked: str = "") -> tuple[str, ...]:
    """Return what the kernel printed, each line once: of a report its title, of the rest all but stack traces.

    Reports that match the regular expression ``provoked`` are the claim's own doing, wherever they come from.
    """
    told = {STAMP.sub("", line) for report in reports for line in report.text.splitlines()}
    lines = [STAMP.sub("", line) for line in text.splitlines()]
    rest = [
        line for line in lines if line not in told and not _is_of_a_trace(line) and not SLOW_HOST.match(line)
    ]
    titles = [
        PROVOKED if provoked and re.search(provoked, report.text) else report.title for report in reports
    ]
    return tuple(dict.fromkeys(filter(None, map(plain_line, [*titles, *rest]))))


SLOW_HOST = re.compile(
    r"hrtimer: interrupt took|perf: interrupt took too long|sched: RT throttling|clocksource: |workqueue: .* hogged CPU"
)
"""Beginnings of what Linux prints when a processor is not given time enough, as on a host that does much besides:
kernel/time/hrtimer.c, kernel/events/core.c, kernel/sched/rt.c, kernel/time/clocksource.c, kernel/workqueue.c."""
PROVOKED = "a warning that the claim provokes"


def _is_of_a_trace(line: str) -> bool:
    return TRACE_LINE.search(line) is not None or line.lstrip().startswith(_TRACE_HEADS)


def _replaced(text: str, patterns: Sequence[tuple[str, str]]) -> str:
    for pattern, instead in patterns:
        text = re.sub(pattern, instead, text)
    return text.strip()


_TRACE_HEADS = ("CPU: ", "Tainted: ", "Hardware name: ", "Call trace:", "Code: ")
_IN_TITLES = (
    (r" at 0x[0-9a-f]+ of pid \d+", ""),
    (r" of pid \d+", ""),
    (r"0x[0-9a-f]+-0x[0-9a-f]+ \((\d+ pages) of .*\)$", r"\1"),
)
_IN_LINES = (
    (r"\+0x[0-9a-f]+/0x[0-9a-f]+", ""),
    (r"\bsubject-\d+(?: \(\d+\)|:\d+)?", "subject"),
    (r"\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b", "…"),
)


def _totals(reading: Reading) -> Mapping[str, int] | None:
    """Return counters of the whole machine, of which only changes can be compared."""
    if isinstance(reading, CountersReading):
        return dict(reading.values)
    if isinstance(reading, CommittedReading):
        return {"pages": reading.pages}
    return None


def _fields(reading: Reading) -> list[tuple[str, Runs]]:
    if isinstance(reading, MmReading):
        return _mm(reading)
    if isinstance(reading, VmaReading):
        return _vmas((reading.vma,) if reading.vma is not None else ())
    if isinstance(reading, VmasReading):
        return _vmas(reading.vmas)
    return _pages(reading)


def _mm(reading: MmReading) -> list[tuple[str, Runs]]:
    numbers = [(name, _one(getattr(reading, name))) for name in MM_FIELDS]
    return [
        *numbers,
        ("flags", _one(_words(reading.flag_names))),
        ("def_flags", _one(_words(reading.def_flags))),
    ]


def _vmas(vmas: Sequence[Vma]) -> list[tuple[str, Runs]]:
    return [
        ("vm_flags", _runs(_words(vma.names) for vma in vmas)),
        ("bytes", _runs(str(vma.end - vma.start) for vma in vmas)),
        ("vm_page_prot", _runs(f"{vma.page_prot:#x}" for vma in vmas)),
        ("vm_pgoff", _runs(_pgoff(vma) for vma in vmas)),
        ("file", _runs(vma.file or "none" for vma in vmas)),
    ]


def _pgoff(vma: Vma) -> str:
    """Return vm_pgoff where it is an offset: in anonymous memory it is an address, in a remapped one a page frame."""
    return str(vma.pgoff) if vma.file and not vma.has("VM_PFNMAP") else "-"


def _pages(reading: Reading) -> list[tuple[str, Runs]]:
    records = reading.records
    columns = {
        "level": [_level(record) for record in records],
        "entry": [_entry(record.leaf) for record in records],
        "rights": [str(leaf.rights) if leaf and leaf.present else "none" for leaf in _leaves(records)],
        "memory type": [leaf.memory_type if leaf and leaf.present else "none" for leaf in _leaves(records)],
        "hardware": [_hardware(leaf) for leaf in _leaves(records)],
        "same page as": _shared(records),
        "use": [_use(record.frame) for record in records],
        "page flags": [_page_flags(record.frame) for record in records],
        **{name: [_count(record.frame, name) for record in records] for name in _COUNTS},
    }
    if isinstance(reading, Contents):
        columns["contents"] = [hashlib.sha256(reading.data).hexdigest()[:DIGEST_DIGITS]]
    return [(name, _runs(values)) for name, values in columns.items()]


_COUNTS = ("refcount", "mapcount", "pincount", "order")


def _leaves(records: Iterable[Record]) -> list[Leaf | None]:
    return [record.leaf for record in records]


def _level(record: Record) -> str:
    return f"{record.level} {record.walk.end}" if record.walk is not None else "none"


def _entry(leaf: Leaf | None) -> str:
    if leaf is None:
        return "none"
    if leaf.swap is None:
        return _words(("present", *leaf.linux.names) if leaf.linux.present else ("absent",))
    swap = leaf.swap
    marks = [name for name in ("exclusive", "uffd_wp", "soft_dirty") if getattr(swap, name)]
    return _words((str(swap) if swap.marker else swap.name, *marks))


def _hardware(leaf: Leaf | None) -> str:
    if leaf is None or not leaf.present:
        return "none"
    return _words((*(flag for flag in leaf.flags if flag not in MIRRORED), *leaf.values))


def _shared(records: Sequence[Record]) -> list[str]:
    """Return for each page the first page of the reading that has the same frame, if that is another one."""
    first: dict[int, int] = {}
    found = []
    for number, record in enumerate(records):
        other = first.setdefault(record.pfn, number)
        found.append("none" if other == number or record.pfn == NO_PFN else f"page {other}")
    return found


def _use(page: Page | None) -> str:
    if page is None:
        return "none"
    return page.type or ("anon" if page.anon else "file" if page.mapping else "no mapping")


def _page_flags(page: Page | None) -> str:
    return "none" if page is None else _words(name[3:] for name in page.names - ALIASES)


def _count(page: Page | None, name: str) -> str:
    """Return a count; those of the zero page, which is reserved, belong to all processes."""
    return "-" if page is None or page.has("PG_reserved") else str(getattr(page, name))


def _words(names: Iterable[str]) -> str:
    return " ".join(sorted(names)) or "none"


def _one(value: object) -> Runs:
    return ((str(value), 1),)


def _runs(values: Iterable[str]) -> Runs:
    return tuple((text, len(list(run))) for text, run in groupby(values))
