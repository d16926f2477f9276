"""``hostwalk walk``: page tables of a machine of ours, or of any QEMU."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostwalk import doctor, walking
from hostwalk.cache import Cache
from hostwalk.cli import output
from hostwalk.cli.check import ready
from hostwalk.cli.progress import busy, showing
from hostwalk.cli.question import asker
from hostwalk.errors import UsageError
from hostwalk.kernels.progress import Progress
from hostwalk.options import CheckOptions
from hostwalk.target import DEFAULT_KERNEL, Arch
from hostwalk.walking import Guest, Wanted
from hostwalk.walking.build import Sources, build_of

UNTIL_ENTER = -1.0
EPILOG = """\
examples:
  hostwalk walk --arch arm64 --task agent               the agent's tables, in a machine of ours
  hostwalk walk --qmp qmp.sock                          the processor's tables, of any QEMU
  hostwalk walk --qmp qmp.sock ffffffff81000000         one address: each level, and why it ended
  hostwalk walk --qmp qmp.sock --half kernel --writable --executable
  hostwalk walk --qmp qmp.sock --kernel debian:6.12 --task bash --tree
  hostwalk walk --qmp qmp.sock --kernel debian:6.12 --find 1234000 --all-tasks
  hostwalk walk --qmp qmp.sock --diff 2 --half user     what two seconds changed

Numbers are hexadecimal, with or without 0x. The machine is held still while its tables are read,
and left running or stopped as it was."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Print, search and compare page tables: of a QEMU that runs (--qmp), else of a machine that is booted\n"
        "for it. An option that may be repeated is marked +."
    )
    parser.epilog = EPILOG
    _machine(parser.add_argument_group("which machine"))
    _tables(parser.add_argument_group("which tables"))
    _what(parser.add_argument_group("what of them (without any: all that is mapped)"))
    _shown(parser.add_argument_group("how it is shown"))


def _machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--qmp", metavar="SOCKET", help="QMP socket of a running QEMU, or HOST:PORT")
    group.add_argument(
        "--gdb",
        metavar="SOCKET",
        help="its gdbstub's socket, or HOST:PORT; for arm64, where QEMU serves one already",
    )
    group.add_argument(
        "--kernel", metavar="SPEC",
        help=f"the kernel in the guest, to know its tasks and symbols (booted without --qmp: {DEFAULT_KERNEL})",
    )  # fmt: skip
    group.add_argument("--symbols", type=Path, metavar="FILE", help="its System.map")
    group.add_argument("--layout", type=Path, metavar="KO", help="the exerciser, as built for it")
    group.add_argument("--headers", type=Path, metavar="DIR", help="headers of a kernel given as a file")
    group.add_argument("--mirror", metavar="URL", help="Debian mirror (default: as apt is configured)")
    group.add_argument("--arch", default=platform.machine(), metavar="A", help="boot: x86_64 or arm64")
    group.add_argument(
        "--format", metavar="F", help="boot, or the --kernel is built for: 4level, 48bit, 64k-52bit, ..."
    )
    group.add_argument(
        "--accel", choices=("auto", "tcg", "kvm"), default="auto", help="boot: default %(default)s"
    )
    group.add_argument("--memory", type=int, default=256, metavar="MIB", help="boot: default %(default)s")
    group.add_argument("--smp", type=int, default=1, metavar="N", help="boot: default %(default)s")


def _tables(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--cpu", type=int, default=0, metavar="N", help="of this processor (default: 0)")
    group.add_argument("--root", type=_number, metavar="PHYS", help="those at a guest physical address")
    group.add_argument(
        "--task", action="append", default=[], metavar="PID|NAME", dest="tasks",
        help="+ of a process; needs --kernel, or --symbols and --layout",
    )  # fmt: skip
    group.add_argument("--all-tasks", action="store_true", help="of every process")
    group.add_argument("--half", choices=("user", "kernel"), help="only this half")


def _what(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "addresses", nargs="*", metavar="ADDRESS", help="each level's entry for an address, or a symbol"
    )
    group.add_argument(
        "--range", action="append", default=[], type=_range, metavar="START-END", dest="ranges",
        help="+ only what maps some of it; END is not part of it",
    )  # fmt: skip
    group.add_argument("--find", type=_number, metavar="PHYS", help="who maps this guest physical address")
    group.add_argument(
        "--diff", type=float, nargs="?", const=UNTIL_ENTER, metavar="SECONDS",
        help="what changes meanwhile; without a number, until Enter",
    )  # fmt: skip
    for name in walking.FILTERS:
        group.add_argument(
            f"--{name.replace('_', '-')}", action="append_const", const=name, dest="only", help=_HELP[name]
        )


_HELP = {
    "writable": "only what may be written, all levels counted",
    "executable": "only what may be executed",
    "user": "only what user space may access",
    "special": "only pte_special()",
    "dirty": "only pte_dirty()",
    "young": "only pte_young()",
    "soft_dirty": "only pte_soft_dirty()",
    "uffd_wp": "only pte_uffd_wp()",
    "prot_none": "only PROT_NONE pages and NUMA hints",
    "devmap": "only pte_devmap()",
    "large": "only large pages",
    "absent": "only what is not present: swap, migration, PROT_NONE ...",
}


def _shown(group: argparse._ArgumentGroup) -> None:
    styles = group.add_mutually_exclusive_group()
    styles.add_argument(
        "--tree", action="store_const", const="tree", dest="style", help="tables within tables"
    )
    styles.add_argument(
        "--leaves",
        action="store_const",
        const="leaves",
        dest="style",
        help="each entry, like neighbours not merged",
    )
    group.add_argument("--json", action="store_true", help="for programs; with --leaves each entry")
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say which machine this is and how its memory is read",
    )


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no hexadecimal number") from None


def _range(text: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    low, high = _number(start), _number(end) if dash else 0
    if low >= high:
        raise argparse.ArgumentTypeError(f"{text!r} is no range START-END")
    return low, high


def wanted_of(args: argparse.Namespace) -> Wanted:
    """Return the request that a command line makes; raises UsageError for one that contradicts itself."""
    if args.addresses and (args.ranges or args.find is not None or args.diff is not None or args.only):
        raise UsageError("an ADDRESS is walked by itself: no --range, --find, --diff or filters with it")
    if args.root is not None and (args.tasks or args.all_tasks):
        raise UsageError("--root and tasks both say which tables")
    if args.find is not None and args.diff is not None:
        raise UsageError("--find looks once: no --diff with it")
    if args.gdb and not args.qmp:
        raise UsageError("--gdb belongs to the QEMU behind --qmp")
    return Wanted(
        args.cpu, args.root, tuple(args.tasks), args.all_tasks, args.half, tuple(args.addresses),
        tuple(args.ranges), args.find, tuple(args.only or ()),
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Look and print; a page that is not there is an answer, not a failure."""
    wanted = wanted_of(args)
    with showing(output.err()) as progress, _guest(args, progress) as guest:
        if args.verbose:
            _introduce(guest)
        found: walking.Outcome | walking.Changes
        if args.diff is not None:
            found = walking.watch(guest, wanted, lambda: _pause(args.diff))
        else:
            found = walking.look(guest, wanted, tree=args.style == "tree" and not args.json)
    if args.json:
        json.dump(walking.plain(guest, found, each=args.style == "leaves"), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in walking.lines(found, args.style or "table"))
    return 0


@contextmanager
def _guest(args: argparse.Namespace, progress: Progress) -> Iterator[Guest]:
    sources = Sources(args.kernel, args.symbols, args.layout, args.headers, args.mirror, args.format or "")
    if args.qmp:
        with walking.attached(args.qmp, args.gdb, lambda arch: _build(sources, arch, progress)) as guest:
            yield guest
        return
    options = CheckOptions(
        kernels=(args.kernel or DEFAULT_KERNEL,), archs=(args.arch,), formats=(args.format,) if args.format else (),
        accel=args.accel, memory=args.memory, cpus=args.smp, mirror=args.mirror, headers=args.headers,
        symbols=args.symbols,
    )  # fmt: skip
    ready(options, progress)
    with walking.booted(options.targets[0], options, progress) as guest:
        yield guest


def _build(sources: Sources, arch: Arch, progress: Progress) -> walking.Build:
    if sources.kernel:
        tools = doctor.needed({arch}, archive=not Path(sources.kernel).is_file())
        doctor.ensure(tools, ask=asker(), busy=busy(progress))
    return build_of(sources, arch, Cache.user(), progress)


def _introduce(guest: Guest) -> None:
    err = output.err()
    err.print(guest.name, soft_wrap=True)
    err.print(f"memory by {guest.reader}", soft_wrap=True)
    err.print(f"RAM at {', '.join(str(region) for region in guest.memory.regions)}", soft_wrap=True)


def _pause(seconds: float) -> None:
    if seconds == UNTIL_ENTER:
        output.err().print("the machine goes on; press Enter to look again")
        sys.stdin.readline()
    else:
        threading.Event().wait(seconds)
