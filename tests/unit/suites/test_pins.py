"""Which page frames a leak names, and as whose."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from hostwalk.suites import pins
from hostwalk.suites.pins import NAMED, Pins, leaked, settled


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setattr(pins, "owners", lambda _moment, pfns: {pfn: f"owner of {pfn:#x}" for pfn in pfns})
    return SimpleNamespace(machine=SimpleNamespace(stopped=nullcontext), moment=lambda: None)


def test_frames_with_more_pins_than_before_are_named_with_their_owners(cell: SimpleNamespace) -> None:
    before, after = Pins(3, {0x10: 2, 0x11: 1}), Pins(9, {0x10: 5, 0x11: 1, 0x20: 3})
    assert leaked(cell, before, after) == "pfn 0x10 (3), owner of 0x10; pfn 0x20 (3), owner of 0x20"


def test_of_many_frames_the_first_are_named_and_the_others_counted(cell: SimpleNamespace) -> None:
    words = leaked(cell, Pins(0, {}), Pins(12, dict.fromkeys(range(12), 1))).split("; ")
    assert len(words) == NAMED + 1
    assert words[-1] == f"and {12 - NAMED} more"


def test_a_count_that_no_frame_shows_is_said_to_be_one(cell: SimpleNamespace) -> None:
    assert leaked(cell, Pins(2, {0x10: 2}), Pins(1, {0x10: 1})) == "none of the page frames shows it"


@pytest.mark.parametrize(
    ("counts", "wanted", "found"),
    [
        ([7, 7, 3], 3, Pins(3, {})),
        ([2], 3, Pins(2, {})),
        ([7], 3, Pins(7, {0x10: 4})),
    ],
    ids=["released late", "fewer", "never"],
)
def test_frames_are_looked_for_once_and_only_where_pins_stay(
    cell: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    counts: list[int],
    wanted: int,
    found: Pins,
) -> None:
    left, seen = list(counts), []

    def frames(moment: object) -> dict[int, int]:
        seen.append(moment)
        return {0x10: 4}

    cell.moment = lambda: SimpleNamespace(linux=None)
    cell.settle = lambda: None
    monkeypatch.setattr(pins, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(pins, "counted", lambda _linux: left.pop(0) if len(left) > 1 else left[0])
    monkeypatch.setattr(pins, "pinned_frames", frames)
    assert settled(cell, wanted) == found  # type: ignore[arg-type]
    assert len(seen) == len(found.frames)


def linux(host: int) -> SimpleNamespace:
    members = {("struct address_space", "host"): host, ("struct inode", "i_ino"): 77}
    return SimpleNamespace(member=lambda _address, kind, name: members[kind, name])


@pytest.mark.parametrize(
    ("page", "host", "said"),
    [
        ({"type": "slab"}, 0, "a page of the kernel's (slab)"),
        ({"anon": True, "mapping": 0x1001}, 0, "anonymous memory"),
        ({}, 0, "a page of nothing"),
        ({"mapping": 0x2000}, 0x3000, "the page cache of inode 77"),
        ({"mapping": 0x2000}, 0, "a page cache"),
    ],
)
def test_what_no_process_maps_is_told_by_its_use(page: dict[str, object], host: int, said: str) -> None:
    given = {"type": "", "anon": False, "mapping": 0} | page
    assert pins._kernel_use(linux(host), SimpleNamespace(**given)) == said  # type: ignore[arg-type]
