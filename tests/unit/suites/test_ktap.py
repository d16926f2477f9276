"""Reading what kernel tests print: levels, directives, broken ends, and that no line is lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hostwalk.suites.ktap import NO_NAME, Point, described, parse

EXAMPLE = """\
KTAP version 1
1..1
  KTAP version 1
  1..3
    KTAP version 1
    1..1
    # test_1: initializing test_1
    ok 1 test_1
  ok 1 example_test_1
    KTAP version 1
    1..2
    ok 1 test_1 # SKIP test_1 skipped
    ok 2 test_2
  ok 2 example_test_2
    KTAP version 1
    1..3
    ok 1 test_1
    # test_2: FAIL
    not ok 2 test_2
    ok 3 test_3 # SKIP test_3 skipped
  not ok 3 example_test_3
not ok 1 main_test
"""

RUNNER = """\
TAP version 13
1..3
# timeout set to 900
# selftests: mm: mkdirty
# TAP version 13
# 1..2
# # [INFO] detected THP size: 2048 KiB
# # [INFO] PTRACE write access
# ok 1 SIGSEGV generated, page not modified
# ok 2 # SKIP userfaultfd not supported
# # Totals: pass:1 fail:0 xfail:0 xpass:0 skip:1 error:0
ok 1 selftests: mm: mkdirty
# timeout set to 900
# selftests: mm: ksft_hmm.sh
ok 2 selftests: mm: ksft_hmm.sh # SKIP
# timeout set to 45
# selftests: mm: va_high_addr_switch
# Segmentation fault
not ok 3 selftests: mm: va_high_addr_switch # exit=139
"""


def names(tests: tuple[Point, ...]) -> list[str]:
    return [test.name for test in tests]


def test_the_example_of_ktap_rst_has_its_hierarchy() -> None:
    output = parse(EXAMPLE)
    (main,) = output.tests
    assert (main.name, main.ok, main.planned, output.planned) == ("main_test", False, 3, 1)
    assert names(main.subtests) == ["example_test_1", "example_test_2", "example_test_3"]
    assert [names(test.subtests) for test in main.subtests] == [
        ["test_1"],
        ["test_1", "test_2"],
        ["test_1", "test_2", "test_3"],
    ]
    skipped = main.subtests[1].subtests[0]
    assert (skipped.directive, skipped.why) == ("SKIP", "test_1 skipped")
    failed = main.subtests[2].subtests[1]
    assert output.of(failed) == "    # test_2: FAIL\n    not ok 2 test_2\n"


def test_what_runner_sh_prints_nests_by_number_signs() -> None:
    output = parse(RUNNER)
    assert names(output.tests) == [
        "selftests: mm: mkdirty",
        "selftests: mm: ksft_hmm.sh",
        "selftests: mm: va_high_addr_switch",
    ]
    first, second, third = output.tests
    assert names(first.subtests) == ["SIGSEGV generated, page not modified", "userfaultfd not supported"]
    assert (first.planned, output.planned) == (2, 3)
    assert (second.directive, second.why, second.subtests) == ("SKIP", "", ())
    assert (third.ok, third.why) == (False, "exit=139")
    assert "Segmentation fault" in output.of(third)


def test_every_line_is_in_one_test_or_behind_the_last() -> None:
    output = parse(RUNNER + "bye\n")
    spans = [test.lines for test in output.tests]
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert output.lines[spans[-1][1] :] == ("bye\n",)


def test_an_output_that_breaks_off_leaves_a_test_without_a_result() -> None:
    cut = RUNNER[: RUNNER.index("# ok 2 # SKIP")]
    (broken,) = parse(cut).tests
    assert (broken.name, broken.finished, broken.ok, broken.planned) == (
        "selftests: mm: mkdirty",
        False,
        False,
        2,
    )
    assert names(broken.subtests) == ["SIGSEGV generated, page not modified"]
    assert parse(cut).of(broken).endswith("page not modified\n")


def test_a_header_at_the_end_names_the_test_that_ran() -> None:
    output = parse(
        "TAP version 13\n1..2\n# selftests: mm: a\nok 1 selftests: mm: a\n# selftests: mm: b\n# working\n"
    )
    assert [(test.name, test.finished) for test in output.tests] == [
        ("selftests: mm: a", True),
        ("selftests: mm: b", False),
    ]


def test_noise_of_the_kernel_decides_nothing() -> None:
    noise = "[   12.3] BUG: soft lockup\n  ok 7 not a level of ours\n# ok 8 nor this\nok computer\n"
    text = f"TAP version 13\n1..1\n{noise}ok 1 x\n"
    output = parse(text)
    assert names(output.tests) == ["x"]
    assert output.of(output.tests[0]) == text


def test_bail_out_and_a_plan_that_skips_all() -> None:
    bailed = parse(
        "TAP version 13\n1..9\nok 1 a\nBail out! mmap() failed\n# Planned tests != run tests (9 != 1)\n"
    )
    assert (bailed.bailed, bailed.planned, len(bailed.tests)) == ("mmap() failed", 9, 1)
    assert parse("TAP version 13\n1..0 # SKIP no hugetlb pages\n").skipped == "no hugetlb pages"
    assert parse("ok 1 a\n").bailed is None


def test_what_follows_a_number() -> None:
    assert described("foo # SKIP no swap") == ("foo", "SKIP", "no swap")
    assert described("# SKIP no swap") == ("no swap", "SKIP", "no swap")
    assert described("a#b") == ("a#b", "", "")
    assert described("# XFAIL known") == ("known", "XFAIL", "known")
    assert described("x # TODO later") == ("x", "TODO", "later")
    assert described("selftests: mm: y # TIMEOUT 45 seconds") == ("selftests: mm: y", "TIMEOUT", "45 seconds")
    assert described("x # exit=1") == ("x", "", "exit=1")
    assert described("# error boom") == ("boom", "ERROR", "boom")
    assert parse("ok 1\n").tests[0].name == NO_NAME


def test_a_dash_before_the_name_is_tap_s() -> None:
    assert parse("1..1\nnot ok 1 - name\n").tests[0].name == "name"


PIECES = st.sampled_from(
    ["TAP version 13", "KTAP version 1", "1..2", "ok 1 a", "not ok 2 b # SKIP c", "# selftests: mm: d", "Bail out! e",
     "noise", "ok", "1..0 # SKIP", ""]
)  # fmt: skip
LINES = st.lists(st.tuples(st.sampled_from(["", "  ", "# ", "    ", "# # ", "  # "]), PIECES), max_size=30)


@settings(deadline=None)
@given(LINES, st.sampled_from(["\n", "\r\n"]))
def test_nothing_is_lost_whatever_the_order(lines: list[tuple[str, str]], end: str) -> None:
    text = end.join(prefix + piece for prefix, piece in lines)
    output = parse(text)
    assert output.text == text
    assert_partition(output.tests, (0, len(output.lines)))


def assert_partition(tests: tuple[Point, ...], within: tuple[int, int]) -> None:
    at = within[0]
    for test in tests:
        start, stop = test.lines
        assert at <= start < stop <= within[1]
        at = stop
        assert_partition(test.subtests, test.lines)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    assert parse(text).text == text
