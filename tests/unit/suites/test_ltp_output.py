"""What LTP's tests print, of its three libraries, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostwalk.suites.ltp_output import judged, parse
from hostwalk.suites.outcome import Ending, Outcome, Result

NEW = """\
tst_test.c:1890: TINFO: Overall timeout per run is 0h 05m 00s
mmap14.c:63: TPASS: mmap() with MAP_LOCKED
mmap14.c:70: \x1b[1;31mTFAIL: \x1b[0mVmLck is 12: EINVAL (22)
mmap14.c:80: TCONF: no huge pages
mmap14.c:81: TWARN: odd

Summary:
passed   1
failed   1
broken   0
skipped  1
warnings 1
"""
OLD = """\
page01      0  TINFO  :  allocates
page01      1  TPASS  :  Test passed
page01      2  TBROK  :  page01.c:40: malloc failed: errno=ENOMEM(12)
"""
SHELL = """\
vma05 1 TINFO: timeout per run is 0h 5m 0s
vma05 1 TCONF: 'gdb' not found

Summary:
passed   0
failed   0
broken   0
skipped  1
warnings 0
"""


def brief(results: tuple[Result, ...]) -> list[tuple[str, Outcome, str]]:
    return [(result.name, result.outcome, result.reason) for result in results]


def test_lines_of_the_new_library_are_results() -> None:
    assert brief(judged("ltp mm / mmap14", NEW, Ending(1 | 4))) == [
        ("ltp mm / mmap14", Outcome.PASS, ""),
        ("ltp mm / mmap14 / mmap14.c:70", Outcome.FAIL, "VmLck is 12: EINVAL (22)"),
        ("ltp mm / mmap14 / mmap14.c:80", Outcome.SKIP, "no huge pages"),
        ("ltp mm / mmap14 / mmap14.c:81", Outcome.FAIL, "TWARN: odd"),
    ]


def test_lines_of_the_old_library_and_of_the_shell_s_are_too() -> None:
    assert brief(judged("t", OLD, Ending(2))) == [
        ("t", Outcome.PASS, ""),
        ("t / page01 2", Outcome.FAIL, "TBROK: page01.c:40: malloc failed: errno=ENOMEM(12)"),
    ]
    assert brief(judged("t", SHELL, Ending(32))) == [("t / vma05 1", Outcome.SKIP, "'gdb' not found")]


def test_passes_are_one_result_that_counts_them() -> None:
    said = "a.c:1: TPASS: one\na.c:2: TPASS: two\n"
    assert judged("t", said, Ending(0)) == (Result("t", Outcome.PASS, "2 checks", said),)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (1, "ended with status 1 (TFAIL), which no line explains"),
        (6, "ended with status 6 (TBROK, TWARN), which no line explains"),
        (64, "ended with status 64 (none of LTP), which no line explains"),
    ],
)
def test_a_bit_of_the_status_that_no_line_explains_is_a_failure(status: int, reason: str) -> None:
    passed, last = judged("t", "a.c:1: TPASS: one\n", Ending(status))
    assert passed.outcome is Outcome.PASS
    assert (last.outcome, last.reason) == (Outcome.FAIL, reason)


def test_a_summary_that_counts_otherwise_is_a_mismatch() -> None:
    said = NEW.replace("passed   1", "passed   3")
    assert brief(judged("t", said, Ending(5)))[-1] == (
        "t", Outcome.MISMATCH, "its summary has 3 TPASS, 1 lines",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (0, Outcome.PASS, ""),
        (32, Outcome.SKIP, "bye"),
        (1, Outcome.FAIL, "ended with status 1: bye"),
        (4, Outcome.FAIL, "ended with status 4: bye"),
        (139, Outcome.CRASH, "killed by SIGSEGV (before any result)"),
    ],
)
def test_without_a_line_the_status_decides(status: int, outcome: Outcome, reason: str) -> None:
    assert brief(judged("t", "hello\nbye\n", Ending(status))) == [("t", outcome, reason)]


def test_its_own_time_limit_is_a_time_out() -> None:
    said = "Test timeouted, sending SIGKILL!\ntst_test.c:1950: TBROK: Test killed! (timeout?)\n"
    assert brief(judged("t", said, Ending(2))) == [
        ("t / tst_test.c:1950", Outcome.TIMEOUT, "its own time was up (LTP_TIMEOUT_MUL)")
    ]


def test_a_kill_that_its_library_did_not_send_is_no_time_out() -> None:
    said = "tst_test.c:1950: TBROK: Test killed! (timeout?)\nhostwalk: out of memory: the bound was met\n"
    assert brief(judged("t", said, Ending(2))) == [
        (
            "t / tst_test.c:1950", Outcome.CRASH,
            "killed by SIGKILL before its time was up: out of memory: the bound was met",
        )
    ]  # fmt: skip


def test_what_broke_off_keeps_the_lines_before_it() -> None:
    said = "a.c:1: TPASS: one\na.c:9: TFAIL: two\n"
    outcomes = [result.outcome for result in judged("t", said, Ending(timeout=3.0))]
    assert outcomes == [Outcome.PASS, Outcome.FAIL, Outcome.TIMEOUT]
    crash = judged("t", said, Ending(crash="kernel BUG at mm/gup.c"))[-1]
    assert crash.reason == "the guest's kernel: kernel BUG at mm/gup.c (after a.c:9)"


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert parse(text).text == text
    assert judged("t", text, Ending(0))
