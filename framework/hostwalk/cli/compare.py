"""``hostwalk compare``: the same checks on two kernels; only what changed."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hostwalk.cache import Cache
from hostwalk.cli import check, output, signals
from hostwalk.cli.arguments import positive
from hostwalk.cli.progress import showing
from hostwalk.cli.reports import STDOUT
from hostwalk.comparing.comparison import Comparison, Side
from hostwalk.comparing.run import SIDES, compare, options_for, prove
from hostwalk.comparing.sides import Asked, sides
from hostwalk.errors import UsageError
from hostwalk.kernels import Progress
from hostwalk.options import CheckOptions, command
from hostwalk.report.compare import html, json, terminal, text
from hostwalk.report.formats import check_place

WRITERS: dict[str, tuple[Callable[[Comparison, str], str], str]] = {
    "text": (text.text, "plain text, short enough for a mail under the patch"),
    "json": (json.text, "everything, both runs included, in a stable schema"),
    "html": (html.text, "one page that needs nothing else"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Run the same checks on two kernels and print only what changed: verdicts, what the kernel prints,\n"
        "the state of pages, entries and mappings after the same operations, and what these cost.\n"
        "The kernels are two names as for check --kernel, or two states of a kernel's git repository."
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="BASE and PATCHED")
    _repository(parser.add_argument_group("from a git repository"))
    matrix = parser.add_argument_group("what to boot")
    matrix.add_argument(
        "--matrix", default="", metavar="NAME", help="the cells of a matrix, whatever kernels it has"
    )
    check.cells(matrix)
    _files(matrix)
    check.machine(parser.add_argument_group("how to boot it"))
    _selection(parser.add_argument_group("what to check"))
    reports = parser.add_argument_group("reports (FILE may be - for standard output)")
    for name, (_, told) in WRITERS.items():
        reports.add_argument(f"--{name}", nargs="?", const=STDOUT, metavar="FILE", help=told)
    reports.add_argument("--report", dest="text", metavar="FILE", help=argparse.SUPPRESS)


def _repository(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--git",
        default="",
        metavar="BASE..PATCHED",
        help="two commits; BASE alone: against the checkout as it stands",
    )
    group.add_argument(
        "--patch", nargs="+", action="extend", type=Path, default=[], metavar="FILE", dest="patches",
        help="mails or mbox series as git am takes them, or plain differences, on HEAD or on --git COMMIT",
    )  # fmt: skip
    group.add_argument(
        "--with", action="append", default=[], metavar="NAME", dest="extra",
        help="+ a further fragment of images/config in the configuration of both sides: debug",
    )  # fmt: skip
    group.add_argument(
        "--tree", type=Path, default=Path(), metavar="PATH", help="the checkout (default: here)"
    )


def _files(group: argparse._ArgumentGroup) -> None:
    for name, metavar, told in (("headers", "DIR", "headers"), ("symbols", "FILE", "System.map")):
        group.add_argument(
            f"--{name}", action="append", type=Path, default=[], metavar=metavar,
            help=f"{told} of a kernel given as a file; twice: of BASE, of PATCHED",
        )  # fmt: skip


def _selection(group: argparse._ArgumentGroup) -> None:
    check.selection(group)
    group.add_argument(
        "--looks", type=positive, default=3, metavar="N",
        help="how often a changed state or cost must be seen to count (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Compare, print the reports; return 0, 1 or 3."""
    asked = Asked(tuple(args.kernels), args.git, tuple(args.patches), args.tree, tuple(args.extra))
    wanted = _wanted(args)
    extras = tuple(zip(_twice(args.headers, "--headers"), _twice(args.symbols, "--symbols"), strict=True))
    options = _options(args)
    _check_buildable(asked, options)
    cache = Cache.user()
    with showing(output.err()) as progress, sides(asked, cache, progress) as pair:
        both = [(side, options_for(side, options, extra)) for side, extra in zip(pair, extras, strict=True)]
        _ready(both, progress, cache)
        found = compare(both[0], both[1], progress, looks=args.looks)
    signals.check()
    _write(found, wanted)
    return found.exit_status


def _check_buildable(asked: Asked, options: CheckOptions) -> None:
    """Raise UsageError for cells that make no sense before anything is checked out."""
    for spec in asked.kernels or (asked.spec(asked.tree),):
        _ = replace(options, instead=spec).targets


def _ready(both: list[tuple[Side, CheckOptions]], progress: Progress, cache: Cache) -> None:
    for name, (side, options) in zip(SIDES, both, strict=True):
        check.ready(options, progress)
        prove(name, side, options, progress, cache)


def _options(args: argparse.Namespace) -> CheckOptions:
    """Return what both sides have in common; they make the same random choices, and so does who repeats it."""
    args.sabotage, args.costs = False, True
    kept = argparse.Namespace(**{**vars(args), "kernels": [], "headers": None, "symbols": None})
    options = check.options_of(kept)
    return replace(options, seed=options.seed or 0)


def _twice(values: list[Path], name: str) -> tuple[Path | None, Path | None]:
    if len(values) > 2:
        raise UsageError(f"{name} is given {len(values)} times, and there are two kernels")
    return (values[0], values[-1]) if values else (None, None)


def _wanted(args: argparse.Namespace) -> dict[str, str]:
    wanted = {name: getattr(args, name) for name in WRITERS if getattr(args, name) is not None}
    if list(wanted.values()).count(STDOUT) > 1:
        raise UsageError("two reports cannot share standard output", remedy="give one of them a file")
    for place in wanted.values():
        if place != STDOUT:
            check_place(place)
    return wanted


def _write(found: Comparison, wanted: dict[str, str]) -> None:
    terminal.show(found, output.err() if STDOUT in wanted.values() else output.out())
    for name, place in wanted.items():
        told = WRITERS[name][0](
            found, _command(sys.argv[1:] if name == "json" else _without_reports(sys.argv[1:]))
        )
        if place == STDOUT:
            sys.stdout.write(told)
        else:
            _write_file(Path(place), told)


def _write_file(path: Path, told: str) -> None:
    try:
        path.write_text(told, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _command(words: list[str]) -> str:
    """Return a command line as one can paste it: what was given; for people without the files that were written."""
    return shlex.join([command(), *words])


def _without_reports(words: list[str]) -> list[str]:
    """Return a command line without the options of reports; a word behind one is its file, as argparse takes it."""
    kept, names, takes = [], {*(f"--{name}" for name in WRITERS), "--report"}, False
    for word in words:
        name, equals, _ = word.partition("=")
        if name in names:
            takes = not equals
            continue
        if not takes or (word.startswith("-") and word != STDOUT):
            kept.append(word)
        takes = False
    return kept
