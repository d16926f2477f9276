from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from runs import BASE, PATCHED, observed, result
from runs import run as run_of

from hostwalk.comparing import run as comparing
from hostwalk.comparing.comparison import Comparison, Kind
from hostwalk.errors import (
    BootError,
    BuildError,
    BuildInterruptedError,
    FetchError,
    GuestCrashError,
    HostwalkError,
    Phase,
)
from hostwalk.options import CheckOptions
from hostwalk.report.model import Run, Verdict

Answer = Callable[[int], int]


class Fake:
    """Judges two claims; the faults of ``a.1`` are what ``faults`` says for each look."""

    def __init__(self, base: Answer, patched: Answer) -> None:
        self.faults = {BASE.kernel: base, PATCHED.kernel: patched}
        self.asked: list[CheckOptions] = []
        self.unproven = 0
        self.broken: frozenset[int] = frozenset()
        self.rebuilt = False

    def __call__(self, options: CheckOptions, _progress: object) -> Run:
        kernel = options.instead
        look = sum(asked.instead == kernel for asked in self.asked)
        self.asked.append(options)
        verdict = Verdict.UNPROVEN if look < self.unproven else Verdict.KEPT
        if kernel == PATCHED.kernel and look in self.broken:
            verdict = Verdict.BROKEN
        both = (
            result("a.1", verdict, observed(faults=self.faults[kernel](look)), kernel=kernel),
            result("b.1", seen=observed(), kernel=kernel),
        )
        found = run_of(*(each for each in both if not options.nodeids or each.nodeid in options.nodeids))
        digest = "4567" if self.rebuilt and look else "0123"
        return replace(found, identities=dict.fromkeys(found.identities, f"Linux ({digest}), tcg"))


def compare(fake: Fake, looks: int = 3) -> Comparison:
    options = CheckOptions(keyword="gup", shard="1/2")
    sides = [(side, replace(options, instead=side.kernel)) for side in (BASE, PATCHED)]
    return comparing.compare(sides[0], sides[1], looks=looks, run=fake)


def test_nothing_is_looked_at_again_where_nothing_changed() -> None:
    fake = Fake(lambda _look: 1, lambda _look: 1)
    assert compare(fake).changes == ()
    assert len(fake.asked) == 2


def test_a_tree_that_is_changed_meanwhile_is_not_two_kernels_in_one_comparison() -> None:
    fake = Fake(lambda _look: 1, lambda _look: 2)
    fake.rebuilt = True
    with pytest.raises(HostwalkError, match="was changed while it was compared") as caught:
        compare(fake)
    assert caught.value.exit_status == 3
    fake.rebuilt, fake.unproven = True, 1
    fake.asked.clear()
    with pytest.raises(HostwalkError, match="was changed while it was compared"):
        compare(fake)


def test_a_change_that_each_look_shows_counts() -> None:
    fake = Fake(lambda _look: 1, lambda _look: 2)
    found = compare(fake)
    assert ([change.kind for change in found.changes], found.unsteady) == ([Kind.COST], 0)
    assert len(fake.asked) == 6


def test_only_what_changed_is_looked_at_again_and_nothing_selects_besides() -> None:
    fake = Fake(lambda _look: 1, lambda _look: 2)
    compare(fake)
    again = fake.asked[-1]
    assert (len(again.nodeids), again.keyword, again.shard) == (1, "", "")
    assert "a.1" in again.nodeids[0]


def test_a_change_that_does_not_come_again_is_left_out_and_counted() -> None:
    found = compare(Fake(lambda _look: 1, lambda look: 2 if look == 0 else 1))
    assert (found.changes, found.unsteady, found.exit_status) == ((), 1, 0)


def test_looks_can_be_limited_to_one() -> None:
    fake = Fake(lambda _look: 1, lambda look: 2 if look == 0 else 1)
    assert len(compare(fake, looks=1).changes) == 1
    assert len(fake.asked) == 2


@pytest.mark.parametrize(("looks", "always"), [({0, 1, 2}, True), ({0}, False), ({0, 2}, False)])
def test_a_newly_broken_claim_counts_in_any_case_and_is_marked(looks: set[int], always: bool) -> None:
    fake = Fake(lambda _look: 1, lambda _look: 1)
    fake.broken = frozenset(looks)
    found = compare(fake)
    assert [(change.kind, change.always) for change in found.changes] == [(Kind.BROKEN, always)]
    assert (found.exit_status, found.unsteady) == (1, 0)


def test_what_is_unproven_gets_a_second_chance() -> None:
    fake = Fake(lambda _look: 1, lambda _look: 1)
    fake.unproven = 1
    found = compare(fake)
    assert (found.changes, found.pairs) == ((), 2)


def test_what_stays_unproven_is_told() -> None:
    fake = Fake(lambda _look: 1, lambda _look: 1)
    fake.unproven = 2
    found = compare(fake)
    assert ([change.kind for change in found.changes], found.exit_status) == ([Kind.UNPROVEN], 3)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BuildError("no rule"), 125),
        (BootError("silent"), 125),
        (GuestCrashError("panic", phase=Phase.BOOT), 125),
        (FetchError("no network"), 3),
        (BuildInterruptedError("killed"), 3),
        (GuestCrashError("panic"), 3),
    ],
)
def test_a_side_that_cannot_be_tested(
    monkeypatch: pytest.MonkeyPatch, error: HostwalkError, status: int
) -> None:
    def prepare(*_args: object) -> None:
        raise error

    monkeypatch.setattr(comparing, "prepare", prepare)
    with pytest.raises(HostwalkError) as caught:
        comparing.prove("patched", PATCHED, CheckOptions(archs=("x86_64",)), comparing.SILENT, None)  # type: ignore[arg-type]
    assert caught.value.exit_status == status
    assert status == 3 or "the patched side, v6.12 with fix.mbox, cannot be tested" in str(caught.value)
