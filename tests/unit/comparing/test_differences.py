from __future__ import annotations

import pytest
from runs import observed

from hostwalk.comparing.differences import Difference, costs, new_lines, states
from hostwalk.observed import Observed, Seen


def pages(*flags: str) -> Observed:
    return Observed((Seen("2 pages", (("page flags", tuple((text, 1) for text in flags)),)),))


def test_the_same_differs_in_nothing() -> None:
    same = observed()
    assert (states(same, same), costs(same, same), new_lines(same, same)) == ((), (), ())


def test_only_the_pages_that_changed() -> None:
    before, after = pages("lru", "lru", "lru", "lru"), pages("lru", "dirty lru", "dirty lru", "dirty")
    assert states(before, after) == (
        Difference("page flags", "lru", "dirty lru", "reading 1, 2 pages, [1-2]"),
        Difference("page flags", "lru", "dirty", "reading 1, 2 pages, [3]"),
    )


def test_how_a_column_is_cut_into_runs_is_no_difference() -> None:
    once = Observed((Seen("2 pages", (("refcount", (("1", 2),)),)),))
    twice = Observed((Seen("2 pages", (("refcount", (("1", 1), ("1", 1))),)),))
    assert states(once, twice) == ()


def test_pages_that_only_one_side_has() -> None:
    (change,) = states(pages("lru"), pages("lru", "lru"))
    assert (change.before, change.after, change.delta) == ("not there", "lru", "not there -> lru")


def test_another_thing_was_read() -> None:
    (change,) = states(observed(), Observed((Seen("mm"),)))
    assert (change.field, change.delta) == ("what was read", "4 pages -> mm")


def test_fewer_readings_count_only_where_the_claim_ended_alike() -> None:
    before, after = observed(readings=3), observed(readings=1)
    assert [change.delta for change in states(before, after)] == ["-2"]
    assert states(before, after, complete=False) == ()


@pytest.mark.parametrize(
    ("field", "before", "after", "delta"),
    [
        ("refcount", "1", "3", "+2"),
        ("minor faults", "10", "9", "-1"),
        ("entry", "present young", "dirty present", "+dirty -young"),
        ("page flags", "none", "lru", "+lru"),
        ("level", "pte mapped", "pmd mapped", "pte mapped -> pmd mapped"),
    ],
)
def test_the_change_alone(field: str, before: str, after: str, delta: str) -> None:
    assert Difference(field, before, after).delta == delta


def test_a_cost_that_one_side_could_not_tell_is_no_change() -> None:
    assert costs(observed(faults=2), Observed()) == ()
    assert [change.delta for change in costs(observed(faults=2), observed(faults=5))] == ["+3"]


def test_lines_that_are_new() -> None:
    before, after = observed(printed=("old",)), observed(printed=("WARNING at mm/gup.c", "old"))
    assert new_lines(before, after) == ("WARNING at mm/gup.c",)
