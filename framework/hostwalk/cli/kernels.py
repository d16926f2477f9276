"""``hostwalk kernels``: which kernels can be named, and getting one before it is needed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from rich.table import Table

from hostwalk import doctor, kernels
from hostwalk.cache import Cache
from hostwalk.cli import output
from hostwalk.cli.progress import busy, showing
from hostwalk.cli.question import asker
from hostwalk.kernels.progress import Progress
from hostwalk.kernels.versions import upstream
from hostwalk.target import DEFAULT_KERNEL, Arch, Target, is_from_source

SPECS = f"""\
how kernels are named:
  {DEFAULT_KERNEL}              the default: the newest 6.12, cloud flavour
  debian:6.1               the newest 6.1
  debian:6.12.117-1        that version
  debian:6.12-rt           a flavour: cloud, generic, rt; arm64 also: 16k
  PATH.deb                 a package that holds a kernel
  PATH                     a kernel file, or a tree in which one was built
  source:7.3               built from Debian's newest source of that version
  tree:PATH                built from a git tree or an unpacked source
  ...+debug                built as a debug kernel: source:7.3+debug"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "List Debian's kernels, or fetch and unpack one with what modules for it are built with."
    )
    parser.epilog = SPECS
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    names = actions.add_parser("list", help="the kernels that Debian has now")
    names.add_argument("--all", action="store_true", help="every version, not only the newest of each kind")
    _common(names)
    fetch = actions.add_parser(
        "fetch", help="get kernels into the cache", epilog=SPECS, formatter_class=parser.formatter_class
    )
    fetch.add_argument("specs", nargs="+", metavar="SPEC")
    fetch.add_argument(
        "--format", default="", metavar="F", help="page-table format to build a kernel for (arm64)"
    )
    _common(fetch)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--arch", action="append", default=[], metavar="A", help="x86_64 or arm64 (default: both)"
    )
    parser.add_argument("--mirror", metavar="URL", help="Debian mirror (default: as apt is configured)")
    parser.add_argument("--refresh", action="store_true", help="read Debian's package index again")


def run(args: argparse.Namespace) -> int:
    """List or fetch."""
    archs = [Arch.parse(arch) for arch in args.arch] or list(Arch)
    cache = Cache.user()
    with showing(output.err()) as progress:
        doctor.ensure(_tools(args, archs), cache=cache, ask=asker(), busy=busy(progress))
        if args.refresh:
            kernels.refresh(cache=cache, mirror=args.mirror, progress=progress)
        (_list if args.action == "list" else _fetch)(args, archs, cache, progress)
    return 0


def _tools(args: argparse.Namespace, archs: Sequence[Arch]) -> tuple[doctor.Tool, ...]:
    if any(is_from_source(spec) for spec in getattr(args, "specs", ())):
        return doctor.needed(archs, builds=True)
    return doctor.fetching()


def _list(args: argparse.Namespace, archs: Iterable[Arch], cache: Cache, progress: Progress) -> None:
    table = Table(
        "arch", "name", "release", "package version", box=None, padding=(0, 3, 0, 0), header_style="dim"
    )
    for arch in archs:
        found = kernels.available(arch, cache=cache, mirror=args.mirror, progress=progress)
        named = {spec_of(image, exact=args.all): image for image in found}
        for spec, image in reversed(named.items()):
            table.add_row(arch, spec, image.release, image.package.version)
    output.out().print(table)


def _fetch(args: argparse.Namespace, archs: Sequence[Arch], cache: Cache, progress: Progress) -> None:
    for spec in args.specs:
        for arch in archs:
            kernel = kernels.resolve(
                spec, arch, cache=cache, mirror=args.mirror, progress=progress,
                page_format=Target(arch, spec, args.format).format,
            )  # fmt: skip
            lacks = "" if kernel.headers else "\n  without headers: the exerciser cannot be built for it"
            output.out().print(f"{spec} {arch}: {kernel.release}\n  {kernel.boot}{lacks}", soft_wrap=True)


def spec_of(image: kernels.DebianImage, *, exact: bool) -> str:
    """Return a name: ``debian:6.12-rt`` for the newest of its kind, ``debian:6.12.117-rt`` if exact."""
    version = upstream(image.package.version)
    series = version if exact else ".".join(version.split(".")[:2])
    flavour = image.flavour.removesuffix(f"-{image.package.arch}")
    own = "generic" if flavour == image.package.arch else flavour
    return f"debian:{series}{'' if own == 'cloud' else f'-{own}'}"
