"""The contract as Markdown: the manual, sentence by sentence, and which kernels keep it.

Nothing in it depends on the host, the seed or the time: the same kernels give the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from hostwalk.report.model import Result, Run, Verdict, by_page
from hostwalk.report.words import SIGNS, WORST_FIRST, plain, tested, word, worst
from hostwalk.target import Target

PLACE = "docs/contract.md"
Cells = Mapping[Target, int]


def text(run: Run) -> str:
    """Return the report as a Markdown document."""
    return "".join(f"{line}\n" for line in _lines(run))


def _lines(run: Run) -> Iterator[str]:
    cells = {target: number for number, target in enumerate(run.targets, 1)}
    pages = by_page(run.results)
    again = run.command if run.command.startswith("pytest ") else f"{run.command} --contract {PLACE}"
    yield from ("# The contract", "")
    yield from (f"Written by `{again}`; do not edit.", "")
    claims = sum(map(len, pages.values()))
    yield f"{claims} claims, each one sentence of a manual page or kernel document. On each cell a claim is"
    signs = (f"{SIGNS[verdict]} {word(verdict, sabotage=run.sabotage)}" for verdict in reversed(WORST_FIRST))
    yield from (f"{', '.join(signs)}. Kernels that a sentence is not about are n/a.", "")
    yield from _booted(run, cells)
    for page, several in pages.items():
        yield from _page(page, several, cells)


def _booted(run: Run, cells: Cells) -> Iterator[str]:
    yield from ("| | cell | what was booted |", "|---|---|---|")
    for target, number in cells.items():
        yield f"| {number} | `{target.name}` | {escaped(booted(run.identities.get(target.name, 'nothing')))} |"


def booted(identity: str) -> str:
    """Return the kernel and its page-table format, without the host's part of an identity."""
    return ", ".join(identity.split(", ")[:2])


def _page(page: str, claims: Mapping[str, Sequence[Result]], cells: Cells) -> Iterator[str]:
    numbers = [str(number) for number in cells.values()]
    yield from ("", f"## {escaped(page)}", "")
    yield f"| claim | sentence | kernels | {' | '.join(numbers)} |"
    yield f"|---|---|---|{':-:|' * len(numbers)}"
    for claim_id, results in claims.items():
        yield _row(claim_id, results, cells)
    yield from _departures(claims)
    yield from _not_applicable(claims, cells)


def _row(claim_id: str, results: Sequence[Result], cells: Cells) -> str:
    signs = (_sign([each.verdict for each in results if each.target == target]) for target in cells)
    first = results[0]
    return f"| `{claim_id}` | {words(first.sentence, tested(first))} | {escaped(first.kernels)} | {' | '.join(signs)} |"


def words(sentence: str, tested: str) -> str:
    """Return what stands for a claim's sentence, with what of it is tested."""
    return f"{escaped(sentence)} ({escaped(tested)})" if tested else escaped(sentence)


def _sign(verdicts: Sequence[Verdict]) -> str:
    return SIGNS[worst(verdicts)] if verdicts else ""


def _departures(claims: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    known = {claim_id: results[0].departs for claim_id, results in claims.items() if results[0].departs}
    if known:
        yield from ("", "Known departures:", "")
    for claim_id, departs in known.items():
        yield f"- `{claim_id}`: {escaped(departs)}"


def _not_applicable(claims: Mapping[str, Sequence[Result]], cells: Cells) -> Iterator[str]:
    """Yield each reason once, with the claims and, where it is not all of them, the cells."""
    said: dict[str, dict[str, list[int]]] = {}
    for claim_id, results in claims.items():
        for result in results:
            if result.verdict is Verdict.NOT_APPLICABLE:
                said.setdefault(result.reason, {}).setdefault(claim_id, []).append(cells[result.target])
    if said:
        yield from ("", "Not applicable:", "")
    for reason, where in said.items():
        names = (f"`{claim_id}`{_on(numbers, cells)}" for claim_id, numbers in where.items())
        yield f"- {escaped(reason)}: {', '.join(names)}"


def _on(numbers: Sequence[int], cells: Cells) -> str:
    several = sorted(set(numbers))
    return "" if len(several) == len(cells) else f" on {' '.join(map(str, several))}"


def escaped(words: str) -> str:
    """Return text on one line that Markdown takes as it is, within a table too."""
    line = " ".join(plain(words).split())
    line = re.sub(r"([\\`*\[\]|])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)
