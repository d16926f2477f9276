"""The report that people read: claims down, targets across, then every failure explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hostwalk.report.model import Result, Run, Verdict, by_page
from hostwalk.report.words import (
    STYLES,
    WORST_FIRST,
    duration,
    plain,
    promise,
    short_names,
    signs,
    tested,
    word,
    worst,
)
from hostwalk.target import Target

NARROW = 60
"""Columns below which the table leaves the sentences out."""
WIDE = 120
"""Columns beyond which the table grows no further: a row must be easy to follow."""


def show(run: Run, console: Console, *, verbose: bool = False) -> None:
    """Print a run: what was booted, the table, the totals, and why each claim that is not kept is not.

    ``verbose`` adds to each sentence what of it is tested.
    """
    _Page(run, console, verbose).show()


class _Page:
    def __init__(self, run: Run, console: Console, verbose: bool) -> None:
        self.run = run
        self.verbose = verbose
        self.console = console
        self.signs = signs(console.encoding)
        self.names = _headings(run.targets, console.width)

    def show(self) -> None:
        self._line(self._what())
        self._targets()
        if any(result.verdict is not Verdict.UNPROVEN for result in self.run.results):
            self._all_claims()
        self._line(Text())
        self._asides()
        for alike in _grouped(self.run.having(Verdict.BROKEN, Verdict.UNPROVEN)):
            self._explain(alike)
        self._line(self._totals())

    def _line(self, text: Text, indent: int = 0) -> None:
        """Print without wrapping: a command must survive copy and paste, a pipe has no width."""
        lines = text.split("\n") or [text]
        for line in lines:
            self.console.print(Text(" " * indent) + line, soft_wrap=True)

    def _what(self) -> Text:
        claims = len({result.claim_id for result in self.run.results})
        mode = ", sabotaged" if self.run.sabotage else ""
        return Text(f"{_some(claims, 'claim')}{mode} on {_some(len(self.run.targets), 'target')}", "bold")

    def _targets(self) -> None:
        for target in self.run.targets:
            heading = f"{self.names[target]}: " if self.names[target] != target.name else ""
            self._line(Text(heading + target.name), indent=2)
            if identity := self.run.identities.get(target.name):
                self._line(Text(identity, "dim"), indent=4)

    def _all_claims(self) -> None:
        self.console.print(self._grid(heading=True))
        for page, claims in by_page(self.run.results).items():
            self._claims(page, claims)

    def _grid(self, *, heading: bool) -> Table:
        """Return an empty table; all have the same columns, so that they read as one."""
        width = min(self.console.width, WIDE)
        table = Table(
            box=None,
            padding=(0, 2, 0, 0),
            pad_edge=False,
            width=width,
            header_style="dim",
            show_header=heading,
        )
        table.add_column("", no_wrap=True, width=2 + max(len(result.claim_id) for result in self.run.results))
        table.add_column("", ratio=1, overflow="fold")
        for name in self.names.values():
            table.add_column(name, justify="center", no_wrap=True, width=len(name))
        return table

    def _claims(self, page: str, claims: Mapping[str, Sequence[Result]]) -> None:
        self._line(Text(page, "bold"))
        table = self._grid(heading=False)
        for claim_id, results in claims.items():
            table.add_row(*self._row(claim_id, results))
        self.console.print(table)

    def _row(self, claim_id: str, results: Sequence[Result]) -> list[Text]:
        sentence = results[0].sentence if self.console.width >= NARROW else ""
        if self.verbose and sentence:
            sentence = "\n".join(filter(None, (sentence, tested(results[0]))))
        return [
            Text(f"  {claim_id}"),
            Text(sentence),
            *(self._cell(results, target) for target in self.names),
        ]

    def _cell(self, results: Iterable[Result], target: Target) -> Text:
        verdicts = [result.verdict for result in results if result.target == target]
        return self._sign(worst(verdicts)) if verdicts else Text()

    def _sign(self, verdict: Verdict) -> Text:
        return Text(self.signs[verdict], STYLES[verdict])

    def _asides(self) -> None:
        """Say why claims are not applicable or depart; the same reason only once per claim."""
        said: dict[tuple[str, Verdict, str], list[str]] = {}
        for result in self.run.having(Verdict.DEPARTS, Verdict.NOT_APPLICABLE):
            said.setdefault((result.claim_id, result.verdict, result.reason), []).append(
                self.names[result.target]
            )
        for (claim_id, verdict, reason), names in said.items():
            where = "" if len(names) == len(self.names) else f" ({', '.join(names)})"
            why = f": {reason}" if reason else ""
            self._line(self._sign(verdict) + Text(f" {claim_id} {_PHRASES[verdict]}{where}{why}", "dim"))
        if said:
            self._line(Text())

    def _explain(self, alike: Sequence[Result]) -> None:
        """Explain results that have the same cause."""
        first = alike[0]
        phrase = word(first.verdict, sabotage=self.run.sabotage)
        who = first.claim_id if len(alike) == 1 else _some(len(alike), "claim")
        title = Text(f" {who} {phrase} on {first.target.name}", STYLES[first.verdict])
        self._line(self._sign(first.verdict) + title)
        if len(alike) == 1:
            self._line(Text.assemble((first.page, "bold"), promise(first).removeprefix(first.page)), indent=4)
            if first.reading:
                self._line(Text(tested(first)), indent=4)
        self._line(Text(_why(first)), indent=4)
        where, again = (first.where, first.rerun) if len(alike) == 1 else ("", _without_claim(first))
        for label, text in (("at", where), ("again", again)):
            if text:
                self._line(Text.assemble((f"{label}: ", "dim"), text), indent=4)
        self._line(Text())

    def _totals(self) -> Text:
        if not self.run.results:
            return Text("nothing was judged", STYLES[Verdict.UNPROVEN])
        parts = [
            self._sign(verdict)
            + Text(f" {self.run.counts[verdict]} {word(verdict, sabotage=self.run.sabotage)}")
            for verdict in sorted(self.run.counts, key=_ORDER.index)
        ]
        tail = Text(f"   in {duration(self.run.seconds)}, seed {self.run.seed}", "dim")
        return Text("   ").join(parts) + tail


_ORDER = (Verdict.KEPT, *(verdict for verdict in WORST_FIRST if verdict is not Verdict.KEPT))
_PHRASES = {Verdict.DEPARTS: "departs, as known", Verdict.NOT_APPLICABLE: "is not applicable"}


def _grouped(results: Sequence[Result]) -> list[list[Result]]:
    """Put together what is unproven on a target for the same cause; everything broken stands alone."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        broken = result.verdict is Verdict.BROKEN
        own = (result.nodeid, result.claim_id) if broken else (result.reason, result.detail)
        groups.setdefault((result.target.name, result.verdict, *own), []).append(result)
    return list(groups.values())


def _why(result: Result) -> str:
    """Return reason and detail, without a reason that the detail begins with."""
    reason, detail = plain(result.reason).strip(), plain(result.detail).rstrip()
    return "\n".join(text for text in ("" if detail.startswith(reason) else reason, detail) if text)


def _without_claim(result: Result) -> str:
    return result.rerun.replace(f" -k {result.claim_id}", "")


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _headings(targets: Sequence[Target], width: int) -> dict[Target, str]:
    """Return column headings: telling names where they fit, else numbers."""
    names = short_names(targets)
    if sum(len(name) + 2 for name in names.values()) > width // 2:
        return {target: str(number) for number, target in enumerate(targets, 1)}
    return names
