"""The samples *-x86_64-* and *-arm64-* are consoles of real runs; others.txt is put together from kernel sources."""

from pathlib import Path

import pytest

from hostwalk.machine.reports import KINDS, Report, find_reports

SAMPLES = Path(__file__).parent / "samples"


def reports_in(name: str) -> tuple[Report, ...]:
    return find_reports((SAMPLES / f"{name}.txt").read_text())


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_a_panic_is_one_fatal_report(arch: str) -> None:
    (report,) = reports_in(f"panic-{arch}-6.12")
    assert (report.kind, report.fatal) == ("panic", True)
    assert report.title == "Kernel panic - not syncing: sysrq triggered crash"
    assert "sysrq_handle_crash+0x" in report.text
    assert "Kernel Offset: disabled" in report.text


@pytest.mark.parametrize("name", ["x86_64-6.12", "arm64-6.12", "x86_64-6.1", "arm64-6.1"])
def test_an_oops_is_cut_out_whole(name: str) -> None:
    (report,) = reports_in(f"oops-{name}")
    assert (report.kind, report.fatal, report.complete) == ("oops", True, True)
    assert "NULL pointer dereference" in report.title
    lines = report.text.splitlines()
    assert "NULL pointer dereference" in lines[0]
    assert "---[ end trace" in lines[-1]
    assert "hostwalk_ioctl+0x" in report.text


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_a_warning_is_not_fatal_and_carries_its_words(arch: str) -> None:
    (report,) = reports_in(f"warning-{arch}-6.12")
    assert (report.kind, report.fatal, report.complete) == ("warning", False, True)
    assert report.title.startswith("WARNING: CPU: 0 PID: ")
    assert report.title.endswith(": hostwalk: as asked")
    assert "cut here" in report.text.splitlines()[0]


EXPECTED = [
    ("kasan", True, "Memory state around"),
    ("kfence", True, "Out-of-bounds read"),
    ("kcsan", False, "write to"),
    ("ubsan", False, "shift exponent"),
    ("bad-page", True, "print_bad_pte"),
    ("bad-page", True, "rss-counter"),
    ("bad-page", True, "nonzero mapcount"),
    ("soft-lockup", True, "__x64_sys_ioctl"),
    ("rcu-stall", True, "el0_svc"),
    ("hung-task", True, "schedule+0x27"),
    ("lockdep", False, "check_noncircular"),
    ("bug", True, "Oops: invalid opcode"),
    ("oops", True, "non-canonical"),
    ("hard-lockup", True, "hostwalk_ioctl"),
    ("oops", True, "Oops - BUG"),
    ("panic", True, "end Kernel panic"),
]


def test_each_kind_is_found_whole_and_told_apart() -> None:
    reports = reports_in("others")
    assert [(report.kind, report.fatal) for report in reports] == [
        (kind, fatal) for kind, fatal, _ in EXPECTED
    ]
    for report, (kind, _, inside) in zip(reports, EXPECTED, strict=True):
        assert inside in report.text, kind
        assert report.complete, kind


def test_no_line_belongs_to_two_reports() -> None:
    lines = [line for report in reports_in("others") for line in report.text.splitlines()]
    assert len(lines) == len(set(lines))


def test_a_report_that_is_still_being_printed_is_not_complete() -> None:
    text = (SAMPLES / "oops-x86_64-6.12.txt").read_text()
    (report,) = find_reports(text[: text.index("Call Trace")])
    assert not report.complete


def test_a_panic_ends_an_unfinished_report() -> None:
    text = "[    1.0] BUG: KASAN: wild-access in f+0x1/0x2\n[    1.1] Kernel panic - not syncing: dead\n"
    assert [report.kind for report in find_reports(text)] == ["kasan", "panic"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[    1.366081] hostwalk: loading out-of-tree module taints kernel.",
        "[    0.020000] tsc: Unable to calibrate against PIT",
        "[    1.2] subject-1[82]: segfault at 0 ip 0 sp 0 error 4",
        "[    1.2] traps: subject-1[82] general protection fault ip:401000 sp:7ffc error:0 in init[401000+1000]",
        "[    1.2] x86/mm: Checked W+X mappings: passed, no W+X pages found.",
        "[    1.2] Disabling lock debugging due to kernel taint",
        "[    1.2] audit: the word BUG: in the middle, and Kernel panic - not syncing too",
    ],
)
def test_what_is_no_report(text: str) -> None:
    assert find_reports(text) == ()


def test_line_ends_and_missing_stamps_do_not_matter() -> None:
    (report,) = find_reports(
        "Kernel panic - not syncing: dead\r\n---[ end Kernel panic - not syncing: dead ]---\r\n"
    )
    assert report == Report(
        "panic",
        "Kernel panic - not syncing: dead",
        "Kernel panic - not syncing: dead\n---[ end Kernel panic - not syncing: dead ]---",
        True,
    )


def test_kinds_have_patterns_without_groups() -> None:
    assert not [kind.name for kind in KINDS if "(" in kind.start.replace("(?", "")]
