"""What the lines and the end of a program come to."""

from __future__ import annotations

import pytest

from hostwalk.suites.ktap import parse
from hostwalk.suites.outcome import Ending, Outcome, Result, judged

HEAD = "TAP version 13\n1..2\n"


def told(text: str, ending: Ending) -> list[tuple[str, str, str]]:
    return [(each.name, each.outcome.value, each.reason) for each in judged("mm / x", parse(text), ending)]


def test_each_line_is_a_result() -> None:
    text = "TAP version 13\n1..5\nok 1 a\nnot ok 2 b\nok 3 c # SKIP no swap\nok 4 # XFAIL d\nnot ok 5 e # TODO later\n"
    assert told(text, Ending(1)) == [
        ("mm / x / a", "pass", ""),
        ("mm / x / b", "fail", ""),
        ("mm / x / c", "skip", "no swap"),
        ("mm / x / d", "xfail", ""),
        ("mm / x / e", "xfail", "later"),
    ]


@pytest.mark.parametrize(
    ("line", "outcome", "reason"),
    [
        ("not ok 1 a # TIMEOUT 45 seconds", Outcome.TIMEOUT, "45 seconds"),
        ("not ok 1 a # exit=139", Outcome.CRASH, "killed by SIGSEGV"),
        ("not ok 1 a # exit=1", Outcome.FAIL, "exit=1"),
        ("not ok 1 # error boom", Outcome.FAIL, "ERROR boom"),
        ("not ok 1 a # SKIP", Outcome.SKIP, ""),
        ("ok 1 a # TODO", Outcome.PASS, "TODO"),
        ("ok 1 a # WHATEVER it is", Outcome.PASS, "WHATEVER it is"),
    ],
)
def test_a_directive_decides(line: str, outcome: Outcome, reason: str) -> None:
    (result,) = judged("x", parse(f"1..1\n{line}\n"), Ending(None))
    assert (result.outcome, result.reason) == (outcome, reason)


def test_a_test_that_its_own_harness_ended_is_a_time_out() -> None:
    text = "1..1\n#  RUN  hmm.a ...\n# a: Test terminated by timeout\n#  FAIL  hmm.a\nnot ok 1 hmm.a\n"
    assert told(text, Ending(1)) == [
        ("mm / x / hmm.a", "time-out", "its own time was up (kselftest_harness.h)")
    ]


def test_a_plan_that_is_not_kept_is_told() -> None:
    assert told(f"{HEAD}ok 1 a\n", Ending(0))[1:] == [("mm / x", "plan mismatch", "2 planned, 1 ran")]
    assert told(f"{HEAD}ok 1 a\nok 2 b\n", Ending(0)) == [
        ("mm / x / a", "pass", ""),
        ("mm / x / b", "pass", ""),
    ]


def test_an_end_that_cuts_the_plan_short_is_told_instead() -> None:
    text = f"{HEAD}ok 1 a\n"
    assert told(text, Ending(139))[1:] == [("mm / x", "crash", "killed by SIGSEGV (after a)")]
    assert told(text, Ending(timeout=5))[1:] == [("mm / x", "time-out", "not ended within 5 s (after a)")]
    assert told(text, Ending(crash="Oops"))[1:] == [("mm / x", "crash", "the guest's kernel: Oops (after a)")]
    assert told(text, Ending(lost="no answer"))[1:] == [("mm / x", "unproven", "no answer (after a)")]
    assert told("", Ending(timeout=5)) == [("mm / x", "time-out", "not ended within 5 s (before any result)")]


def test_bail_out_fails() -> None:
    assert told(f"{HEAD}ok 1 a\nBail out! mmap\n", Ending(1))[1:] == [("mm / x", "fail", "Bail out! mmap")]
    assert told(f"{HEAD}ok 1 a\nok 2 b\nBail out! late\n", Ending(1))[2:] == [
        ("mm / x", "fail", "Bail out! late")
    ]


def test_a_bail_out_that_sums_up_failures_is_no_further_one() -> None:
    """mm/mkdirty.c of Linux 7.3 ends so, by ksft_exit_fail_msg()."""
    summed = f"{HEAD}not ok 1 a\nok 2 b\nBail out! 1 out of 2 tests failed\n"
    assert [outcome for _, outcome, _ in told(summed, Ending(1))] == ["fail", "pass"]


def test_a_failure_that_no_line_tells_is_not_lost() -> None:
    text = f"{HEAD}ok 1 a\nok 2 b\n"
    assert told(text, Ending(1))[2:] == [("mm / x", "fail", "ended with status 1, which no line explains")]
    assert told(f"{HEAD}ok 1 a\nnot ok 2 b\n", Ending(1))[2:] == []


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (0, Outcome.PASS, ""),
        (1, Outcome.FAIL, "ended with status 1: out of luck"),
        (2, Outcome.XFAIL, "out of luck"),
        (4, Outcome.SKIP, "out of luck"),
        (127, Outcome.FAIL, "ended with status 127: out of luck"),
        (134, Outcome.CRASH, "killed by SIGABRT (before any result)"),
        (None, Outcome.CRASH, "it printed no result, and how it ended is not known: out of luck"),
    ],
)
def test_without_a_line_the_status_decides(status: int | None, outcome: Outcome, reason: str) -> None:
    assert judged("x", parse("working\nout of luck\n"), Ending(status)) == (
        Result("x", outcome, reason, "working\nout of luck\n"),
    )


def test_a_skip_of_the_whole_has_its_reason() -> None:
    assert told("TAP version 13\n1..0 # SKIP no hugetlb\n", Ending(4)) == [("mm / x", "skip", "no hugetlb")]
    ours = "hostwalk: no bounds: this kernel has no cgroups\n"
    assert told(f"TAP version 13\n1..2\n# no hugetlb\n{ours}", Ending(4)) == [
        ("mm / x", "skip", "no hugetlb")
    ]


def test_a_parent_is_told_where_it_says_more_than_its_subtests() -> None:
    inner = "  KTAP version 1\n  1..1\n  ok 1 a\n"
    assert told(f"1..1\n{inner}ok 1 p\n", Ending()) == [("mm / x / p / a", "pass", "")]
    assert told(f"1..1\n{inner}not ok 1 p\n", Ending()) == [
        ("mm / x / p / a", "pass", ""),
        ("mm / x / p", "fail", ""),
    ]
    short = inner.replace("1..1", "1..3")
    assert told(f"1..1\n{short}ok 1 p\n", Ending())[1:] == [
        ("mm / x / p", "plan mismatch", "3 planned, 1 ran")
    ]


def test_a_result_keeps_what_was_printed_for_it() -> None:
    results = judged("x", parse(f"{HEAD}# why\nnot ok 1 a\nok 2 b\n"), Ending(1))
    assert [each.text for each in results] == [f"{HEAD}# why\nnot ok 1 a\n", "ok 2 b\n"]


@pytest.mark.parametrize(
    ("said", "ending", "outcome", "reason"),
    [
        (
            "hostwalk: ./t: exec format error: it is a program for arm64, this guest is x86_64\n", Ending(126),
            Outcome.FAIL,
            "ended with status 126: ./t: exec format error: it is a program for arm64, this guest is x86_64",
        ),
        (
            "./t: error while loading shared libraries: libaio.so.1: cannot open shared object file\n", Ending(127),
            Outcome.SKIP, "the guest has no libaio.so.1",
        ),
        (
            "fork: Try again\nline 2: hostwalk: the bound of 256 processes was met\n", Ending(timeout=5.0),
            Outcome.TIMEOUT, "not ended within 5 s (before any result): the bound of 256 processes was met",
        ),
        (
            "hostwalk: out of memory: the bound of 70 MiB was met, all its processes were killed\n", Ending(137),
            Outcome.CRASH,
            "killed by SIGKILL (before any result): out of memory: the bound of 70 MiB was met, all its processes "
            "were killed",
        ),
        ("write: no space\n", Ending(1), Outcome.FAIL, "ended with status 1: write: no space"),
    ],
)  # fmt: skip
def test_what_hostwalk_knows_of_an_end_is_in_the_reason(
    said: str, ending: Ending, outcome: Outcome, reason: str
) -> None:
    assert judged("x", parse(said), ending) == (Result("x", outcome, reason, said),)
