"""``hostwalk check``: the contract on a matrix of targets."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from rich.text import Text

from hostwalk import doctor, runner
from hostwalk.cli import output, signals
from hostwalk.cli.arguments import chosen_workers, workers
from hostwalk.cli.progress import PlainProgress, busy, showing
from hostwalk.cli.question import asker
from hostwalk.cli.reports import Reports
from hostwalk.errors import UsageError
from hostwalk.kernels.progress import Progress
from hostwalk.options import CheckOptions
from hostwalk.report.model import Run
from hostwalk.shard import Shard
from hostwalk.target import is_from_source

SCRIPT_LINES = ("repro script:", "no repro script:")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Boot each target, have its kernel work, and judge every claim by what the guest's memory shows.\n"
        "The matrix is every architecture with every kernel; an option that may be repeated is marked +."
    )
    _matrix(parser.add_argument_group("what to boot"))
    machine(parser.add_argument_group("how to boot it"))
    what = parser.add_argument_group("what to check")
    selection(what)
    what.add_argument(
        "--sabotage",
        action="store_true",
        help="alter guest memory before each verdict: every claim must notice",
    )
    what.add_argument(
        "--costs", action="store_true", help="tell what each claim has cost its subject (--json)"
    )
    what.add_argument(
        "--bisect",
        action="store_true",
        help="exit statuses for git bisect run: 0 good, 1 bad, 125 not testable, 255 stop",
    )
    Reports.arguments(parser.add_argument_group("reports (FILE may be - for standard output)"))


def _matrix(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--matrix", default="", metavar="NAME",
        help="default, full, or a matrix of hostwalk.toml or pyproject.toml; what follows narrows it",
    )  # fmt: skip
    group.add_argument(
        "--kernel", action="append", default=[], metavar="SPEC", dest="kernels",
        help="+ debian:6.12 (the default), debian:6.12-rt, a .deb, a kernel file; or built: source:7.3, tree:PATH",
    )  # fmt: skip
    cells(group)
    group.add_argument("--headers", type=Path, metavar="DIR", help="headers of a kernel given as a file")
    group.add_argument("--symbols", type=Path, metavar="FILE", help="System.map of a kernel given as a file")


def cells(group: argparse._ArgumentGroup) -> None:
    """Add what chooses cells whatever their kernel is."""
    group.add_argument(
        "--arch",
        action="append",
        default=[],
        metavar="A",
        dest="archs",
        help="+ x86_64 or arm64 (default: both)",
    )
    group.add_argument(
        "--format", action="append", default=[], metavar="F", dest="formats",
        help="+ page-table format: 4level, 5level, 48bit, 52bit; of kernels that are built also 39bit, 16k-36bit, "
        "16k-47bit, 16k-48bit, 16k-52bit, 64k-42bit, 64k-48bit, 64k-52bit",
    )  # fmt: skip
    group.add_argument("--mirror", metavar="URL", help="Debian mirror (default: as apt is configured)")


def machine(group: argparse._ArgumentGroup) -> None:
    """Add how machines are made."""
    group.add_argument("--accel", choices=("auto", "tcg", "kvm"), default="auto", help="default: %(default)s")
    group.add_argument(
        "--memory", type=int, default=256, metavar="MIB", help="guest memory (default: %(default)s)"
    )
    group.add_argument(
        "--isolation", choices=("claim", "cell"), default="claim",
        help="a fresh machine for each claim, or one for all of a target (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "-n", dest="workers", type=workers, metavar="N",
        help="check with N processes at once, or auto: as many as cores and memory allow (default: auto for the "
        "whole contract, one for what -k selects)",
    )  # fmt: skip
    group.add_argument("--smp", type=int, default=1, metavar="N", help="virtual CPUs (default: %(default)s)")


def selection(group: argparse._ArgumentGroup) -> None:
    """Add what is checked, and how talkative."""
    group.add_argument(
        "-k", dest="keyword", default="", metavar="EXPR", help="claims whose names match, as in pytest"
    )
    group.add_argument(
        "--shard", type=_shard, default="", metavar="I/N",
        help="only the Ith of N parts of the claims; a claim stays in its part when others are added",
    )  # fmt: skip
    group.add_argument(
        "--no-audit",
        dest="audit",
        action="store_false",
        help="do not hold the guest's processes against the standing invariants after each claim",
    )
    group.add_argument(
        "--repro-dir", type=Path, metavar="DIR",
        help="write a script that repeats it for each broken claim, and run it",
    )  # fmt: skip
    group.add_argument(
        "--repro-departures", action="store_true", help="with --repro-dir: for each known departure as well"
    )
    group.add_argument(
        "--seed", type=lambda text: int(text, 0), metavar="N", help="repeat a run's random choices"
    )
    group.add_argument(
        "--pdb", action="store_true", help="enter the debugger where a claim fails, the machine held still"
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say what of each sentence is tested; twice: tracebacks as well",
    )


def _shard(text: str) -> str:
    try:
        Shard.parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error.message}: {error.remedy}") from error
    return text


def options_of(args: argparse.Namespace) -> CheckOptions:
    """Return the request that a command line makes."""
    return CheckOptions(
        kernels=tuple(args.kernels), archs=tuple(args.archs), formats=tuple(args.formats),
        matrix=args.matrix, accel=args.accel, memory=args.memory, cpus=args.smp,
        keyword=args.keyword, sabotage=args.sabotage, audit=args.audit,
        mirror=args.mirror, headers=args.headers, symbols=args.symbols, seed=args.seed, verbose=args.verbose,
        isolation=args.isolation, shard=args.shard, costs=args.costs, pdb=args.pdb,
        workers=chosen_workers(args.workers, few=bool(args.keyword or args.pdb)),
        repro_dir=args.repro_dir, repro_departures=args.repro_departures,
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Check the contract, print the reports; return 0, 1, 3 or 125."""
    options, reports = options_of(args), Reports.of(args)
    if options.pdb and options.workers not in ("0", "1"):
        raise UsageError("--pdb is for one process: no -n with it")
    plain = nullcontext(PlainProgress(output.err()))
    with plain if options.pdb else showing(output.err()) as progress:
        ready(options, progress)
        found = runner.run_contract(options, progress)
    signals.check()
    reports.write(found, verbose=options.verbose > 0)
    _tell_scripts(found)
    return found.exit_status


def _tell_scripts(found: Run) -> None:
    """Say where repro scripts are, and of which failures there is none."""
    for result in found.results:
        for line in result.detail.splitlines():
            if line.startswith(SCRIPT_LINES):
                output.err().print(Text(f"{result.claim_id} on {result.target}: {line}"), soft_wrap=True)


def ready(options: CheckOptions, progress: Progress) -> None:
    """Make sure that the host has what these targets need; raises MissingToolError."""
    specs = {target.kernel for target in options.targets}
    archive = any(not Path(spec).is_file() and not spec.startswith("tree:") for spec in specs)
    builds = any(is_from_source(spec) for spec in specs)
    tools = doctor.needed({target.arch for target in options.targets}, archive=archive, builds=builds)
    doctor.ensure(tools, ask=asker(), busy=busy(progress))
