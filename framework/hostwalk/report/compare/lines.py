"""A comparison as lines, for the terminal and for a mail: only what changed, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import hostwalk
from hostwalk.comparing.comparison import Alike, Change, Comparison, Kind, grouped
from hostwalk.report.model import Run, Verdict
from hostwalk.report.words import plain

FEW, DETAIL_LINES = 6, 12
STYLES = {
    Kind.BROKEN: "bold red",
    Kind.PRINTED: "bold red",
    Kind.UNPROVEN: "bold yellow",
    Kind.VERDICT: "cyan",
    Kind.FAILURE: "cyan",
    Kind.KEPT: "green",
    Kind.STATE: "cyan",
    Kind.COST: "cyan",
    Kind.SILENT: "green",
}
HEADINGS = {
    Kind.BROKEN: "newly broken",
    Kind.PRINTED: "the kernel prints what it did not print before",
    Kind.UNPROVEN: "not compared",
    Kind.VERDICT: "judged differently",
    Kind.FAILURE: "same verdict, for another reason",
    Kind.KEPT: "newly kept",
    Kind.STATE: "other state after the same operations",
    Kind.COST: "other cost of the same operations",
    Kind.SILENT: "the kernel does not print any more",
}
NOTHING = "nothing changed"
NOT_ALWAYS = "not each time that it was looked at"


@dataclass(frozen=True)
class Line:
    """One line, how far it is indented, and its style for a terminal."""

    text: str
    indent: int = 0
    style: str = ""


def lines(comparison: Comparison, *, few: int = FEW, detail: int = DETAIL_LINES) -> Iterator[Line]:
    """Yield the report: at most ``few`` claims named and ``detail`` lines of explanation for each change."""
    yield from heading(comparison)
    for kind in Kind:
        changes = comparison.having(kind)
        if changes:
            yield Line("")
            yield Line(f"{HEADINGS[kind]} ({_some(len(_places(changes)), 'claim')}):", 0, STYLES[kind])
            for alike in grouped(changes):
                yield from _alike(alike, few, detail)
    yield Line("")
    yield Line(summary(comparison), 0, verdict_style(comparison))


def heading(comparison: Comparison) -> Iterator[Line]:
    """Yield what was compared: the kernels, what really ran, and each side's totals."""
    cells = ", ".join(comparison.cells)
    yield Line(
        f"{_some(comparison.pairs, 'verdict')} compared on {cells} (hostwalk {hostwalk.__version__})",
        0,
        "bold",
    )
    for name, side, run in sides(comparison):
        yield Line(f"{name:<8} {side}: {totals(run)}", 2)
        for target in run.targets:
            if identity := run.identities.get(target.name):
                yield Line(f"{target.cell}: {identity}", 4, "dim")


def sides(comparison: Comparison) -> tuple[tuple[str, str, Run], ...]:
    """Return name, label and run of both sides."""
    return (
        ("base", comparison.base.label, comparison.before),
        ("patched", comparison.patched.label, comparison.after),
    )


def totals(run: Run) -> str:
    """Return how many results have each verdict, in words."""
    return (
        ", ".join(f"{run.counts[verdict]} {verdict}" for verdict in Verdict if run.counts[verdict])
        or "no verdict"
    )


def summary(comparison: Comparison) -> str:
    """Return one line: how many claims changed in each way."""
    counts = comparison.counts
    told = ", ".join(f"{counts[kind]} {kind}" for kind in Kind if counts[kind]) or NOTHING
    left_out = (
        f" ({_some(comparison.unsteady, 'change')} left out: not seen again)" if comparison.unsteady else ""
    )
    if comparison.is_empty_part:
        return "no claim belongs to this part"
    return told + left_out if comparison.pairs or comparison.changes else "nothing was compared"


def verdict_style(comparison: Comparison) -> str:
    """Return the style of the outcome."""
    return {0: "bold green", 1: "bold red"}.get(comparison.exit_status, "bold yellow")


def headline(alike: Alike) -> str:
    """Return what the members of a group have in common, in one line."""
    if alike.kind in (Kind.PRINTED, Kind.SILENT):
        return plain(alike.field)
    if alike.kind is Kind.FAILURE:
        return f"{alike.field}: {plain(alike.delta)}"
    return plain(alike.delta if alike.field == "verdict" else f"{alike.field}: {alike.delta}")


def first_seen(change: Change) -> str:
    """Return where one change was seen, with its values before and after."""
    where = f", {change.difference.where}" if change.difference.where else ""
    pair = (
        f": {change.difference.before} -> {change.difference.after}"
        if change.kind in (Kind.STATE, Kind.COST)
        else ""
    )
    return plain(f"{change.claim_id}{where}{pair}")


def _alike(alike: Alike, few: int, detail: int) -> Iterator[Line]:
    if alike.kind is Kind.BROKEN:
        for change in alike.changes:
            yield from _broken(change, detail)
        return
    yield Line(headline(alike), 2, STYLES[alike.kind])
    cells = ", ".join(alike.cells)
    always = all(change.always for change in alike.changes)
    yield Line(f"{named(alike.claims, few)} on {cells}{'' if always else f' ({NOT_ALWAYS})'}", 4)
    first = alike.changes[0]
    if first.difference.where or alike.kind in (Kind.STATE, Kind.COST):
        yield Line(f"first: {first_seen(first)}", 4, "dim")


def _broken(change: Change, detail: int) -> Iterator[Line]:
    pair = f"{change.difference.before} -> {change.difference.after}"
    once = "" if change.always else f" ({NOT_ALWAYS})"
    yield Line(f"{change.claim_id} on {change.cell}: {pair}{once}", 2, STYLES[Kind.BROKEN])
    yield Line(f'{change.page}: "{plain(change.sentence)}"', 4)
    told = plain(change.detail).strip().splitlines()
    yield from (Line(text.rstrip(), 4) for text in told[:detail])
    if len(told) > detail:
        yield Line(f"… {len(told) - detail} more lines", 4, "dim")
    if change.rerun:
        yield Line(f"again: {change.rerun}", 4, "dim")


def named(claims: Sequence[str], few: int = FEW) -> str:
    """Return the names of claims, or of some and how many more there are."""
    more = f" and {len(claims) - few} more" if len(claims) > few else ""
    return ", ".join(claims[:few]) + more


def _places(changes: Sequence[Change]) -> set[tuple[str, str]]:
    return {(change.cell, change.claim_id) for change in changes}


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
