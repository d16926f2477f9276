from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hostwalk.report import terminal
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.target import matrix


def shown(
    run: Run, *, width: int = 100, encoding: str = "utf-8", colour: bool = False, verbose: bool = False
) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    console = Console(file=file, width=width, highlight=False, markup=False, force_terminal=colour)
    terminal.show(run, console, verbose=verbose)
    file.seek(0)
    return file.read()


def test_a_cell_for_each_target(run: Run) -> None:
    text = shown(run)
    assert "x86_64  arm64" in text
    row = next(line for line in text.splitlines() if line.startswith("  gup.ref.1"))
    assert row.split()[-2:] == ["✔", "✘"]


def test_pages_head_their_claims(run: Run) -> None:
    lines = shown(run).splitlines()
    assert lines.index("get_user_pages(9)") < lines.index("vm_insert_page(9)")


def test_what_was_booted(run: Run) -> None:
    assert "6.12.1, boot 3fa8, QEMU 7.2, tcg: asked for" in shown(run)


def test_a_broken_claim_is_explained(run: Run) -> None:
    text = shown(run)
    assert "✘ gup.ref.1 broken on arm64-48bit/debian:6.12" in text
    assert "    witness: 3 pages [red]!\n" in text
    assert "      pte 0x8000000001234567 present\n" in text
    assert "    again: hostwalk check --arch arm64 -k gup.ref.1\n" in text


def test_a_broken_claim_says_what_of_the_sentence_was_tested(run: Run) -> None:
    told = replace(run, results=(replace(run.results[1], reading="The second page."),))
    assert shown(told).count("    tested: The second page.\n") == 1
    assert "tested:" not in shown(run)


def test_the_table_says_it_when_asked(run: Run) -> None:
    told = replace(run, results=(replace(run.results[0], reading="The second page."),))
    assert "tested:" not in shown(told)
    assert "tested: The second page." in shown(told, verbose=True)


def test_an_unproven_claim_says_why(run: Run) -> None:
    assert "    agent: no answer in 10 s\n" in shown(run)


def test_the_same_reason_is_given_once(run: Run) -> None:
    assert shown(run).count("needs CONFIG_X") == 1


def test_a_departure_is_cited_with_its_target(run: Run) -> None:
    assert '~ insert.1 departs, as known (x86_64): commit 0123abc ("mm: x")' in shown(run)


def test_totals_come_last(run: Run) -> None:
    last = shown(run).splitlines()[-1]
    assert last.split("   ") == [
        "✔ 1 kept", "✘ 1 broken", "? 1 unproven", "~ 1 departs", "\N{EN DASH} 2 n/a", "in 12 s, seed 4711",
    ]  # fmt: skip


def test_sabotage_is_found_or_missed(run: Run) -> None:
    text = shown(replace(run, sabotage=True))
    assert "1 found" in text
    assert "1 missed" in text
    assert "kept" not in text


def test_an_encoding_without_signs(run: Run) -> None:
    text = shown(run, encoding="latin-1")
    assert "+ 1 kept   X 1 broken" in text
    assert text.isascii()


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 300])
def test_any_width(run: Run, width: int) -> None:
    text = shown(run, width=width)
    assert "again: hostwalk check --arch arm64 -k insert.1\n" in text


def test_no_colour_unless_asked_for(run: Run) -> None:
    assert "\x1b" not in shown(run)


def test_colour(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in shown(run, colour=True)


def test_many_targets_are_numbered() -> None:
    targets = matrix(kernels=("debian:6.1", "debian:6.12", "debian:6.12-rt"))
    results = tuple(Result("a.1", "p(2)", "S", target, Verdict.KEPT) for target in targets)
    text = shown(Run(results, targets), width=60)
    assert "1  2  3  4  5  6" in text
    assert "  6: arm64-48bit/debian:6.12-rt" in text


def test_the_worst_of_several_results_fills_the_cell(kept: Run) -> None:
    twice = (*kept.results, replace(kept.results[0], verdict=Verdict.BROKEN))
    row = next(line for line in shown(replace(kept, results=twice)).splitlines() if "  gup.ref.1" in line)
    assert row.split()[-1] == "✘"


def test_nothing_judged(kept: Run) -> None:
    assert shown(replace(kept, results=())).splitlines()[-1] == "nothing was judged"


def test_one_cause_is_told_once(run: Run) -> None:
    target = run.targets[0]
    results = tuple(
        Result(
            f"a.{number}", "p(2)", "S", target, Verdict.UNPROVEN, reason="resolve: no kernel 9",
            detail="resolve: no kernel 9\n  remedy: use 6.12", rerun=f"hostwalk check --arch x -k a.{number}",
        )
        for number in range(70)
    )  # fmt: skip
    assert shown(replace(run, results=results, targets=(target,))).splitlines()[-6:] == [
        "? 70 claims unproven on x86_64-4level/debian:6.12",
        "    resolve: no kernel 9",
        "      remedy: use 6.12",
        "    again: hostwalk check --arch x",
        "",
        "? 70 unproven   in 12 s, seed 4711",
    ]


def test_what_is_broken_alike_is_still_told_apart(run: Run) -> None:
    results = tuple(replace(run.results[1], claim_id=name) for name in ("a.1", "a.2"))
    assert shown(replace(run, results=results)).count("witness: 3 pages") == 2
