"""``hostwalk kselftest``: the kernel's own selftests in guests, pinned pages are looked for behind each."""

from __future__ import annotations

import argparse

from hostwalk.cache import Cache
from hostwalk.cell import Prepared
from hostwalk.cli import machines, output, suites
from hostwalk.cli.progress import showing
from hostwalk.kernels import Progress
from hostwalk.options import CheckOptions
from hostwalk.suites.building import Built, built_for
from hostwalk.suites.expected import Known
from hostwalk.suites.kselftests import MANIFEST, Kselftests, without_extra

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
        "line that it judges. Behind each the host looks for pages that are still pinned, and says whose they are."
    )
    parser.epilog = EPILOG
    parser.add_argument("collection", choices=("mm",), help="which selftests")
    parser.add_argument("--all", action="store_true", help="also what run_vmtests.sh runs only with -a")
    suites.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the suite; raises what preparing raises."""
    suites.check(args)
    with showing(output.err()) as progress:
        prepared, built = made_ready(args.collection, machines.options_of(args), progress)
    suite = Kselftests(args.collection, built, Known.of(MANIFEST, args.collection))
    known = suite.steps() if args.all else tuple(without_extra(suite.steps()))
    return suites.Session(suite, prepared, suites.select(known, args.keyword), args).run()


def made_ready(collection: str, options: CheckOptions, progress: Progress) -> tuple[Prepared, Built]:
    """Return what machines are made of, and the collection built from the source of their kernel."""
    prepared = machines.prepared(options, progress)
    return prepared, built_for(prepared, collection, options, Cache.user(), progress)
