"""``hostwalk run``: a command in a guest; its exit status is ours."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from hostwalk import drivers
from hostwalk.cache import Cache
from hostwalk.cell import Cell
from hostwalk.cli import failure, machines, output, watched
from hostwalk.cli.progress import showing
from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, GuestCrashError, HostwalkError, UsageError
from hostwalk.image import build_module
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.machine.pump import Streams
from hostwalk.target import Arch

CRASHED, TIMED_OUT, FAILED = 123, 124, 125
HOME = "/root"
EPILOG = """\
examples:
  hostwalk run -- uname -a
  hostwalk run --arch arm64 --put ./test -- ./test --verbose
  hostwalk run --kernel path/to/bzImage --module driver.ko -- sh -c 'cat /proc/modules'
  tar c . | hostwalk run -- tar tv
  hostwalk run --put ./test --watch -- ./test               what each call does to page tables and mappings

exit status: that of the command, and
  123  the guest's kernel crashed      126  the command cannot be run, or not here
  124  it did not end in time          127  there is no such command, or it lacks a library
  125  hostwalk failed: nothing is     128+N  signal N ended it
       known of the command            2  hostwalk's own command line makes no sense
git bisect run takes 123 for bad and skips 125."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = (
        "Boot a kernel and run a command in it as root, in /root. What it writes is passed on as it comes, and\n"
        "standard input, unless it is a terminal. The guest has no network; the command may have 256 processes and\n"
        "three quarters of the free memory, in which its files are, too. + may be repeated."
    )
    parser.epilog = EPILOG
    machines.arguments(parser.add_argument_group("which machine"))
    parser.add_argument(
        "--put", action="append", default=[], type=Path, metavar="FILE", help="+ copy a file into /root first"
    )
    parser.add_argument(
        "--module", action="append", default=[], metavar="FILE.ko", dest="modules",
        help="+ load a kernel module first, and unload it afterwards; of a directory, what its Kbuild builds; "
        "'FILE.ko pages=4' has parameters",
    )  # fmt: skip
    watched.arguments(parser)
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=600.0,
        metavar="S",
        help="kill the command then (default: %(default)g)",
    )
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="say on standard error what is done"
    )
    parser.add_argument("command", nargs="+", metavar="-- CMD ARG", help="what to run")


def seconds(text: str) -> float:
    """Return what ``--timeout`` says; raises ArgumentTypeError for no number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def run(args: argparse.Namespace) -> int:
    """Run the command; raises UsageError, and says every other error itself."""
    check_files(args)
    watched.check(args)
    try:
        options = machines.options_of(args)
        with ExitStack() as stack:
            with _progress(verbose=bool(args.verbose)) as progress:
                cell = stack.enter_context(machines.logged_in(options, progress))
                loaded = furnish(cell, args.put, args.modules, progress)
            return _in_guest(cell, args, loaded)
    except UsageError:
        raise
    except HostwalkError as error:
        failure.say(error, debug=args.verbose > 1)
        return status_of(error)


def status_of(error: HostwalkError) -> int:
    """Return the exit status for what kept a command from ending by itself."""
    if isinstance(error, CommandTimeoutError):
        return TIMED_OUT
    return CRASHED if isinstance(error, GuestCrashError) else FAILED


def check_files(args: argparse.Namespace) -> None:
    """Raise UsageError for files that cannot be put and modules that are none, before anything boots."""
    for path in args.put:
        if not path.is_file():
            raise UsageError(f"--put {path}: {_NO_FILE[path.is_dir()]}", remedy=_REMEDY[path.is_dir()])
    twice = [name for name, count in Counter(path.name for path in args.put).items() if count > 1]
    if twice:
        raise UsageError(f"--put: there are two files {twice[0]}, and both would be {HOME}/{twice[0]}")
    size = -(-sum(path.stat().st_size for path in args.put) >> 20)
    if 2 * size > args.memory:
        raise UsageError(
            f"--put: {size} MiB, and / holds half of the guest's {args.memory} MiB of memory",
            remedy=f"--memory {4 * size} or more",
        )
    for module in args.modules:
        _check_module(Path(module.partition(" ")[0]), Arch.parse(args.arch))


_NO_FILE = {False: "there is no such file", True: "it is a directory"}
_REMEDY = {False: "", True: "pass it by standard input: tar c DIR | hostwalk run -- sh -c 'tar x && ...'"}


def _check_module(path: Path, arch: Arch) -> None:
    if not path.exists():
        raise UsageError(f"--module {path}: there is no such file")
    if not path.is_dir():
        drivers.check(path, arch)


def _progress(*, verbose: bool) -> AbstractContextManager[Progress]:
    """Return what shows progress: on a terminal, or where asked for; else the command alone is heard."""
    console = output.err()
    return showing(console) if verbose or console.is_terminal else nullcontext(SILENT)


def furnish(cell: Cell, files: Sequence[Path], modules: Sequence[str], progress: Progress) -> list[str]:
    """Copy files into root's home and load modules, whose names it returns.

    Raises LoginError, and what :func:`load` raises.
    """
    for path in files:
        with progress.task(f"put {path.name}", None):
            cell.machine.ssh().put(path, f"{HOME}/{path.name}")
    return [load(cell, module, progress) for module in modules]


def _in_guest(cell: Cell, args: argparse.Namespace, loaded: list[str]) -> int:
    streams = Streams(_writer(sys.stdout.fileno()), _writer(sys.stderr.fileno()), _stdin())
    limit = Deadline.after(args.timeout)
    if args.watch is None:
        status = cell.machine.ssh().stream(args.command, streams, deadline=limit)
    else:
        status = watched.stream(cell, args, streams, limit)
    cell.machine.check()
    for left in drivers.unload(cell, loaded) if loaded else ():
        output.err().print(f"hostwalk: {left}", soft_wrap=True)
    cell.machine.check()
    _tell_reports(cell)
    return status


def load(cell: Cell, module: str, progress: Progress) -> str:
    """Load a module that ``--module`` names, and return its name; raises BuildError, ModuleRefusedError, UsageError."""
    name, _, parameters = module.partition(" ")
    path = Path(name)
    if path.is_dir():
        path = build_module(cell.prepared.kernel, path, Cache.user(), progress)
    with cell.agent.spawn() as loader:
        return drivers.load(cell, loader, path, parameters, shown=Path(name).resolve().name)


def _writer(descriptor: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]

    return write


def _stdin() -> int | bytes:
    """Return the descriptor of our standard input, or no bytes where there is none or a terminal."""
    return b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.fileno()


def _tell_reports(cell: Cell) -> None:
    for report in cell.machine.reports:
        output.err().print(f"hostwalk: the guest's kernel reported: {report.title}", soft_wrap=True)
