"""``hostwalk ltp``: cases of the Linux Test Project in guests, pinned pages looked for behind each."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hostwalk.cli import machines, output, suites
from hostwalk.cli.progress import showing
from hostwalk.suites.ltp import Ltp

VARIABLE, INSTALLED = "LTPROOT", "/opt/ltp"
EPILOG = """\
examples:
  hostwalk ltp mm --ltp /opt/ltp --kernel source:7.3
  hostwalk ltp syscalls -k 'mmap or mprotect' --arch arm64 --ltp ~/ltp-arm64
  hostwalk ltp mm --list

exit status: 0 nothing failed, 1 a test failed, crashed or left pages pinned, 2 usage, 3 something is unproven"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Run cases of the Linux Test Project, each in a fresh guest, and tell what they judge. Behind each the host\n"
        "looks for pages that are still pinned, and says whose they are. LTP is a build of your own, for the guest's\n"
        "architecture: Debian has no package of it."
    )
    parser.epilog = EPILOG
    parser.add_argument(
        "collection", metavar="FILE", help="which cases: mm, syscalls, or another file of runtest/"
    )
    parser.add_argument(
        "--ltp", type=Path, metavar="DIR", default=Path(os.environ.get(VARIABLE) or INSTALLED),
        help=f"where LTP is installed, or was built (default: {VARIABLE}, else {INSTALLED})",
    )  # fmt: skip
    suites.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the cases; raises what preparing raises."""
    suites.check(args)
    options = machines.options_of(args)
    suite = Ltp.of(args.ltp.expanduser(), args.collection, options.targets[0].arch)
    chosen = suites.select(suite.steps(), args.keyword)
    with showing(output.err()) as progress:
        prepared = machines.prepared(options, progress)
    return suites.Session(suite, prepared, chosen, args).run()
