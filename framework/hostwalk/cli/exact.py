"""``hostwalk repro record --exact``, ``replay`` and ``who-wrote``: executions that are recorded and replayed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.text import Text

from hostwalk.cache import Cache
from hostwalk.cell import Cell, prepare
from hostwalk.cli import debuggers, output, prompt
from hostwalk.cli.arguments import positive
from hostwalk.cli.check import ready
from hostwalk.cli.progress import showing, telling
from hostwalk.errors import FetchError, HostwalkError, MissingToolError, ResolveError, UsageError
from hostwalk.exact.making import record, require_recordable
from hostwalk.exact.playing import AtVerdict, Player, Replay, player
from hostwalk.exact.recording import Recording, marked, require_place
from hostwalk.exact.writer import ENTRY_BYTES, Change, Question, Search, who_wrote
from hostwalk.kernels import resolve
from hostwalk.options import CheckOptions
from hostwalk.repro.pin import Pin
from hostwalk.repro.run import Result
from hostwalk.repro.script import load
from hostwalk.witness import Witness

SUFFIX = ".exact.zip"
Options = Callable[[argparse.Namespace, Pin], CheckOptions]
Say = Callable[[str], None]


def replay_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``replay``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what repro record --exact has written")
    parser.add_argument(
        "--times", type=positive, default=1, metavar="N", help="replays (default: %(default)s)"
    )
    kinds = parser.add_mutually_exclusive_group()
    for kind in ("python", "gdb", "drgn"):
        kinds.add_argument(
            f"--{kind}", action="store_const", const=kind, dest="kind",
            help=f"stop where the verdict falls, with {kind} attached",
        )  # fmt: skip
    parser.add_argument("--vmlinux", type=Path, metavar="FILE", help="the kernel with debug information")
    _kernel(parser)


def who_wrote_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``who-wrote``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what repro record --exact has written")
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        help="a number, a name of the script such as area[1], or a kernel symbol",
    )
    parser.add_argument(
        "--entry", action="store_true", help="the entry that maps it, instead of what is there"
    )
    parser.add_argument(
        "--level", default="", metavar="L", help="the entry at this level: pgd, p4d, pud, pmd, pte"
    )
    parser.add_argument("--physical", action="store_true", help="the address is a physical one")
    parser.add_argument(
        "--size", type=positive, default=ENTRY_BYTES, metavar="N", help="bytes (default: %(default)s)"
    )
    _kernel(parser)


def _kernel(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the kernel of the recording is")
    group.add_argument("--kernel", metavar="SPEC", help="as for hostwalk check")
    group.add_argument("--headers", type=Path, metavar="DIR", help="headers of a kernel given as a file")
    group.add_argument("--symbols", type=Path, metavar="FILE", help="System.map of a kernel given as a file")
    group.add_argument("--mirror", metavar="URL", help="Debian mirror")


def recorded(args: argparse.Namespace, wanted: Callable[[Pin], Pin], options: Options) -> int:
    """Record the execution of a script; return the exit status."""
    if not args.what or not Path(args.what).is_file():
        raise UsageError("--exact takes a repro script", remedy="give a file that hostwalk has recorded")
    script = load(Path(args.what))
    pin = wanted(script.pin).moved(accel="tcg")
    require_recordable(pin.target)
    path = args.output / f"{script.path.stem}{SUFFIX}" if args.output.suffix != ".zip" else args.output
    require_place(path)
    with showing(output.err()) as progress:
        given = options(args, pin)
        ready(given, progress)
        prepared = prepare(pin.target, given, progress, Cache.user())
        with progress.task("run it plainly, then record it", None):
            made = record(script, prepared, args.limit << 20)
    size = made.save(path)
    _say(f"{script.path.name}: {script.title}", "bold")
    _say(f"  {made.said}")
    for line in marked(made.marks):
        _say(f"  {line}")
    cost = made.cost
    _say(
        f"  {path}: {size:,} bytes, of which the log {cost.log:,} before compression; {made.marks[-1].icount:,}"
        f" instructions in {cost.recorded:.1f} s, a plain run takes {cost.plain:.1f} s ({cost.slowdown:.1f} times)"
    )
    return 0


def replayed(args: argparse.Namespace) -> int:
    """Replay a recording; return 0 if it was equal at every checkpoint that is compared each time, else 3."""
    recording = Recording.load(args.file)
    tool = debuggers.found(args.kind, recording.pin.arch)
    playing = _player(args, recording)
    debuggers.require_vmlinux(args.kind, args.vmlinux, playing.prepared.kernel)
    _head(playing.recording)
    exact = 0
    for number in range(1, args.times + 1):
        found = playing.perform(_stop(args, tool))
        exact += found.exact and found.outcome.result is Result.REPRODUCES
        _replay_line(number, found, recording)
    _say(
        f"  equal at every checkpoint that is compared in {exact} of {args.times} replays",
        "bold green" if exact == args.times else "bold red",
    )
    return 0 if exact == args.times else HostwalkError.exit_status


def _replay_line(number: int, found: Replay, recording: Recording) -> None:
    good = found.compared - found.equal.count(False)
    slower = found.seconds / max(recording.cost.plain, 0.001)
    _say(
        f"  {number:>3}: {good} of {found.compared} compared checkpoints equal,"
        f" {len(found.equal) - found.compared} not compared, it {found.outcome.result},"
        f" {found.seconds:.1f} s ({slower:.1f} times a plain run)"
    )
    if found.outcome.said and found.outcome.result is not Result.REPRODUCES:
        _say(f"       {found.outcome.said}", "red")
    if not found.exact:
        first = found.equal.index(False) if False in found.equal else len(found.equal)
        _say(f"       first difference at checkpoint {first + 1}: {recording.marks[first].what}", "red")


def _head(recording: Recording) -> None:
    pin = recording.pin
    _say(f"{recording.script.path.name}: {recording.script.title}", "bold")
    _say(
        f"  Linux {pin.release} ({pin.image[:12]}), {pin.arch} {pin.format}, QEMU {pin.qemu}, {recording.said}"
    )


def _player(args: argparse.Namespace, recording: Recording) -> Player:
    pin, target = recording.pin, recording.pin.target
    with showing(output.err()) as progress:
        ready(CheckOptions(archs=(pin.arch,), accel="tcg", mirror=args.mirror), progress)
        try:
            kernel = resolve(
                args.kernel or pin.kernel, target.arch, cache=Cache.user(), mirror=args.mirror, progress=progress,
                headers=args.headers, symbols=args.symbols, page_format=target.format,
            )  # fmt: skip
        except MissingToolError:
            raise
        except (FetchError, ResolveError) as error:
            there = error.remedy or "it may not be there any more"
            error.remedy = f"{there}; or say where the recorded kernel is: --kernel SPEC"
            raise
        return player(recording, kernel, Cache.user())


def _stop(args: argparse.Namespace, tool: str) -> AtVerdict:
    """Return what stops at the verdict; who leaves a prompt by exit() has the replay go on, too."""

    def stop(cell: Cell, given: dict[str, object]) -> None:
        names = in_hand(cell, given)
        with suppress(SystemExit):
            match args.kind:
                case "python":
                    prompt.python(cell, names)
                case "gdb":
                    debuggers.gdb(cell, tool, args.vmlinux)
                case "drgn":
                    debuggers.drgn(cell, args.vmlinux, names)

    return stop


def in_hand(cell: Cell, names: dict[str, object]) -> dict[str, Any]:
    """Return what is at hand where the verdict falls: a witness of this moment, and the names of the script."""
    moment = cell.moment()
    return {
        **names, "cell": cell, "machine": cell.machine,
        "witness": Witness(cell), "memory": cell.memory, "linux": moment.linux, "moment": moment,
        "symbols": cell.prepared.kernel.symbols, "layout": cell.prepared.image.layout,
    }  # fmt: skip


def found_writer(args: argparse.Namespace) -> int:
    """Find who wrote what is asked for; return 0, or 3 where the bytes were never changed."""
    playing = _player(args, Recording.load(args.file))
    _head(playing.recording)
    start = time.monotonic()
    with telling(output.err()) as show:
        question = Question(
            args.address, args.entry or bool(args.level), args.level, args.physical, args.size
        )
        place, search, changes = who_wrote(playing, question, show)
    _say(f"  {place.words}")
    for change in changes:
        _change(change, search)
    if not changes:
        _say("  nobody: the bytes are as they were before the first instruction", "yellow")
    _say(f"  {search.replays + 1} replays, {time.monotonic() - start:.1f} s")
    return 0 if changes else HostwalkError.exit_status


def _change(change: Change, search: Search) -> None:
    when = f", {change.uptime:.3f} s after the kernel's start" if change.uptime is not None else ""
    who = f", {change.task}" if change.task else ""
    _say(f"  {change.difference}", "bold")
    _say(f"    instruction {change.icount:,}{when}{who}, {search.during(change.icount)}")
    if change.walker:
        _say(f"    by the processor's table walk, for the access at {change.at}")
        return
    for frame in change.frames or (change.at,):
        _say(f"      {frame}")
    if not all(frame.sure for frame in change.frames):
        _say("      (? was found on the stack: it may be left over from an earlier call)", "dim")


def _say(text: str, style: str = "") -> None:
    output.out().print(Text(text, style), soft_wrap=True)
