"""What the verbs that boot one machine share: the options that say which, and the machine itself."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostwalk import doctor
from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, prepare
from hostwalk.cells import Source
from hostwalk.cli.progress import busy
from hostwalk.cli.question import asker
from hostwalk.kernels.progress import Progress
from hostwalk.options import CheckOptions
from hostwalk.target import DEFAULT_KERNEL


def arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which machine."""
    group.add_argument(
        "--kernel", default=DEFAULT_KERNEL, metavar="SPEC",
        help="debian:6.12 (the default), debian:6.1, a .deb, a kernel file, or a tree in which one was built",
    )  # fmt: skip
    group.add_argument(
        "--arch", default=platform.machine(), metavar="A", help="x86_64 or arm64 (default: as here)"
    )
    group.add_argument("--format", metavar="F", help="page-table format: 4level, 5level, 48bit, 52bit")
    group.add_argument("--accel", choices=("auto", "tcg", "kvm"), default="auto", help="default: %(default)s")
    group.add_argument(
        "--memory", type=int, default=256, metavar="MIB", help="guest memory (default: %(default)s)"
    )
    group.add_argument("--smp", type=int, default=1, metavar="N", help="virtual CPUs (default: %(default)s)")
    group.add_argument("--mirror", metavar="URL", help="Debian mirror (default: as apt is configured)")
    group.add_argument("--headers", type=Path, metavar="DIR", help="headers of a kernel given as a file")
    group.add_argument("--symbols", type=Path, metavar="FILE", help="System.map of a kernel given as a file")


def options_of(args: argparse.Namespace) -> CheckOptions:
    """Return the request for one machine that a command line makes."""
    return CheckOptions(
        kernels=(args.kernel,), archs=(args.arch,), formats=(args.format,) if args.format else (),
        accel=args.accel, memory=args.memory, cpus=args.smp, mirror=args.mirror, headers=args.headers,
        symbols=args.symbols,
    )  # fmt: skip


def prepared(options: CheckOptions, progress: Progress) -> Prepared:
    """Return what a machine that can be logged in to is made of; raises what preparing raises."""
    target = options.targets[0]
    tools = (*doctor.needed({target.arch}, archive=False), *doctor.fetching())
    doctor.ensure(tuple(dict.fromkeys(tools)), ask=asker(), busy=busy(progress))
    return prepare(target, options, progress, Cache.user(), login=True)


@contextmanager
def logged_in(options: CheckOptions, progress: Progress) -> Iterator[Cell]:
    """Lend a machine that can be logged in to: a fork of its template, or where none can be made one that was booted.

    Raises what preparing and booting raise.
    """
    made_of = prepared(options, progress)
    with progress.task(f"boot {made_of.target}", None):
        cell = Source.of(made_of).make()
    try:
        yield cell
    finally:
        cell.close()
