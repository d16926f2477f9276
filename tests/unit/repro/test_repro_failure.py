"""The same failure, not any failure."""

from __future__ import annotations

import pytest

from hostwalk.column import Column
from hostwalk.errors import Evidence, GuestCrashError, GuestHungError
from hostwalk.guest.failures import OutcomeError
from hostwalk.machine.reports import Report
from hostwalk.repro.failure import CheckFailed, Failure, compared, failure_of
from hostwalk.witness import WarnedError

PFNS = Column((0x5000, -1), "pfns", in_hex=True)


@pytest.mark.parametrize(
    ("op", "left", "right", "seen"),
    [
        ("==", Column((2, 1, 2)), 1, ("2 == 1",)),
        ("==", Column((2, 3)), (1, 1), ("2 == 1", "3 == 1")),
        ("==", Column((1, 1)), Column((1,)), ("1 == None",)),
        ("==", (Column((0, 1, 1)), Column((0, 0)), 4), (0, 0, 5), ("1 == 0", "4 == 5")),
        ("==", PFNS, (0x5001, -1), ("… == …",)),
        ("==", PFNS, -1, ("… == -1",)),
        ("!=", PFNS, PFNS, ("-1 != -1", "… != …")),
        ("not in", "VM_LOCKED", frozenset({"VM_LOCKED", "VM_READ"}), ("'VM_LOCKED' not in …",)),
        ("==", 0x7F0000001000, 3, ("… == 3",)),
        ("==", "EINVAL", None, ("'EINVAL' == None",)),
        ("<", 3, 2, ("3 < 2",)),
        ("", False, None, ("False",)),
    ],
)
def test_how_a_comparison_failed(op: str, left: object, right: object, seen: tuple[str, ...]) -> None:
    assert compared(op, left, right) == seen


def test_fewer_pages_are_the_same_failure_other_values_are_another() -> None:
    four = CheckFailed("a == b", "==", Column((2,) * 4), Column((1,) * 4)).failure
    one = CheckFailed("a == b", "==", Column((2,)), Column((1,))).failure
    other = CheckFailed("a == b", "==", Column((3,)), Column((1,))).failure
    assert four.same(one)
    assert not four.same(other)
    assert not four.same(Failure("refuses", four.what, four.seen))


def test_outcomes_of_blocks() -> None:
    failure = failure_of(OutcomeError("mlock(0x7f00, 4096)", "EAGAIN", "failed with ENOMEM"))
    assert failure == Failure("refuses", "EAGAIN", ("failed with ENOMEM",))
    first, second = (
        OutcomeError("load", "SIGBUS", f"ended with SIGSEGV (X) at {at:#x}") for at in (1 << 40, 1 << 41)
    )
    assert failure_of(first) == failure_of(second)
    assert failure_of(first).kind == "faults"  # type: ignore[union-attr]


def test_reports_of_the_kernel_are_compared_without_numbers() -> None:
    text = "WARNING: CPU: {0} PID: {0} at mm/gup.c:{1} try_grab_folio+0x{0}f/0x1a0"
    same = [failure_of(WarnedError(Report("warning", text.format(n, 155), "", fatal=False))) for n in (1, 2)]
    assert (
        same[0]
        == same[1]
        != failure_of(WarnedError(Report("warning", "WARNING: at mm/mmap.c:1", "", fatal=False)))
    )
    crash = GuestCrashError(
        "x", evidence=Evidence(report="BUG: kernel NULL pointer dereference, address: 0000000000000008")
    )
    assert failure_of(crash) == Failure("crash", "oops: BUG: kernel NULL pointer dereference, address: …")


def test_what_proves_nothing_is_no_failure() -> None:
    assert failure_of(GuestHungError("x")) is None
    assert failure_of(None) is None
