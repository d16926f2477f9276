from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reader import Node, read

from hostwalk.report import html
from hostwalk.report.html.markup import differing, digits_differing, element, entry_digits
from hostwalk.report.html.matrix import numbered
from hostwalk.report.html.page import OPEN, TOLD
from hostwalk.report.html.reasons import TOLD as TOLD_UNPROVEN
from hostwalk.report.html.reasons import ranges
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.report.story import Comparison, Entry, Operation, Seen, SeenPage, Story
from hostwalk.target import Arch, Target, matrix

BEFORE, NOW = 0x8000_0000_0345_D867, 0x8400_0000_0345_D825
UPPER = (
    Entry("pgd", 0x54727F8, 255, 0x5402067, "table", 0x5402000, ("P", "RW"), 0x5402067),
    Entry("pmd", 0x5401DF8, 447, 0x537B067, "table", 0x537B000, ("P", "RW"), 0x537B067),
)
PTE = Entry("pte", 0x537BFB0, 502, NOW, "leaf", 0x345D000, ("P", "US"), BEFORE, ("RW 1 -> 0", "D 1 -> 0"))
SAME = Entry("pte", 0x537BFB8, 503, BEFORE, "leaf", 0x345E000, ("P", "RW", "US"), BEFORE)
PAGES = (
    SeenPage(
        0, 0x7FFF_F7FF_6000, (*UPPER, PTE), "4K rw", "pfn 0x345d refcount 2", "4K r-", "pfn 0x345d refcount 1"
    ),
    SeenPage(
        1,
        0x7FFF_F7FF_7000,
        (*UPPER, SAME),
        "4K rw",
        "pfn 0x345e refcount 1",
        "4K rw",
        "pfn 0x345e refcount 1",
    ),
)
STORY = Story(
    "assert <entries>",
    (
        Operation("subject 2: mmap(0, 0x2000)", "0x7ffff7ff6000", 0),
        Operation("subject 2: mprotect(<0>)", "0", 1, "nr=1"),
    ),
    (
        Seen(1, "2 pages"),
        Seen(2, "2 pages", 1, PAGES),
        Seen(3, "a vma", 2, (), ("a rw VM_LOCKED",), ("a rw",)),
    ),
    Comparison("==", "entries", "", ((0, "0x84", "0x80"),)),
    "[    1.0] <console>",
)


def broken(run: Run, **changes: object) -> Run:
    """Return the run with its broken claim told."""
    told = replace(run.results[1], story=STORY, **changes)  # type: ignore[arg-type]
    return replace(run, results=(run.results[0], told, *run.results[2:]), command="hostwalk check --matrix=x")


@pytest.fixture
def page(run: Run) -> Node:
    return read(html.text(broken(run)))


def section(page: Node, name: str) -> Node:
    return next(node for node in page.all("section") if node["id"] == name)


def rows(table: Node) -> list[list[str]]:
    return [[cell.text for cell in row.walk() if cell.tag in ("td", "th")] for row in table.all("tr")]


def marked(node: Node) -> list[str]:
    return [mark.text for mark in node.all("mark")]


def test_it_says_what_was_run_and_booted(page: Node, run: Run) -> None:
    header = page.all("header")[0].text
    for each in ("3 claims on 2 cells", "1 broken", "hostwalk check --matrix=x", "seed 4711"):
        assert each in header
    cells = rows(section(page, "cells"))
    assert cells[1] == [
        "1", "x86_64-4level/debian:6.12", "6.12.1, boot 3fa8, QEMU 7.2, tcg: asked for", "0", "0", "1", "1", "1",
    ]  # fmt: skip
    assert cells[2][3:] == ["1", "1", "0", "0", "1"]


def test_the_matrix_is_grouped_by_page_with_totals(page: Node) -> None:
    (table,) = page.all("table", "matrix")
    bodies = [rows(body) for body in table.all("tbody")]
    assert [body[0][0] for body in bodies] == ["get_user_pages(9)", "vm_insert_page(9)"]
    assert bodies[0][0][1:] == ["1", "✘1"]
    assert bodies[0][1] == ["gup.ref.1", "Sentence of gup.ref.1 & <more>", "✔", "✘"]
    assert bodies[1][1][2:] == ["~", "?"]


def test_the_head_names_what_tells_cells_apart() -> None:
    targets = (
        Target(Arch.X86_64), Target(Arch.ARM64), Target(Arch.X86_64, "debian:6.1"), Target(Arch.X86_64, cpus=2),
    )  # fmt: skip
    results = tuple(Result("a.1", "p(2)", "S", target, Verdict.KEPT) for target in targets)
    (table,) = read(html.text(Run(results, targets))).all("table", "matrix")
    assert rows(table.all("thead")[0]) == [
        ["arch", "x86_64", "arm64"],
        ["kernel", "debian:6.12", "debian:6.1", "debian:6.12"],
        ["format", "4level", "4level", "48bit"],
        ["processors", "1", "2", "1", "1"],
        ["cell", "1", "2", "3", "4"],
    ]
    assert [cell["colspan"] for cell in table.all("thead")[0].all("tr")[0].all("th")] == ["2", "3", "1"]
    assert list(numbered(targets)) == [targets[0], targets[3], targets[2], targets[1]]


def test_a_broken_claim_is_told_in_order(page: Node) -> None:
    told = section(page, "broken").all("div", "told")[0]
    text = told.text
    expected = (
        "get_user_pages(9)", "Sentence of gup.ref.1 & <more>", "assert <entries>",
        "hostwalk check --arch arm64 -k gup.ref.1", "test_gup.py:7", "mmap(0, 0x2000)", "reading 1",
        "mprotect(<0>)", "reading 2", "Reading 3", "Reading 2", "Reading 1", "[    1.0] <console>",
    )  # fmt: skip
    places = [text.index(each) for each in expected]
    assert places == sorted(places)


def test_every_level_is_drawn_once(page: Node) -> None:
    (table,) = page.all("table", "walk")
    drawn = [row for row in rows(table)[1:] if len(row) == 7]
    assert [row[1] for row in drawn] == ["pgd", "pmd", "pte", "pte"]
    assert drawn[0][2:6] == ["0x54727f8", "255", "0000000005402067", "0x5402000"]
    assert [row[0] for row in drawn] == ["", "", "0", "1"]


def test_differing_bits_are_marked(page: Node) -> None:
    (table,) = page.all("table", "walk")
    entries = {row.all("code", "e")[0].text: marked(row) for row in table.all("tr") if row.all("code", "e")}
    assert entries["840000000345d825"] == ["4", "2", "5", "RW 1 → 0", "D 1 → 0"]
    assert entries["0000000005402067"] == []
    assert [marked(row) for row in table.all("tr", "before")] == [["0", "6", "7"]]
    means = [marked(row) for row in table.all("tr", "means")]
    assert means == [["r-", "rw"], ["1", "2"], [], []]


def test_other_readings_mark_words(page: Node) -> None:
    pre = next(pre for pre in page.all("pre") if "VM_LOCKED" in pre.text)
    assert pre.text.split("\n")[:2] == ["before a rw", "now    a rw VM_LOCKED"]
    assert marked(pre) == ["VM_LOCKED"]


def test_both_sides_of_a_comparison_are_marked(page: Node) -> None:
    (table,) = page.all("table", "sides")
    assert rows(table) == [["page", "entries, left of ==", "right of =="], ["0", "0x84", "0x80"]]
    assert marked(table) == ["4", "0"]


def test_a_crash_is_told_by_its_report(run: Run) -> None:
    crashed = broken(run, crashed=True, reason="the guest kernel crashed", detail="Oops: <0000>")
    told = section(read(html.text(crashed)), "broken").text
    assert "the guest kernel crashed" in told
    assert "Oops: <0000>" in told
    assert "assert <entries>" not in told


def test_reasons_are_given_once_with_their_claims(page: Node) -> None:
    assert rows(section(page, "Not-applicable")) == [["gup.ret.2", "needs CONFIG_X # yes"]]
    assert rows(section(page, "Departures")) == [["insert.1 on 1", 'commit 0123abc ("mm: x")']]
    ((claim, why),) = rows(section(page, "Unproven"))
    assert claim == "insert.1 on 2"
    assert why.startswith("agent: no answer in 10 s")
    assert "hostwalk check --arch arm64 -k insert.1" in why


def test_what_was_done_before_the_infrastructure_failed_is_told_once_for_each_cause(run: Run) -> None:
    lost = replace(run.results[5], story=STORY, detail="agent: no answer\n  remedy: wait")
    causes = [replace(lost, claim_id=f"a.{n}", reason=f"cause {n % 80}") for n in range(160)]
    page = read(html.text(replace(run, results=tuple(causes))))
    table = section(page, "Unproven").all("table", "reasons")[0]
    assert [
        len(row.all("th")[0].all("code")) for row in table.children[0].children if isinstance(row, Node)
    ] == [2] * 80
    assert len(table.all("ol", "course")) == TOLD_UNPROVEN
    assert "remedy: wait" in table.text


def test_links_lead_somewhere_and_ids_are_unique(run: Run) -> None:
    page = read(html.text(broken(run)))
    ids = [node["id"] for node in page.walk() if node["id"]]
    assert len(ids) == len(set(ids))
    links = [node["href"] for node in page.all("a")]
    assert links
    assert not [link for link in links if not link or link[1:] not in ids]


def test_it_stands_alone(run: Run) -> None:
    text = html.text(broken(run))
    page = read(text)
    loading = {"src", "srcset", "data", "action", "poster", "background", "xlink:href"}
    assert not [node for node in page.walk() if loading & node.attributes.keys()]
    assert not [
        node for node in page.walk() if node.tag in ("link", "iframe", "img", "object", "embed", "base")
    ]
    assert not re.search(r"@import|url\(|https?:|//[a-z]", text)
    (policy,) = [meta["content"] for meta in page.all("meta") if meta["http-equiv"]]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_keyboard_reaches_what_scrolls(page: Node) -> None:
    regions = [node for node in page.walk() if node["role"] == "region"]
    assert regions
    assert all(node["tabindex"] == "0" and node["aria-label"] for node in regions)
    assert all(node["aria-label"] for node in page.all("input") if node["type"] == "search")


HOSTILE = "</script><script>alert(1)</script><!-- ' \" & \x1b[31m\x00 ]]>"


def test_hostile_text_stays_text(run: Run) -> None:
    story = replace(
        STORY, failure=HOSTILE, console=HOSTILE, operations=(Operation(HOSTILE, HOSTILE, 0, HOSTILE),),
        readings=(Seen(1, HOSTILE, 0, (SeenPage(0, 1, (Entry(HOSTILE, 1, 1, 1, HOSTILE),), HOSTILE, HOSTILE),)),),
        comparison=Comparison(HOSTILE, HOSTILE, HOSTILE, ((1, HOSTILE, HOSTILE),)),
    )  # fmt: skip
    texts = dict.fromkeys(("claim_id", "page", "sentence", "reason", "detail", "rerun", "where"), HOSTILE)
    results = tuple(
        Result(target=run.targets[0], verdict=verdict, story=story, **texts)  # type: ignore[arg-type]
        for verdict in Verdict
    )
    text = html.text(
        replace(run, results=results, identities={run.targets[0].name: HOSTILE}, command=HOSTILE)
    )
    page = read(text)
    assert len(page.all("script")) == 1
    assert "\x1b" not in text
    assert "\x00" not in text


@given(st.text(st.characters()))
def test_any_text_is_escaped(words: str) -> None:
    node = read(html.markup.ET.tostring(element("p", words, title=words), encoding="unicode", method="html"))
    (paragraph,) = node.all("p")
    assert [child for child in paragraph.children if isinstance(child, Node)] == []


def test_a_run_of_the_full_size_stays_small() -> None:
    targets = matrix(("x86_64", "arm64"), tuple(f"debian:6.{n}" for n in range(9)))
    results = tuple(
        Result(
            f"claim.number.{n}",
            f"page{n // 20}(2)",
            "A sentence of some seventy characters. " * 2,
            t,
            Verdict.KEPT,
        )
        for t in targets
        for n in range(542)
    )
    text = html.text(Run(results, targets))
    assert len(text) < 600_000
    assert text.count("✔") > 18 * 542


def test_a_run_in_which_everything_is_broken_stays_bounded(run: Run) -> None:
    results = tuple(
        replace(run.results[1], claim_id=f"claim.{n}", detail="x" * 50_000, story=STORY) for n in range(2000)
    )
    text = html.text(replace(run, results=results))
    page = read(text)
    assert len(page.all("div", "told")) == TOLD
    assert len(text) < 4_000_000
    assert text.count('id="broken-claim.') >= 2000
    assert f"{2000 - TOLD} more, in short" in page.text


@pytest.mark.parametrize(("number", "open_"), [(OPEN, True), (OPEN + 1, False)])
def test_a_few_broken_claims_are_unfolded(run: Run, number: int, open_: bool) -> None:
    results = tuple(replace(run.results[1], claim_id=f"claim.{n}") for n in range(number))
    page = read(html.text(replace(run, results=results)))
    assert [node["open"] is not None for node in page.all("details", "claim")] == [open_] * number


def test_nothing_judged(kept: Run) -> None:
    assert "Nothing was judged." in read(html.text(replace(kept, results=()))).text


def test_nothing_broken_has_no_section(kept: Run) -> None:
    page = read(html.text(kept))
    assert [node["id"] for node in page.all("section")] == ["cells", "matrix"]


def test_sabotage_is_missed(run: Run) -> None:
    page = read(html.text(replace(run, sabotage=True)))
    assert section(page, "broken").all("h2")[0].text == "Missed"


@pytest.mark.parametrize(
    ("numbers", "text"), [((1, 2, 3, 7), "1\N{EN DASH}3, 7"), ((5,), "5"), ((2, 1, 2), "1\N{EN DASH}2")]
)
def test_ranges(numbers: tuple[int, ...], text: str) -> None:
    assert ranges(numbers) == text


def parts(children: list[object]) -> list[str]:
    """Return text, with what is marked in brackets."""
    return "".join(
        each if isinstance(each, str) else f"[{each.text}]"  # type: ignore[attr-defined]
        for each in children
        if each is not None
    )


def test_marks() -> None:
    assert parts(differing("a b c", "a x c")) == "a [b] c"
    assert parts(differing("a b c", "a c")) == "a [b] c"
    assert parts(differing("all else", "nothing of it")) == "all else"
    assert parts(digits_differing("0x12", "0x2")) == "[0][x][1]2"
    assert parts(digits_differing("2", "10")) == "[2]"
    assert "".join(entry_digits(0, 1).itertext()) == "0" * 16
