"""From two runs of the same claims to what changed between them. Pure: runs in, changes out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hostwalk.comparing import differences
from hostwalk.comparing.differences import Difference
from hostwalk.report.model import Result, Run, Verdict


class Kind(StrEnum):
    """How a claim changed; the worst first."""

    BROKEN = "newly broken"
    PRINTED = "new console lines"
    UNPROVEN = "not compared"
    VERDICT = "another verdict"
    FAILURE = "another reason"
    KEPT = "newly kept"
    STATE = "another state"
    COST = "another cost"
    SILENT = "console lines gone"


WORSE = frozenset((Kind.BROKEN, Kind.PRINTED))


@dataclass(frozen=True)
class Side:
    """One of the two kernels: what people call it, and the name that it is resolved by."""

    label: str
    kernel: str


@dataclass(frozen=True)
class Change:
    """One change of one claim on one cell; ``before`` and ``after`` are those of ``difference``.

    ``detail`` explains in several lines; ``rerun`` repeats the claim on the patched side. ``always``: each look showed
    it.
    """

    kind: Kind
    cell: str
    claim_id: str
    page: str
    sentence: str
    difference: Difference
    detail: str = ""
    rerun: str = ""
    always: bool = True


@dataclass(frozen=True)
class Comparison:
    """Two runs and all changes from the first to the second.

    ``unsteady`` is how many changes of state and cost were left out, because not every look showed them.
    """

    base: Side
    patched: Side
    before: Run
    after: Run
    changes: tuple[Change, ...] = ()
    unsteady: int = 0

    @property
    def counts(self) -> Counter[Kind]:
        """How many claims on how many cells changed in each way."""
        return Counter(kind for kind, _cell, _claim in {(c.kind, c.cell, c.claim_id) for c in self.changes})

    @property
    def cells(self) -> tuple[str, ...]:
        """The names of the cells, without a kernel."""
        return tuple(dict.fromkeys(target.cell for target in self.before.targets))

    @property
    def pairs(self) -> int:
        """How many claims were judged on both sides, counted on each cell."""
        judged = [
            {key for key, result in _results(run).items() if _is_judged(result)}
            for run in (self.before, self.after)
        ]
        return len(judged[0] & judged[1])

    @property
    def is_empty_part(self) -> bool:
        """Whether it is a part of the claims (``--shard``) to which none belongs."""
        return all(run.shard and not run.results for run in (self.before, self.after))

    @property
    def exit_status(self) -> int:
        """Return 1 when something got worse, 3 when something could not be compared or nothing was, else 0.

        A part of the claims may be empty.
        """
        if self.counts.keys() & WORSE:
            return 1
        return 3 if self.counts[Kind.UNPROVEN] or not (self.pairs or self.is_empty_part) else 0

    def having(self, *kinds: Kind) -> tuple[Change, ...]:
        """Return the changes of these kinds, in order."""
        return tuple(change for change in self.changes if change.kind in kinds)


@dataclass(frozen=True)
class Alike:
    """Changes of the same kind, field and delta: they have, as a rule, one cause."""

    kind: Kind
    field: str
    delta: str
    changes: tuple[Change, ...]

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims, each once."""
        return tuple(dict.fromkeys(change.claim_id for change in self.changes))

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells, each once."""
        return tuple(dict.fromkeys(change.cell for change in self.changes))


def compared(base: Side, patched: Side, before: Run, after: Run) -> Comparison:
    """Return what changed from one run to the other; claims are paired by cell and by test."""
    then, now = _results(before), _results(after)
    order = list(Kind)
    found = [
        change
        for key in dict.fromkeys((*then, *now))
        for change in _changes(key[0], then.get(key), now.get(key))
    ]
    return Comparison(
        base, patched, before, after, tuple(sorted(found, key=lambda change: order.index(change.kind)))
    )


def grouped(changes: Iterable[Change]) -> tuple[Alike, ...]:
    """Put together what changed in the same way, in the order of first appearance."""
    groups: dict[tuple[Kind, str, str], list[Change]] = {}
    for change in changes:
        key = change.kind, change.difference.field, change.difference.delta
        groups.setdefault(key, []).append(change)
    return tuple(Alike(*key, tuple(members)) for key, members in groups.items())


def _results(run: Run) -> Mapping[tuple[str, str, str], Result]:
    return {
        (result.cell, result.claim_id, result.nodeid.replace(result.target.name, "")): result
        for result in run.results
    }


def _is_judged(result: Result | None) -> bool:
    return result is not None and result.verdict is not Verdict.UNPROVEN


def _changes(cell: str, before: Result | None, after: Result | None) -> Iterator[Change]:
    known = after or before
    assert known is not None

    def change(kind: Kind, difference: Difference, detail: str = "") -> Change:
        about = cell, known.claim_id, known.page, known.sentence
        return Change(kind, *about, difference, detail, after.rerun if after is not None else "")

    if before is None or after is None or not (_is_judged(before) and _is_judged(after)):
        unproven = next((each for each in (after, before) if each and not _is_judged(each)), None)
        why = unproven.reason if unproven is not None else "it was judged on one side only"
        yield change(Kind.UNPROVEN, Difference("verdict", _verdict(before), _verdict(after), why))
        return
    yield from (change(*verdict) for verdict in _verdicts(before, after))
    if (before.verdict is Verdict.NOT_APPLICABLE) != (after.verdict is Verdict.NOT_APPLICABLE):
        return
    same = before.verdict is after.verdict
    then, now = before.observed, after.observed
    for line in differences.new_lines(then, now):
        yield change(Kind.PRINTED, Difference(line, "silent", "printed"))
    for line in differences.new_lines(now, then):
        yield change(Kind.SILENT, Difference(line, "printed", "silent"))
    yield from (change(Kind.STATE, each) for each in differences.states(then, now, complete=same))
    yield from (change(Kind.COST, each) for each in differences.costs(then, now))


def _verdict(result: Result | None) -> str:
    return str(result.verdict) if result is not None else differences.MISSING


def _verdicts(before: Result, after: Result) -> Iterator[tuple[Kind, Difference, str]]:
    pair = Difference("verdict", str(before.verdict), str(after.verdict))
    if before.verdict is not after.verdict:
        kind = {Verdict.BROKEN: Kind.BROKEN, Verdict.KEPT: Kind.KEPT}.get(after.verdict, Kind.VERDICT)
        if kind is Kind.KEPT and before.verdict is not Verdict.BROKEN:
            kind = Kind.VERDICT
        yield kind, pair, after.detail or after.reason
    elif _why(before) != _why(after):
        yield (
            Kind.FAILURE,
            Difference(str(after.verdict), _why(before), _why(after)),
            after.detail or after.reason,
        )


def _why(result: Result) -> str:
    """Return the reason, or the first line of an assertion, its numbers of no account: addresses, page frames."""
    if result.reason:
        return next(iter(result.reason.splitlines()), "").strip()
    first = next((line for line in result.detail.splitlines() if line.strip()), "")
    return re.sub(r"\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b", "…", first).strip()
