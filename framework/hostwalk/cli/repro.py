"""``hostwalk repro``: scripts that show a failure again: run, record, shrink, export; exact.py has more deeds."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hostwalk import runner
from hostwalk.cli import exact, output
from hostwalk.cli.arguments import positive
from hostwalk.cli.check import ready
from hostwalk.cli.progress import showing, telling
from hostwalk.errors import (
    BootError,
    BuildError,
    BuildInterruptedError,
    FetchError,
    GuestHungError,
    HostwalkError,
    LaunchError,
    ResolveError,
    UsageError,
)
from hostwalk.exact.making import LIMIT
from hostwalk.guest.agent import OPERATION_SECONDS
from hostwalk.options import CheckOptions
from hostwalk.repro import session
from hostwalk.repro.edits import with_function
from hostwalk.repro.export import export
from hostwalk.repro.pin import Pin
from hostwalk.repro.record import Recorded, write
from hostwalk.repro.run import EXIT_STATUS, Outcome, Result, Stage, stage_for
from hostwalk.repro.script import Script, load
from hostwalk.repro.shrink import Shrinker, Tally
from hostwalk.target import DEFAULT_KERNEL

NOT_BUILT = 125
SHRINK_SECONDS = 5.0
EPILOG = """\
examples:
  hostwalk check -k mlock --repro-dir repros          each broken claim leaves a script
  hostwalk repro run repros/mlock_error_1.py          does it reproduce?
  hostwalk repro run FILE --kernel path/to/bzImage --headers path/to/build
  hostwalk repro record tests/test_mine.py::test_it   a test, a user script, or (without) a prompt
  hostwalk repro shrink FILE                          to the steps that it needs
  hostwalk repro export --c FILE -o DIR               a C program for a mail
  hostwalk repro record --exact FILE                  the execution itself: FILE.exact.zip
  hostwalk repro replay FILE.exact.zip --gdb          the same again, stopped where the verdict falls
  hostwalk repro who-wrote FILE.exact.zip --entry 'area[0]'

exit status of run:
  1  it reproduces (some of the tries did)    0  it does not
  3  nothing is proven, or another failure    125  a kernel or module could not be built or booted
"""
_STYLES = {
    Result.REPRODUCES: "bold red",
    Result.KEPT: "green",
    Result.OTHER: "yellow",
    Result.UNPROVEN: "yellow",
}
_MARKS = {Result.REPRODUCES: "✘", Result.KEPT: "✔", Result.OTHER: "?", Result.UNPROVEN: "?"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = "Scripts that show a failure again."
    parser.epilog = EPILOG
    deeds = parser.add_subparsers(dest="deed", metavar="DEED", required=True)
    _run_arguments(deeds.add_parser("run", help="run a script: does it reproduce?"))
    _record_arguments(
        deeds.add_parser("record", help="make a script of a test, a small program, or what is typed")
    )
    exact.replay_arguments(
        deeds.add_parser("replay", help="run a recorded execution again, equal at each checkpoint")
    )
    exact.who_wrote_arguments(
        deeds.add_parser(
            "who-wrote", help="find the instruction of a recorded execution that last wrote something"
        )
    )
    _shrink_arguments(deeds.add_parser("shrink", help="make a script as small as it can be"))
    _export_arguments(deeds.add_parser("export", help="make a program of a script that needs no hostwalk"))


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--tries", type=positive, default=1, metavar="N", help="runs (default: %(default)s)")
    _target(parser)


def _record_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", metavar="TEST|FILE", help="node id, or a program (default: a prompt)"
    )
    parser.add_argument(
        "-o", dest="output", type=Path, default=Path(), metavar="DIR", help="where to (default: here)"
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="record the execution of a script, instruction by instruction: replay",
    )
    parser.add_argument(
        "--limit", type=positive, default=LIMIT >> 20, metavar="MIB",
        help="largest log of an execution (default: %(default)s)",
    )  # fmt: skip
    _target(parser)


def _shrink_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "-o", dest="output", type=Path, metavar="FILE", help="where to (default: NAME_shrunk.py)"
    )
    parser.add_argument(
        "--tries", type=positive, default=1, metavar="N",
        help="runs that a candidate has to reproduce once, for failures that do not always come",
    )  # fmt: skip
    _target(parser)


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "--c", action="store_true", required=True, help="in C, with a module where it needs one"
    )
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", help="where to (default: NAME, here)")


def _target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("another target than the script's own")
    group.add_argument("--kernel", metavar="SPEC", help="as for hostwalk check")
    group.add_argument("--arch", metavar="A", help="x86_64 or arm64")
    group.add_argument("--format", metavar="F", help="page-table format")
    group.add_argument("--accel", choices=("auto", "tcg", "kvm"))
    group.add_argument("--memory", type=int, metavar="MIB")
    group.add_argument("--smp", type=int, metavar="N", dest="cpus")
    group.add_argument("--seed", type=lambda text: int(text, 0), metavar="N", help="other random numbers")
    group.add_argument("--headers", type=Path, metavar="DIR", help="headers of a kernel given as a file")
    group.add_argument("--symbols", type=Path, metavar="FILE", help="System.map of a kernel given as a file")
    group.add_argument("--mirror", metavar="URL", help="Debian mirror")


def run(args: argparse.Namespace) -> int:
    """Do it; return the exit status."""
    deeds = {
        "run": _run, "record": _record, "shrink": _shrink, "export": _export, "replay": exact.replayed,
        "who-wrote": exact.found_writer,
    }  # fmt: skip
    return deeds[args.deed](args)


def main(file: str) -> None:
    """Run the script ``file`` with the command line's further arguments, as ``hostwalk repro run`` does; exits."""
    from hostwalk.cli.main import main as command  # noqa: PLC0415 (the command line finds this module by its name)

    sys.exit(command(["repro", "run", file, *sys.argv[1:]]))


def _wanted(args: argparse.Namespace, pin: Pin) -> Pin:
    names = ("kernel", "arch", "format", "accel", "memory", "cpus", "seed")
    return pin.moved(**{name: getattr(args, name) for name in names})


def _options(args: argparse.Namespace, pin: Pin) -> CheckOptions:
    target = pin.target
    return CheckOptions(
        kernels=(target.kernel,), archs=(str(target.arch),), formats=(target.format,), accel=target.accel,
        memory=target.memory, cpus=target.cpus, headers=args.headers, symbols=args.symbols, mirror=args.mirror,
    )  # fmt: skip


def staged(args: argparse.Namespace, pin: Pin) -> Stage:
    """Return a stage for a pin and what the command line changes of it; raises what preparing and booting raise."""
    wanted = _wanted(args, pin)
    target, options = wanted.target, _options(args, wanted)
    with showing(output.err()) as progress:
        ready(options, progress)
        try:
            return stage_for(target, options, wanted.seed, progress)
        except (FetchError, ResolveError) as error:
            if args.kernel is None:
                there = error.remedy or "it may not be there any more"
                error.remedy = f"{there}; or point the script at another kernel: --kernel SPEC"
            raise


def _run(args: argparse.Namespace) -> int:
    script = load(args.file)
    console = output.out()
    try:
        stage = staged(args, script.pin)
        with stage:
            _head(console, script, stage)
            outcomes = [stage.run(script) for _ in range(args.tries)]
    except (BuildError, LaunchError, BootError) as error:
        return not_built(error)
    _tail(console, outcomes)
    return status_of(outcomes)


def _record(args: argparse.Namespace) -> int:
    if args.exact:
        return exact.recorded(args, lambda pin: _wanted(args, pin), _options)
    pin = Pin(arch=args.arch or platform.machine(), kernel=DEFAULT_KERNEL, format="", accel="auto")
    try:
        made = _recorded(args, pin)
    except (BuildError, LaunchError, BootError) as error:
        return not_built(error)
    for each in made:
        output.out().print(Text(str(each)), soft_wrap=True)
    return 0 if all(each.held == each.tries for each in made) else EXIT_STATUS[Result.UNPROVEN]


def _recorded(args: argparse.Namespace, pin: Pin) -> list[Recorded]:
    file = Path(args.what.split("::")[0]) if args.what else None
    if file is not None and not file.is_file():
        raise UsageError(
            f"there is no {file}", remedy="give a test's node id, a Python file, or nothing for a prompt"
        )
    if file is not None and ("::" in args.what or session.has_tests(file)):
        options = replace(_options(args, _wanted(args, pin)), repro_dir=args.output)
        with showing(output.err()) as progress:
            ready(options, progress)
            return runner.record_tests(args.what, options, progress)
    run = session.program(file) if file else session.prompt
    with staged(args, pin) as stage:
        return [session.record(stage, run, file.stem if file else "prompt", args.output)]


def _shrink(args: argparse.Namespace) -> int:
    script = load(args.file)
    target = args.output or args.file.with_name(f"{args.file.stem}_shrunk.py")
    try:
        with staged(args, script.pin) as stage:
            _head(output.out(), script, stage)
            small = _shrunk(script, stage, args.tries)
    except (BuildError, LaunchError, BootError) as error:
        return not_built(error)
    write(target, with_function(script.text, script.function, small.function))
    output.out().print(Text(f"  {target}", "bold"), soft_wrap=True)
    return 0


def _shrunk(script: Script, stage: Stage, tries: int) -> Script:
    """Return a smaller script; raises UsageError where there is nothing to shrink."""
    first = [stage.run(script) for _ in range(max(tries, 1))]
    if status_of(first) != EXIT_STATUS[Result.REPRODUCES]:
        raise HostwalkError(
            f"{script.path} {first[0].result} here: there is nothing to shrink",
            remedy="give its own target, or more --tries",
        )
    stage.seconds = SHRINK_SECONDS

    def reproduces(candidate: Script) -> bool:
        return any(_patient(stage, candidate).result is Result.REPRODUCES for _ in range(tries))

    start = time.monotonic()
    with telling(output.err()) as show:
        shrinker = Shrinker(script, reproduces, lambda tally: show(_told(tally, start)))
        small = shrinker.shrink()
    output.out().print(Text(f"  {_told(shrinker.tally, start)}"))
    return small


def _patient(stage: Stage, candidate: Script) -> Outcome:
    """Run a candidate; one that seems to hang gets all the time once, for a loaded host is slow as well."""
    outcome = stage.run(candidate)
    if not isinstance(outcome.error, GuestHungError):
        return outcome
    stage.seconds, before = OPERATION_SECONDS, stage.seconds
    try:
        return stage.run(candidate)
    finally:
        stage.seconds = before


def _told(tally: Tally, start: float) -> str:
    seconds = max(time.monotonic() - start, 0.001)
    pace = f"{60 * tally.tries / seconds:.0f} a minute"
    return f"{tally.steps} of {tally.first} steps left after {tally.tries} tries, {tally.hits} of them smaller ({pace})"


def _export(args: argparse.Namespace) -> int:
    made = export(load(args.file))
    for path in made.save(args.output or Path(args.file.stem)):
        output.out().print(Text(str(path)), soft_wrap=True)
    if not made.seen_inside:
        output.out().print(
            Text("only a host sees the failure: the program does the steps and says where to look")
        )
    return 0


def not_built(error: HostwalkError) -> int:
    """Say what could not be built or booted; return the status that has git bisect go on to another commit.

    It is that of the error where the build was interrupted: the next commit would have no better chance.
    """
    from hostwalk.cli.failure import say  # noqa: PLC0415 (only where something failed)

    say(error)
    return error.exit_status if isinstance(error, BuildInterruptedError) else NOT_BUILT


def status_of(outcomes: list[Outcome]) -> int:
    """Return 1 if one run reproduces, 0 if none fails, else 3; 125 for a machine that did not come up."""
    results = [outcome.result for outcome in outcomes]
    if Result.REPRODUCES in results:
        return EXIT_STATUS[Result.REPRODUCES]
    return max(EXIT_STATUS[result] for result in results)


def _head(console: Console, script: Script, stage: Stage) -> None:
    console.print(Text(f"{script.path.name}: {script.title}", "bold"), soft_wrap=True)
    pin = stage.pin
    console.print(
        Text(
            f"  Linux {pin.release} ({pin.image[:12]}), {pin.arch} {pin.format}, QEMU {pin.qemu}, {pin.accel}"
        )
    )
    for change in script.pin.changed(pin):
        console.print(Text(f"  changed since it was recorded: {change}", "yellow"), soft_wrap=True)
    if stage.template is None:
        console.print(Text(f"  booted for each run: no template ({stage.reason})", "dim"), soft_wrap=True)


def _tail(console: Console, outcomes: list[Outcome]) -> None:
    """Print the runs' results: the first of each kind in full, the others counted."""
    for result in dict.fromkeys(outcome.result for outcome in outcomes):
        same = [outcome for outcome in outcomes if outcome.result is result]
        count = f" in {len(same)} of {len(outcomes)} runs" if len(outcomes) > 1 else ""
        console.print(Text(f"  {_MARKS[result]} {result}{count}", _STYLES[result]))
        _detail(console, same[0])


def _detail(console: Console, outcome: Outcome) -> None:
    lines = [str(outcome.failure)] if outcome.failure else []
    lines += [line for line in outcome.said.splitlines() if line not in lines]
    lines += outcome.story if outcome.result in (Result.REPRODUCES, Result.OTHER) else ()
    for line in lines:
        console.print(Text(f"      {line}"), soft_wrap=True)
    if outcome.error is not None and str(outcome.error.evidence):
        console.print(Text(str(outcome.error.evidence), "dim"), soft_wrap=True)
