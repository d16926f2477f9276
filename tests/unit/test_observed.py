from __future__ import annotations

import json

import pytest

from hostwalk.linux import Page
from hostwalk.machine.reports import find_reports
from hostwalk.observed import PROVOKED, Observed, Seen, comparable, plain_title, printed
from hostwalk.readings import CommittedReading, CountersReading, Frames, MmReading, Reading, Record

WARNING = """\
[    4.1] ------------[ cut here ]------------
[    4.1] WARNING: CPU: 0 PID: 82 at mm/gup.c:2517 is_valid_gup_args+0x12/0x40
[    4.1] Modules linked in: hostwalk(OE)
[    4.1] RIP: 0010:is_valid_gup_args+0x12/0x40
[    4.1] ---[ end trace 0000000000000000 ]---
"""
STACK = """\
[    5.0] GUP no longer grows the stack in subject-2 (82): 7f0000000-7f0001000 (7efff8000)
[    5.0] CPU: 0 UID: 0 PID: 82 Comm: subject-2 Tainted: G OE
[    5.0] Call Trace:
[    5.0]  <TASK>
[    5.0]  dump_stack_lvl+0x5d/0x80
[    5.0]  ? do_sys_openat2+0x91/0xe0
[    5.0]  </TASK>
"""


def page(pfn: int, *names: str, refcount: int = 1, head: int | None = None) -> Page:
    return Page(
        pfn, 0xFFFFEA0000000000 + 64 * pfn, 0, refcount, 1, 0, pfn if head is None else head, 0, 0xFFFF888000001001,
        7, 1, 0, "", frozenset(names),
    )  # fmt: skip


def frames(*pages: Page) -> Frames:
    return Frames("frames", f"{len(pages)} page frames", tuple(Record(each.pfn, each) for each in pages))


def field(reading: Reading, name: str) -> object:
    return dict(comparable([reading])[0].fields)[name]


def test_where_pages_lie_is_no_difference() -> None:
    assert comparable([frames(page(0x100, "PG_lru"))]) == comparable([frames(page(0x999, "PG_lru"))])


@pytest.mark.parametrize("other", [page(0x100, "PG_lru", "PG_dirty"), page(0x100, "PG_lru", refcount=2)])
def test_the_state_of_a_page_is(other: Page) -> None:
    assert comparable([frames(page(0x100, "PG_lru"))]) != comparable([frames(other)])


def test_the_zero_page_has_the_references_of_all_processes() -> None:
    assert comparable([frames(page(1, "PG_reserved", refcount=50))]) == comparable(
        [frames(page(1, "PG_reserved", refcount=51))]
    )


def test_pages_that_are_the_same_page() -> None:
    assert field(frames(page(5), page(6), page(5)), "same page as") == (("none", 2), ("page 0", 1))


def test_counters_of_the_machine_count_from_the_first_reading() -> None:
    def counted(start: int) -> tuple[Seen, ...]:
        return comparable(
            [
                CountersReading("counters", "counters of node 0", (), 0, (("NR_SHMEM", start + add),))
                for add in (0, 3)
            ]
        )

    assert counted(100) == counted(7000)
    assert dict(counted(100)[1].fields) == {"NR_SHMEM": (("3", 1),)}
    assert comparable([CommittedReading("committed", "c", (), 0, 5)]) == comparable(
        [CommittedReading("committed", "c", (), 0, 9)]
    )


def test_counters_of_an_address_space_are_compared_as_they_are() -> None:
    few, many = (MmReading("mm", "mm of pid 80", (), 1, locked_vm=pages) for pages in (1, 2))
    assert comparable([few]) != comparable([many])


@pytest.mark.parametrize(
    ("title", "plain"),
    [
        ("4 pages at 0x7f1234 of pid 81", "4 pages"),
        ("vma at 0x7f1234 of pid 81", "vma"),
        ("contents of 0x1000-0x3000 (2 pages of subject 3 (pid 81))", "contents of 2 pages"),
        ("counters of node 0", "counters of node 0"),
    ],
)
def test_titles_without_what_differs(title: str, plain: str) -> None:
    assert plain_title(title) == plain


def test_of_a_report_only_its_title_without_numbers() -> None:
    (line,) = printed(WARNING, find_reports(WARNING))
    assert line == "WARNING: CPU: … PID: … at mm/gup.c:… is_valid_gup_args"


def test_a_warning_that_the_claim_provokes_is_the_same_wherever_it_comes_from() -> None:
    assert printed(WARNING, find_reports(WARNING), "gup_args") == (PROVOKED,)


def test_lines_without_their_stack_traces() -> None:
    assert printed(STACK, find_reports(STACK)) == ("GUP no longer grows the stack in subject: …-… (…)",)


def test_a_busy_host_is_no_finding() -> None:
    text = "[   12.3] hrtimer: interrupt took 18273645 ns\n[   12.4] hrtimer: other\n"
    assert printed(text, ()) == ("hrtimer: other",)


def test_each_line_is_told_once() -> None:
    assert len(printed("a line\n[ 1.0] a line\n\n", ())) == 1


def test_it_survives_a_file() -> None:
    before = Observed((Seen("t", (("f", (("a", 2), ("b", 1))),)),), (("faults", 3),), ("line",))
    assert Observed.of(json.loads(json.dumps(before.plain()))) == before


def test_a_digest_tells_readings_apart() -> None:
    one, other = (Observed((Seen("t", (("f", ((text, 1),)),)),)) for text in ("a", "b"))
    assert one.digest != other.digest
    assert Observed(one.readings, (("faults", 9),)).digest == one.digest
    assert Observed().digest == ""
