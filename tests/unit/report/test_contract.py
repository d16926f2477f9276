"""The written contract: how it reads, and that the one in docs/ is about the claims that there are."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from hostwalk import resources
from hostwalk.claim import Claim
from hostwalk.report import contract
from hostwalk.report.contract import PLACE, booted, escaped
from hostwalk.report.model import Result, Run, Verdict

COMMITTED = Path(__file__).parents[3] / PLACE
ROW = re.compile(r"\| `(?P<id>[^`]+)` \| (?P<rest>.*) \|")


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"contract_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def claims_of(module: ModuleType) -> Iterator[Claim]:
    for each in vars(module).values():
        for mark in getattr(each, "pytestmark", ()):
            if mark.name == "claim":
                yield mark.args[0]


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[Claim]:
    """Every claim of the contract."""
    files = sorted(resources.contract().glob("test_*.py"))
    return [claim for path in files for claim in claims_of(loaded(path, monkeypatch))]


def rows(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return what a document says of each claim: its page, and the columns behind its id."""
    found: dict[str, tuple[str, list[str]]] = {}
    page = ""
    for line in text.splitlines():
        page = line[3:] if line.startswith("## ") else page
        if match := ROW.fullmatch(line):
            assert match["id"] not in found, f"{match['id']} stands twice"
            found[match["id"]] = page, re.split(r"(?<!\\) \| ", match["rest"])
    return found


def test_the_committed_contract_lists_the_claims_that_there_are(claims: list[Claim]) -> None:
    said = {name: (page, *columns[:2]) for name, (page, columns) in rows(COMMITTED.read_text()).items()}
    there = {
        claim.id: (
            escaped(claim.page),
            contract.words(claim.sentence, f"tested: {claim.reading}" if claim.reading else ""),
            escaped(claim.kernels.text),
        )
        for claim in claims
    }
    assert len(there) > 500
    assert said == there, f"write it again, as its third line says: {COMMITTED}"


def test_the_committed_contract_cites_the_departures_that_are_known(claims: list[Claim]) -> None:
    lines = COMMITTED.read_text().splitlines()
    said = {line for line in lines if line.startswith("- `")}
    assert said == {
        f"- `{each.id}`: {escaped(each.departs.known)}" for each in claims if each.departs is not None
    }


def test_the_committed_contract_has_a_verdict_in_every_cell() -> None:
    text = COMMITTED.read_text()
    cells = len(re.findall(r"^\| \d+ \| `", text, re.MULTILINE))
    assert cells >= 2
    verdicts = [columns[2:] for _, columns in rows(text).values()]
    assert {len(each) for each in verdicts} == {cells}
    assert {sign for each in verdicts for sign in each} <= set(contract.SIGNS.values())


def test_nothing_in_it_changes_from_run_to_run() -> None:
    text = COMMITTED.read_text()
    assert not re.search(r"seed|QEMU|tcg|template|/home|/root|0x[0-9a-f]{6}", text)
    assert re.search(
        r"^Written by `\./hostwalk check --matrix=\S+( --\S+)* --contract docs/contract\.md`",
        text,
        re.MULTILINE,
    )


def test_a_contract(run: Run) -> None:
    known = replace(run.results[4], departs="it does x (0123abc)", kernels=">=6.1 | <5")
    named = replace(
        run, results=(*run.results[:4], known, *run.results[5:]), command="./hostwalk check --matrix=a"
    )
    assert contract.text(named).splitlines() == [
        "# The contract",
        "",
        "Written by `./hostwalk check --matrix=a --contract docs/contract.md`; do not edit.",
        "",
        "3 claims, each one sentence of a manual page or kernel document. On each cell a claim is",
        "– n/a, ✔ kept, ~ departs, ? unproven, ✘ broken. Kernels that a sentence is not about are n/a.",  # noqa: RUF001
        "",
        "| | cell | what was booted |",
        "|---|---|---|",
        "| 1 | `x86_64-4level/debian:6.12` | 6.12.1, boot 3fa8 |",
        "| 2 | `arm64-48bit/debian:6.12` | nothing |",
        "",
        "## get_user_pages(9)",
        "",
        "| claim | sentence | kernels | 1 | 2 |",
        "|---|---|---|:-:|:-:|",
        "| `gup.ref.1` | Sentence of gup.ref.1 &amp; &lt;more> |  | ✔ | ✘ |",
        "| `gup.ret.2` | Sentence of gup.ret.2 &amp; &lt;more> |  | – | – |",  # noqa: RUF001
        "",
        "Not applicable:",
        "",
        "- needs CONFIG_X # yes: `gup.ret.2`",
        "",
        "## vm_insert_page(9)",
        "",
        "| claim | sentence | kernels | 1 | 2 |",
        "|---|---|---|:-:|:-:|",
        r"| `insert.1` | Sentence of insert.1 &amp; &lt;more> | >=6.1 \| &lt;5 | ~ | ? |",
        "",
        "Known departures:",
        "",
        "- `insert.1`: it does x (0123abc)",
    ]


def test_times_and_seeds_change_nothing(run: Run) -> None:
    other = replace(
        run, seed=1, seconds=99.0, results=tuple(replace(each, seconds=9.0) for each in run.results)
    )
    assert contract.text(run) == contract.text(other)


def test_what_is_not_applicable_names_its_cells(run: Run) -> None:
    results = (
        Result("a.1", "p(2)", "S", run.targets[1], Verdict.NOT_APPLICABLE, reason="no keys"),
        *run.results,
    )
    assert "- no keys: `a.1` on 2" in contract.text(replace(run, results=results))


def test_pytest_says_itself_where_it_writes(run: Run) -> None:
    command = "pytest x --hostwalk-contract y.md"
    assert f"Written by `{command}`; do not edit." in contract.text(replace(run, command=command))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("a|b", r"a\|b"),
        ("__get_user_pages(9)", r"\_\_get_user_pages(9)"),
        ("int *p[]", r"int \*p\[\]"),
        ("a\nb  c", "a b c"),
        ("<b>&amp;", "&lt;b>&amp;amp;"),
    ],
)
def test_escaping(words: str, text: str) -> None:
    assert escaped(words) == text


def test_the_host_is_no_part_of_what_was_booted() -> None:
    identity = "Linux 6.12.1 (b9ea6660d2ab), x86-64 4-level, QEMU 7.2.22, tcg: a, b, forked from template 1"
    assert booted(identity) == "Linux 6.12.1 (b9ea6660d2ab), x86-64 4-level"
