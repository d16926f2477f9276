from __future__ import annotations

from collections.abc import Sequence

import pytest
from runs import BASE, PATCHED, comparison, observed, result, run

from hostwalk.comparing.comparison import Kind, compared, grouped
from hostwalk.report.compare.lines import summary
from hostwalk.report.model import Result, Run, Verdict

KEPT, BROKEN, NA, DEPARTS, UNPROVEN = (
    Verdict.KEPT, Verdict.BROKEN, Verdict.NOT_APPLICABLE, Verdict.DEPARTS, Verdict.UNPROVEN,
)  # fmt: skip


def after(verdict: Verdict = KEPT, **fields: str) -> Result:
    return result(verdict=verdict, kernel=PATCHED.kernel, **fields)


def kinds(before: Result, later: Result) -> list[Kind]:
    return [change.kind for change in comparison(before, later).changes]


def test_two_runs_that_are_alike() -> None:
    found = comparison(result(seen=observed()), result(kernel=PATCHED.kernel, seen=observed()))
    assert (found.changes, found.pairs, found.exit_status) == ((), 1, 0)


@pytest.mark.parametrize(
    ("before", "later", "kind", "status"),
    [
        (KEPT, BROKEN, Kind.BROKEN, 1),
        (NA, BROKEN, Kind.BROKEN, 1),
        (DEPARTS, BROKEN, Kind.BROKEN, 1),
        (BROKEN, KEPT, Kind.KEPT, 0),
        (DEPARTS, KEPT, Kind.VERDICT, 0),
        (KEPT, DEPARTS, Kind.VERDICT, 0),
        (NA, KEPT, Kind.VERDICT, 0),
        (KEPT, NA, Kind.VERDICT, 0),
        (KEPT, UNPROVEN, Kind.UNPROVEN, 3),
        (UNPROVEN, BROKEN, Kind.UNPROVEN, 3),
        (UNPROVEN, UNPROVEN, Kind.UNPROVEN, 3),
    ],
)
def test_another_verdict(before: Verdict, later: Verdict, kind: Kind, status: int) -> None:
    found = comparison(result(verdict=before), after(later))
    assert [change.kind for change in found.changes] == [kind]
    assert found.exit_status == status


def test_broken_before_and_after_is_no_change() -> None:
    assert (
        kinds(
            result(verdict=BROKEN, detail="refcounts[2] == [1]"), after(BROKEN, detail="refcounts[2] == [1]")
        )
        == []
    )


def test_another_failure_of_a_broken_claim() -> None:
    before = result(verdict=BROKEN, detail="the pages are not dirty")
    assert kinds(before, after(BROKEN, detail="the kernel warned")) == [Kind.FAILURE]


def test_addresses_make_no_other_failure() -> None:
    before = result(verdict=BROKEN, detail="pfn 0x1234 at 0x7f00 is wrong")
    assert kinds(before, after(BROKEN, detail="pfn 0x9abc at 0x7e00 is wrong")) == []


def test_a_reason_is_told_with_its_numbers() -> None:
    later = after(NA, reason="the sentence is about kernels >=6.12")
    (change,) = comparison(result(verdict=NA, reason="the sentence is about kernels >=6.2"), later).changes
    assert (change.kind, change.difference.before, change.difference.after) == (
        Kind.FAILURE, "the sentence is about kernels >=6.2", "the sentence is about kernels >=6.12",
    )  # fmt: skip


def test_a_new_line_of_the_kernel_makes_it_worse() -> None:
    later = result(kernel=PATCHED.kernel, seen=observed(printed=("WARNING at mm/gup.c:…",)))
    found = comparison(result(seen=observed()), later)
    assert [change.kind for change in found.changes] == [Kind.PRINTED]
    assert found.exit_status == 1


def test_a_line_that_is_gone_does_not() -> None:
    found = comparison(
        result(seen=observed(printed=("WARNING",))), result(kernel=PATCHED.kernel, seen=observed())
    )
    assert ([change.kind for change in found.changes], found.exit_status) == ([Kind.SILENT], 0)


def test_state_and_cost_without_another_verdict() -> None:
    later = result(kernel=PATCHED.kernel, seen=observed(flags="active lru", faults=9))
    found = comparison(result(seen=observed()), later)
    assert [(change.kind, change.difference.delta) for change in found.changes] == [
        (Kind.STATE, "+active"), (Kind.COST, "+6"),
    ]  # fmt: skip
    assert found.exit_status == 0


def test_a_claim_that_began_to_apply_has_no_state_to_compare() -> None:
    later = result(kernel=PATCHED.kernel, seen=observed(printed=("x",)))
    assert kinds(result(verdict=NA), later) == [Kind.VERDICT]


def test_a_claim_that_breaks_is_not_blamed_for_readings_it_never_took() -> None:
    before, later = (
        result(seen=observed(readings=3)),
        result(verdict=BROKEN, kernel="tree:/p", seen=observed()),
    )
    assert kinds(before, later) == [Kind.BROKEN]


def test_cells_are_paired_whatever_the_kernel_is_called() -> None:
    found = comparison(result(), after())
    assert (found.cells, found.pairs) == (("x86_64-4level",), 1)


def test_a_claim_on_one_side_only_is_not_compared() -> None:
    found = compared(
        BASE, PATCHED, run(result("a.1"), result("b.1")), run(result("a.1", kernel=PATCHED.kernel))
    )
    assert [(change.claim_id, change.kind) for change in found.changes] == [("b.1", Kind.UNPROVEN)]


def test_nothing_compared_proves_nothing() -> None:
    assert compared(BASE, PATCHED, Run((), ()), Run((), ())).exit_status == 3


def test_an_empty_part_passes() -> None:
    part = Run((), (), shard="3/5")
    found = compared(BASE, PATCHED, part, part)
    assert (found.exit_status, summary(found)) == (0, "no claim belongs to this part")
    assert compared(BASE, PATCHED, part, run(result("a.1"))).exit_status == 3


def many(names: Sequence[str], flags: str, kernel: str) -> Run:
    return run(*(result(name, seen=observed(flags=flags), kernel=kernel) for name in names))


def test_what_changed_alike_is_told_together() -> None:
    names = ("a.1", "b.1", "c.1")
    found = compared(BASE, PATCHED, many(names, "lru", "k"), many(names, "lru referenced", "l"))
    (alike,) = grouped(found.changes)
    assert (alike.field, alike.delta, alike.claims) == ("page flags", "+referenced", names)


def test_the_worst_comes_first() -> None:
    before = run(result("a.1", seen=observed()), result("b.1"))
    later = run(
        result("a.1", kernel=PATCHED.kernel, seen=observed(faults=1)),
        result("b.1", BROKEN, kernel=PATCHED.kernel),
    )
    assert [change.claim_id for change in compared(BASE, PATCHED, before, later).changes] == ["b.1", "a.1"]
