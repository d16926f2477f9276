"""The comparison as one HTML page that needs nothing else: no script, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from string import Template

from hostwalk.comparing.comparison import Alike, Change, Comparison, Kind, grouped
from hostwalk.report.compare.lines import HEADINGS, NOT_ALWAYS, first_seen, headline, sides, summary, totals
from hostwalk.report.model import Run
from hostwalk.report.words import plain

CLASSES = {
    Kind.BROKEN: "bad",
    Kind.PRINTED: "bad",
    Kind.UNPROVEN: "odd",
    Kind.KEPT: "good",
    Kind.SILENT: "good",
}
OUTCOMES = {0: "good", 1: "bad"}


def text(comparison: Comparison, command: str) -> str:
    """Return the page; ``command`` repeats the comparison."""
    return _template().substitute(
        title=escape(f"hostwalk compare: {comparison.base.label} and {comparison.patched.label}"),
        outcome=OUTCOMES.get(comparison.exit_status, "odd"),
        summary=escape(summary(comparison)),
        sides="\n".join(_side(name, label, run) for name, label, run in sides(comparison)),
        sections="\n".join(
            _section(kind, comparison.having(kind)) for kind in Kind if comparison.having(kind)
        ),
        command=escape(command),
    )


@cache
def _template() -> Template:
    return Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def _side(name: str, label: str, run: Run) -> str:
    ran = "<br>".join(
        escape(f"{target.cell}: {run.identities.get(target.name, 'nothing')}") for target in run.targets
    )
    return f"<tr>{_cells(name, label, totals(run))}<td>{ran}</td></tr>"


def _section(kind: Kind, changes: Sequence[Change]) -> str:
    rows = "\n".join(_group(alike) for alike in grouped(changes))
    heading = f'<h2 class="{CLASSES.get(kind, "other")}">{escape(HEADINGS[kind])}</h2>'
    return f"{heading}\n<table>\n<tr><th>change</th><th>cells</th><th>claims</th></tr>\n{rows}\n</table>"


def _group(alike: Alike) -> str:
    members = "\n".join(_member(change) for change in alike.changes)
    count = len(alike.claims)
    claims = f"<details><summary>{escape(alike.claims[0])}{f' and {count - 1} more' if count > 1 else ''}</summary>"
    return f"<tr>{_cells(headline(alike), ', '.join(alike.cells))}<td>{claims}{members}</details></td></tr>"


def _member(change: Change) -> str:
    said = [
        "" if change.always else NOT_ALWAYS,
        f'{change.page}: "{change.sentence}"',
        change.detail,
        change.rerun and f"again: {change.rerun}",
    ]
    story = escape(plain("\n".join(text for text in said if text)))
    return f"<p><code>{escape(first_seen(change))}</code> on {escape(change.cell)}</p><pre>{story}</pre>"


def _cells(*texts: str) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)
