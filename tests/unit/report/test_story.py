from __future__ import annotations

import json

from hostwalk.report.story import Comparison, Entry, Operation, Seen, SeenPage, Story, plain, story_of

PTE = Entry(
    "pte",
    0x537BFB0,
    502,
    0x8400_0000_0345_D825,
    "leaf",
    0x345D000,
    ("P", "US"),
    0x8000_0000_0345_D867,
    ("RW 1 -> 0",),
)
EMPTY = Entry("pte", 0x537BFB8, 503, 0, "empty")
STORY = Story(
    "assert entries[0x1] == entries[0x2]",
    (Operation("subject 2: mmap(0, 0x1000)", "0x7ffff7ff5000", 0, "nr=1"),),
    (
        Seen(1, "vma of pid 82", lines=("a rw",)),
        Seen(
            2,
            "2 pages",
            1,
            (SeenPage(0, 0x7FFF_F7FF_5000, (PTE,), "4K", "pfn 1"), SeenPage(1, None, (EMPTY,))),
        ),
    ),
    Comparison("==", "entries", "entries", ((1, "0x84", "0x80"),), 3),
    "[    0.000000] Linux",
    4,
    1,
)


def test_a_story_survives_the_journey() -> None:
    assert story_of(json.loads(json.dumps(plain(STORY)))) == STORY


def test_a_story_without_anything_does_too() -> None:
    assert story_of(json.loads(json.dumps(plain(Story())))) == Story()


def test_entries_are_text_in_plain_data_for_readers_with_53_bits() -> None:
    entry = plain(STORY)["readings"][1]["pages"][0]["entries"][0]
    assert (entry["value"], entry["before"], entry["index"]) == (
        "0x840000000345d825",
        "0x800000000345d867",
        502,
    )


def test_what_has_changed() -> None:
    same = SeenPage(0, 0x1000, (EMPTY,), frame="refcount 1", frame_before="refcount 1")
    other = SeenPage(0, 0x1000, (EMPTY,), frame="refcount 2", frame_before="refcount 1")
    assert not Seen(2, "t", 1, (same,)).changed
    assert Seen(2, "t", 1, (same, other)).changed
    assert Seen(2, "t", 1, (SeenPage(0, 0x1000, (PTE,)),)).changed
    assert Seen(2, "t", 1, lines=("b",), lines_before=("a",)).changed
    assert not Seen(2, "t", 0, lines=("b",)).changed
