from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from hostwalk.comparing.comparison import Comparison, Side, compared
from hostwalk.observed import Observed, Seen
from hostwalk.report.compare import html, terminal, text
from hostwalk.report.compare import json as json_report
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.target import Arch, Target

BASE, PATCHED = Side("v6.12", "tree:/b"), Side("v6.12 with <fix>.mbox", "tree:/p")
AGAIN = "hostwalk compare --patch fix.mbox"


def seen(flags: str, faults: int, *printed: str) -> Observed:
    return Observed(
        (Seen("4 pages", (("page flags", ((flags, 4),)),)),), (("minor faults", faults),), printed
    )


def run(kernel: str, *results: tuple[str, Verdict, str, Observed]) -> Run:
    target = Target(Arch.X86_64, kernel)
    made = tuple(
        Result(
            claim, "gup(9)", "Pins <count>.", target, verdict, detail=detail, observed=observed, nodeid=claim,
            rerun=f"hostwalk check -k {claim}",
        )
        for claim, verdict, detail, observed in results
    )  # fmt: skip
    return Run(made, (target,), {target.name: f"Linux of {kernel}"}, 7, 1.0)


@pytest.fixture
def found() -> Comparison:
    """Something of each kind."""
    story = "\n".join(["refcounts[2] == [1]", *(f"line {number} [red]\x1b[31m" for number in range(30))])
    kept, other = seen("lru", 3), seen("active lru", 4, "WARNING: CPU: … at mm/gup.c")
    names = [f"page.{number}" for number in range(9)]
    before = run(
        "tree:/b", ("gup.ref.1", Verdict.KEPT, "", kept), *((name, Verdict.KEPT, "", kept) for name in names)
    )
    after = run(
        "tree:/p",
        ("gup.ref.1", Verdict.BROKEN, story, kept),
        *((name, Verdict.KEPT, "", other) for name in names),
    )
    return compared(BASE, PATCHED, before, after)


@pytest.fixture
def same() -> Comparison:
    kept = ("gup.ref.1", Verdict.KEPT, "", seen("lru", 3))
    return compared(BASE, PATCHED, run("tree:/b", kept), run("tree:/p", kept))


def shown(comparison: Comparison) -> str:
    file = io.StringIO()
    terminal.show(comparison, Console(file=file, width=80, highlight=False, markup=False))
    return file.getvalue()


def test_what_was_compared(same: Comparison) -> None:
    out = shown(same)
    assert "1 verdict compared on x86_64-4level" in out
    assert "base     v6.12: 1 kept" in out
    assert "x86_64-4level: Linux of tree:/p" in out
    assert out.splitlines()[-1] == "nothing changed"


def test_the_terminal_tells_the_worst_first(found: Comparison) -> None:
    lines = shown(found).splitlines()
    headings = [line for line in lines if line.endswith("):") and not line.startswith(" ")]
    assert headings == [
        "newly broken (1 claim):",
        "the kernel prints what it did not print before (9 claims):",
        "other state after the same operations (9 claims):",
        "other cost of the same operations (9 claims):",
    ]
    assert lines[-1] == "1 newly broken, 9 new console lines, 9 another state, 9 another cost"


def test_a_broken_claim_comes_with_its_story_and_its_command(found: Comparison) -> None:
    out = shown(found)
    assert "  gup.ref.1 on x86_64-4level: kept -> broken\n" in out
    assert "    refcounts[2] == [1]\n" in out
    assert "    … 19 more lines\n" in out
    assert "    again: hostwalk check -k gup.ref.1\n" in out
    assert "\x1b" not in out


def test_changes_of_one_cause_are_one_entry(found: Comparison) -> None:
    out = shown(found)
    assert out.count("  page flags: +active\n") == 1
    assert "page.0, page.1, page.2, page.3, page.4, page.5 and 3 more on x86_64-4level" in out
    assert "first: page.0, reading 1, 4 pages, [0-3]: lru -> active lru" in out


def test_a_mail_is_narrow_short_and_says_how_to_repeat_it(found: Comparison) -> None:
    mail = text.text(found, AGAIN)
    lines = mail.splitlines()
    assert (
        lines[0] == "hostwalk compare: 1 newly broken, 9 new console lines, 9 another state, 9 another cost"
    )
    assert lines[-2:] == ["To repeat:", f"  {AGAIN}"]
    assert all(len(line) <= 80 for line in lines[1:])
    assert len(lines) < 50
    assert "page.0, page.1, page.2, page.3 and 5 more" in mail


def test_a_mail_names_no_tree_that_its_readers_have_not(found: Comparison) -> None:
    assert "again: " not in text.text(found, AGAIN)
    stock = replace(found, patched=Side("debian:6.12", "debian:6.12"))
    assert "    again: hostwalk check -k gup.ref.1\n" in text.text(stock, AGAIN)


def test_left_out_changes_are_counted(same: Comparison) -> None:
    assert "nothing changed (2 changes left out: not seen again)" in text.text(
        replace(same, unsteady=2), AGAIN
    )


def test_nothing_compared_is_said() -> None:
    empty = compared(BASE, PATCHED, Run((), ()), Run((), ()))
    assert shown(empty).splitlines()[-1] == "nothing was compared"


def test_json(found: Comparison) -> None:
    document = json.loads(json_report.text(found, AGAIN))
    assert (document["schema"], document["version"], document["exit_status"]) == ("hostwalk.comparison", 1, 1)
    assert document["counts"]["newly broken"] == 1
    assert document["base"]["run"]["schema"] == "hostwalk.run"
    assert document["command"] == AGAIN
    state = next(change for change in document["changes"] if change["kind"] == "another state")
    assert (state["claim"], state["field"], state["before"], state["after"], state["delta"]) == (
        "page.0", "page flags", "lru", "active lru", "+active",
    )  # fmt: skip


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_whole_and_escaped(found: Comparison) -> None:
    source = html.text(found, AGAIN)
    page = Page()
    page.feed(source)
    assert page.open == []
    assert "v6.12 with <fix>.mbox" in page.text
    assert "<fix>" not in source
    assert "page flags: +active" in page.text
    assert "page.0 and 8 more" in page.text
    assert AGAIN in page.text
    assert "http" not in source
