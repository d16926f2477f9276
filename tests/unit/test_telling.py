"""What was read and heard becomes a story: complete where it matters, and bounded."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hostwalk import telling
from hostwalk.column import Column
from hostwalk.memory import FakeMemory, Region
from hostwalk.paging import AddressSpace, arm64, walk, x86_64
from hostwalk.readings import CommittedReading, Pages, Reading, Record
from hostwalk.report.story import Comparison, Operation, Story, plain
from hostwalk.telling import compared, explained, tell

ROOT, PUD, PMD, PTE = 0x1000, 0x2000, 0x3000, 0x4000
PAGE = 0x8000_0000_0005_0067
LAYOUT = {"_PAGE_BIT_SPECIAL": 9, "_PAGE_BIT_SAVED_DIRTY": 58, "_PAGE_BIT_PROTNONE": 8}


PRESENT_INVALID = 1 << 11


def pages(*entries: int, first: int = 0, root: int = ROOT, arm: bool = False) -> Pages:
    """Return the reading of pages from number ``first`` on, whose last-level entries are these."""
    memory = FakeMemory((Region(0, 1 << 30),))
    for place, entry in ((ROOT, PUD), (PUD, PMD), (PMD, PTE), (0x7000, PUD)):
        memory.write_u64(place, entry | (3 if arm else 7))
    for index, entry in enumerate(entries, first):
        memory.write_u64(PTE + 8 * index, entry)
    if arm:
        format_ = arm64.make_format(arm64.Half(12, 48, mair=0xFF44))
        bits = arm64.linux_bits({"PTE_DIRTY": 1 << 55, "PTE_PRESENT_INVALID": PRESENT_INVALID})
    else:
        format_, bits = x86_64.make_format(4), x86_64.linux_bits(LAYOUT)
    space = AddressSpace("test", format_, root, 0, 1 << 47, bits)
    walks = [walk(memory, space, (first + number) << 12) for number in range(len(entries))]
    return Pages("pages", "pages", tuple(Record(each.pfn or -1, None, each) for each in walks))


def told(*readings: Reading, operations: tuple[Operation, ...] = (), console: str = "") -> Story:
    return tell("it failed", operations, readings, None, console)


def changes(before: int, after: int, *, arm: bool = False) -> tuple[str, ...]:
    last = told(pages(before, arm=arm), pages(after, arm=arm)).readings[-1]
    return last.pages[0].entries[-1].changes


def test_every_level_is_told() -> None:
    (seen,) = told(pages(PAGE)).readings
    assert [entry.level for entry in seen.pages[0].entries] == ["pgd", "pud", "pmd", "pte"]
    pte = seen.pages[0].entries[-1]
    assert (pte.entry_phys, pte.index, pte.value, pte.phys_addr) == (PTE, 0, PAGE, 0x50000)
    assert pte.flags == ("P", "RW", "US", "A", "D", "NX")
    assert "4K page" in seen.pages[0].meaning
    assert seen.since == 0
    assert pte.before is None


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (PAGE, PAGE, ()),
        (PAGE, PAGE & ~2, ("RW 1 -> 0",)),
        (PAGE, PAGE & ~0x42 | 1 << 58, ("RW 1 -> 0", "D 1 -> 0", "saved_dirty 0 -> 1")),
        (PAGE, PAGE + 0x3000, ("address 0x50000 -> 0x53000",)),
        (PAGE, PAGE | 1 << 9, ("special 0 -> 1",)),
        (PAGE, PAGE | 1 << 52, ("bit 52 0 -> 1",)),
        (PAGE, PAGE | 5 << 59, ("pkey=0 -> pkey=5",)),
        (PAGE, 0, ("is empty now",)),
        (0, PAGE, ("was empty",)),
        (PAGE, PAGE & ~1, ("leaf -> not present", "P 1 -> 0")),
        (PAGE, PAGE & ~1 | 1 << 8, ("leaf -> not present", "P 1 -> 0", "prot_none 0 -> 1")),
        (PAGE, PAGE | 1 << 8, ("G 0 -> 1",)),
    ],
)
def test_differing_bits_have_names(before: int, after: int, said: tuple[str, ...]) -> None:
    assert changes(before, after) == said


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (1 << 7, ("RO 0 -> 1",)),
        (1 << 55, ("dirty 0 -> 1",)),
        (1 << 2, ("Normal-NC -> Normal",)),
        (3 << 8, ("NSH -> ISH",)),
    ],
)
def test_differing_bits_have_names_on_arm64_too(bits: int, said: tuple[str, ...]) -> None:
    page = 0x50000 | 1 << 10 | 3
    assert changes(page, page | bits, arm=True) == said


def test_prot_none_of_arm64_is_more_than_a_bit() -> None:
    page = 0x50000 | 1 << 10 | 1 << 6 | 3
    assert changes(page, page & ~(1 << 6 | 1) | 1 << 54 | PRESENT_INVALID, arm=True) == (
        "leaf -> not present", "V 1 -> 0", "USER 1 -> 0", "nG 0 -> 1", "UXN 0 -> 1",
    )  # fmt: skip


def test_a_table_entry_that_changed() -> None:
    before, after = pages(PAGE), pages(PAGE)
    walked = after.records[0].walk
    assert walked is not None
    upper = replace(walked.levels[2], entry=PTE | 5)
    moved = replace(walked, levels=(*walked.levels[:2], upper, walked.levels[3]))
    after = replace(after, records=(replace(after.records[0], walk=moved),))
    entries = told(before, after).readings[-1].pages[0].entries
    assert [entry.changes for entry in entries] == [(), (), ("RW 1 -> 0",), ()]


def test_a_page_is_compared_with_the_last_reading_of_the_same_address() -> None:
    readings = (pages(PAGE, PAGE), pages(0x60067), pages(PAGE & ~2, first=1))
    last = told(*readings).readings[-1]
    assert last.since == 1
    assert last.pages[0].entries[-1].changes == ("RW 1 -> 0",)


def test_another_address_space_is_another_page() -> None:
    other = pages(PAGE & ~2, root=0x7000)
    assert told(pages(PAGE), other).readings[-1].since == 0


def test_other_readings_are_compared_line_by_line() -> None:
    first, second = (CommittedReading("committed", "vm_committed_as", pages=number) for number in (3, 4))
    seen = told(first, pages(PAGE), second).readings[-1]
    assert (seen.since, seen.lines, seen.lines_before) == (1, ("4 pages",), ("3 pages",))
    assert seen.changed


def test_pages_that_changed_are_told_first() -> None:
    many = telling.PAGES + 20
    before = pages(*[PAGE] * many)
    after = pages(*[PAGE] * (many - 1), PAGE & ~2)
    seen = told(before, after).readings[-1]
    assert seen.pages[-1].page == many - 1
    assert (len(seen.pages), seen.left_out) == (telling.PAGES, 20)


def test_a_story_is_bounded() -> None:
    readings = [pages(*[PAGE + (number << 12)] * 512) for number in range(20)]
    operations = tuple(Operation("x" * 10_000, "0", details="y" * 10_000) for _ in range(1000))
    comparison = compared("==", Column(range(10_000)), 1 << 40)
    story = tell("f" * 1_000_000, operations, readings, comparison, "c" * 1_000_000)
    assert len(json.dumps(plain(story))) < 160_000
    assert (story.operations_left_out, story.readings_left_out) == (
        1000 - telling.OPERATIONS,
        20 - telling.READINGS,
    )
    assert [seen.number for seen in story.readings] == [15, 16, 17, 18, 19, 20]


def test_the_end_of_the_console_is_kept() -> None:
    assert told(console="a" * 100_000 + "panic").console.endswith("panic")


def test_a_comparison_of_columns() -> None:
    left, right = Column([1, 2, 3], "refcounts"), Column([1, 3, 3], "refcounts")
    assert compared("==", left, right) == Comparison("==", "refcounts", "refcounts", ((1, "2", "3"),))


def test_a_comparison_with_a_number_or_a_tuple() -> None:
    entries = Column([0x10, 0x20], "entries", in_hex=True)
    assert compared("==", entries, 0x10) == Comparison("==", "entries", "", ((1, "0x20", "0x10"),))
    assert compared("==", (0x10,), entries) == Comparison("==", "", "entries", ((1, "", "0x20"),))


@pytest.mark.parametrize(("left", "right"), [(1, 2), ("a", Column([1])), (Column([1]), "a"), ([1], [2])])
def test_other_comparisons_are_left_to_pytest(left: object, right: object) -> None:
    assert compared("==", left, right) is None


def test_a_comparison_is_explained_page_by_page() -> None:
    left, right = Column(range(6), "mapcounts"), Column([0] * 6, "mapcounts")
    found = compared("==", left, right)
    assert found is not None
    lines = explained(found, left, right)
    assert lines[0] == "mapcounts[0, 1, 2, 3, 4, 5] == mapcounts[0 x6]"
    assert lines[1] == "page 1: 1 and 0"
    assert lines[-1] == "and 1 more"
