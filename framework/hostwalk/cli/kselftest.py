"""``hostwalk kselftest``: the kernel's own selftests in guests, told line by line, pinned pages counted behind each."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from hostwalk import doctor
from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, prepare
from hostwalk.cells import Source
from hostwalk.cli import machines, output
from hostwalk.cli.progress import busy, showing
from hostwalk.cli.question import asker
from hostwalk.cli.run import seconds
from hostwalk.errors import UsageError
from hostwalk.kernels import Progress
from hostwalk.kernels.archive import Archive
from hostwalk.options import CheckOptions
from hostwalk.report.formats import check_place
from hostwalk.suites import files
from hostwalk.suites.building import Built, build, source_of
from hostwalk.suites.expected import Known
from hostwalk.suites.outcome import Result
from hostwalk.suites.plan import Step, steps
from hostwalk.suites.running import Runner

MEMORY = 1024
EPILOG = """\
examples:
  hostwalk kselftest mm --kernel source:7.3 -k mremap
  hostwalk kselftest mm --kernel debian:6.12 --junit report.xml
  hostwalk kselftest mm --list

exit status: 0 nothing failed, 1 a test failed, crashed or left pages pinned, 2 usage, 3 something is unproven"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Build tools/testing/selftests/mm of the kernel's own source, run each test in a fresh guest, and tell each\n"
        "line that it judges. Behind each the host counts the pages that are still pinned."
    )
    parser.epilog = EPILOG
    parser.add_argument("collection", choices=("mm",), help="which selftests")
    machines.arguments(parser.add_argument_group("which machine"))
    parser.set_defaults(memory=MEMORY)
    parser.add_argument(
        "-k",
        dest="keyword",
        default="",
        metavar="WORD",
        help="only tests with WORD in category or name: 'cow or gup'",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="S", help="for each test (default: %(default)g)"
    )
    parser.add_argument(
        "--list", action="store_true", help="only say which tests there are, and which cannot run"
    )
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="show the output of what passes, too"
    )


def run(args: argparse.Namespace) -> int:
    """Run the suite; raises what preparing raises."""
    for place in filter(None, (args.junit, args.json)):
        check_place(place)
    with showing(output.err()) as progress:
        prepared, built = made_ready(args.collection, machines.options_of(args), progress)
    chosen = select(built, args.keyword)
    runner = Runner(args.collection, built, Known.of(args.collection), Machines(prepared).make, args.timeout)
    if args.list:
        return _list(runner, chosen)
    return _run(runner, prepared, chosen, args)


class Machines:
    """Fresh machines of one target; what they are made from is made when the first is asked for."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._source: Source | None = None

    def make(self) -> Cell:
        """Return a machine; raises what preparing and booting raise."""
        self._source = self._source or Source.of(self._prepared)
        return self._source.make()


def made_ready(collection: str, options: CheckOptions, progress: Progress) -> tuple[Prepared, Built]:
    """Return what machines are made of, and the collection built from the source of their kernel."""
    target, cache = options.targets[0], Cache.user()
    tools = (*doctor.needed({target.arch}, archive=False), *doctor.fetching())
    doctor.ensure(tuple(dict.fromkeys(tools)), ask=asker(), busy=busy(progress))
    prepared = prepare(target, options, progress, cache, login=True)
    tree = source_of(prepared.kernel, Archive(cache, options.mirror, progress, sources=True))
    return prepared, build(collection, tree, target.arch, cache, progress)


def select(built: Built, keyword: str) -> tuple[Step, ...]:
    """Return the steps with a word in name or category; raises UsageError where none has it."""
    scripts = {path.name: path.read_text(errors="replace") for path in built.directory.glob("*.sh")}
    main = scripts.pop("run_vmtests.sh", "")
    known = steps(main, built.programs, "".join(scripts.values()))
    found = tuple(step for step in known if fits(step, keyword))
    if not found:
        raise UsageError(f"no test has {keyword!r} in its name or category", remedy="see them with --list")
    return found


def fits(step: Step, keyword: str) -> bool:
    """Return whether a step's category and name have a word, or one of several: ``cow or gup``."""
    return any(word.strip() in f"{step.category} {step.name}" for word in keyword.split(" or "))


def _list(runner: Runner, chosen: Sequence[Step]) -> int:
    for step in chosen:
        why = runner.why_not(step)
        _print(f"{step.category:<17} {step.name}{f'  # SKIP {why}' if why else ''}")
    return 0


def _run(runner: Runner, prepared: Prepared, chosen: Sequence[Step], args: argparse.Namespace) -> int:
    begun, release, arch = time.monotonic(), prepared.kernel.release, prepared.target.arch
    results: list[Result] = []
    for step in chosen:
        came = runner.known.applied(runner.run(step), release, arch)
        for result in came:
            for line in files.lines(result, verbose=bool(args.verbose)):
                _print(line)
        results.extend(came)
    identity = f"Linux {release} ({prepared.kernel.identity[:12]})"
    done = files.SuiteRun(
        args.collection, prepared.target.name, identity, tuple(results), time.monotonic() - begun
    )
    _print(f"\n{done.target}, {identity}: {files.totals(done.results)}, {done.seconds:.0f} s")
    _write(done, args)
    return done.exit_status


def _write(done: files.SuiteRun, args: argparse.Namespace) -> None:
    for place, text in ((args.junit, files.junit), (args.json, files.as_json)):
        if place:
            try:
                Path(place).write_text(text(done), encoding="utf-8")
            except OSError as error:
                raise UsageError(f"cannot write {place}: {error.strerror}") from error


def _print(line: str) -> None:
    output.out().print(Text(line), soft_wrap=True)
