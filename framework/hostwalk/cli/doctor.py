"""``hostwalk doctor``: what the host lacks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from hostwalk import doctor, surroundings
from hostwalk.cli.output import err, out
from hostwalk.cli.progress import busy, showing
from hostwalk.doctor import Finding
from hostwalk.options import command
from hostwalk.report.model import Verdict
from hostwalk.report.words import STYLES, signs
from hostwalk.target import Arch


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Probe what hostwalk needs from this host, and name the one command that gets what is missing."
    )
    parser.add_argument("--fix", action="store_true", help="run that command (with sudo, if not root)")
    parser.add_argument("--builds", action="store_true", help="look also for what building kernels takes")
    parser.add_argument("--gdb", action="store_true", help="look also for what shell --gdb takes")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--arch", action="append", default=[], metavar="A", help="look only at this one's tools"
    )


def run(args: argparse.Namespace) -> int:
    """Print the findings, mend them if asked to; return 0 when all is well, else 3."""
    archs = [Arch.parse(arch) for arch in args.arch] or list(Arch)
    tools = (*doctor.needed(archs, builds=args.builds), *(doctor.DEBUGGING if args.gdb else ()))
    findings = doctor.examine(tools)
    missing = [finding for finding in findings if not finding.ok]
    if args.fix and missing:
        findings = _fix(tools, missing)
    findings = (*findings, *surroundings.look(archs))
    _json(findings) if args.json else _table(findings)
    return 0 if all(finding.ok for finding in findings) else 3


def _fix(tools: Sequence[doctor.Tool], missing: Sequence[Finding]) -> tuple[Finding, ...]:
    with showing(err()) as progress:
        doctor.install(doctor.packages_of(missing), busy(progress))
    return doctor.examine(tools)


def _json(findings: Sequence[Finding]) -> None:
    missing = [finding for finding in findings if not finding.ok]
    document = {
        "schema": "hostwalk.doctor",
        "version": 1,
        "ok": not missing,
        "remedy": doctor.remedy(missing),
        "findings": [asdict(finding) for finding in findings],
    }
    out().print(json.dumps(document, indent=2), soft_wrap=True)


def _table(findings: Sequence[Finding]) -> None:
    console = out()
    mark = signs(console.encoding)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        verdict = Verdict.KEPT if finding.ok else Verdict.BROKEN
        table.add_row(
            Text(mark[verdict], STYLES[verdict]), Text(finding.name, overflow="fold"), Text(finding.detail)
        )
    console.print(table)
    missing = [finding for finding in findings if not finding.ok]
    if line := doctor.remedy(missing):
        console.print(
            f"\nTo get what is missing (or run: {command()} doctor --fix):\n  {line}", soft_wrap=True
        )
    elif not missing:
        console.print("\nAll is well.")
