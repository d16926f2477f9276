"""Why claims depart, are not applicable, or are unproven: each reason once, with the claims that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from hostwalk.report.html.markup import anchor, element, joined, lines_of
from hostwalk.report.html.story import unfolded
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.target import Target

Cells = Mapping[Target, int]
TOLD = 50


class Reasons:
    """The lists of reasons of one page; a claim's first mention carries the id that the matrix leads to."""

    def __init__(self, run: Run, cells: Cells) -> None:
        self._run = run
        self._cells = cells
        self._mentioned: set[str] = set()
        self._told = 0

    def table(self, verdict: Verdict) -> ET.Element | None:
        """Return the table of one verdict; None when no claim has it."""
        by_reason: dict[str, dict[str, list[Result]]] = {}
        for result in self._run.having(verdict):
            claims = by_reason.setdefault(result.reason or result.detail, {})
            claims.setdefault(result.claim_id, []).append(result)
        rows = (self._row(reason, claims) for reason, claims in by_reason.items())
        return element("table", element("tbody", *lines_of(*rows)), class_="reasons") if by_reason else None

    def _row(self, reason: str, claims: Mapping[str, Sequence[Result]]) -> ET.Element:
        mentions = joined((self._mention(claim_id, results) for claim_id, results in claims.items()), " ")
        first = next(iter(claims.values()))[0]
        return element(
            "tr", element("th", *mentions, scope="row"), element("td", _first_line(reason), self._more(first))
        )

    def _more(self, result: Result) -> ET.Element | None:
        """Return what was done before the infrastructure failed, of one claim for each cause, and not of very many."""
        if result.verdict is not Verdict.UNPROVEN:
            return None
        self._told += 1
        if self._told > TOLD:
            return element("p", element("code", result.rerun, class_="command"), class_="again")
        name = anchor("unproven", result.claim_id, self._cells[result.target], self._told)
        summary = element("summary", f"{result.claim_id} on {result.target.name}")
        return element("details", summary, *unfolded(result, name))

    def _mention(self, claim_id: str, results: Sequence[Result]) -> ET.Element:
        place = anchor("why", claim_id)
        first = place not in self._mentioned
        self._mentioned.add(place)
        numbers = [self._cells[result.target] for result in results]
        where = f" on {ranges(numbers)}" if len(set(numbers)) < len(self._cells) else ""
        title = f"{results[0].page}: {results[0].sentence}"
        cells = element("small", where, title="cells") if where else None
        return element("span", element("code", claim_id, title=title), cells, id=place if first else None)


def _first_line(reason: str) -> str:
    """Return the first line of a reason, or of the detail that stands for it."""
    return next((line for line in reason.splitlines() if line.strip()), "no reason was given")


def ranges(numbers: Sequence[int]) -> str:
    """Write numbers shortly: ``1-4, 7``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}\N{EN DASH}{run[-1]}" for run in runs)
