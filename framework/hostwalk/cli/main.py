"""The command ``hostwalk``: finds the verb, runs it, and turns errors into one message and an exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import hostwalk
from hostwalk.cli import signals
from hostwalk.errors import UNTESTABLE, HostwalkError

BISECT, STOP_BISECT = "--bisect", 255
VERBS = {
    "check": "boot kernels, have them work, judge every claim from the host",
    "compare": "the same checks on two kernels, or a tree with and without patches: what changed",
    "run": "boot and run a command in the guest; its exit status is ours",
    "shell": "boot and give a prompt: in the guest, on its console, in Python, gdb or drgn",
    "walk": "print, search, compare page tables, of a machine of ours or any QEMU",
    "repro": "scripts that show a failure again: run, record, shrink, export",
    "kselftest": "the kernel's own selftests in guests, pinned pages looked for from the host",
    "ltp": "cases of the Linux Test Project in guests, likewise",
    "kernels": "list the kernels that can be named, or fetch one",
    "cache": "list or clear what was downloaded and built",
    "doctor": "say what this host lacks, and get it",
    "test": "run the project's own tests (needs a checkout)",
    "version": "say which hostwalk, Python and QEMU this is",
}
DESCRIPTION = """\
Boots a Linux kernel in QEMU, has it do memory-management work, and judges from the host, by
walking the guest's page tables, whether the kernel kept its contract."""
EPILOG = """\
examples:
  hostwalk check                               both architectures, Debian's 6.12 kernel
  hostwalk check --arch arm64 -k gup           only claims whose name has "gup" in it
  hostwalk check --kernel debian:6.1 --kernel debian:6.12 --junit report.xml
  hostwalk check --sabotage                    do the checks notice tampered memory?
  hostwalk compare debian:6.1 debian:6.12      what differs between two kernels
  hostwalk compare --patch series.mbox         what patches change, in a kernel's checkout
  hostwalk run --put ./test -- ./test          a program of one's own in a guest
  hostwalk doctor --fix                        install what is missing

exit status:
  0    every claim was kept                  2  the command line makes no sense
  1    a claim is broken, or got worse       3  infrastructure failed: nothing is proven
  125  the kernel could not be built or booted

environment:
  HOSTWALK_CACHE      where downloads and builds are kept (default: ~/.cache/hostwalk)
  HOSTWALK_INSTALL    yes: install missing host packages without asking; no: never
  HOSTWALK_DEBUG      1: show a traceback with every error
"""


def parser_for(verb: str | None) -> argparse.ArgumentParser:
    """Return the parser; only ``verb`` has its arguments, as only its module is imported."""
    parser = argparse.ArgumentParser(
        "hostwalk",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hostwalk {hostwalk.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for name, text in VERBS.items():
        below = verbs.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == verb:
            importlib.import_module(f"hostwalk.cli.{name}").arguments(below)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    _survive_any_terminal()
    if not words:
        parser_for(None).print_help()
        return 2
    verb = next((word for word in words if not word.startswith("-")), None)
    with signals.handled():
        if BISECT not in words:
            return _guarded(verb, words)
        return for_bisect(_ended(verb, words))


def for_bisect(status: int) -> int:
    """Return an exit status as git-bisect(1) takes it: what proves nothing must stop it, not count as bad."""
    return status if status in (0, 1, UNTESTABLE) or status >= 128 else STOP_BISECT


def _ended(verb: str | None, words: Sequence[str]) -> int:
    """Run a command line of which even a misspelt option ends in an exit status."""
    try:
        return _guarded(verb, words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _guarded(verb: str | None, words: Sequence[str]) -> int:
    try:
        args = parser_for(verb).parse_args(words)
        status = importlib.import_module(f"hostwalk.cli.{args.verb}").run(args)
        sys.stdout.flush()
        return int(status)
    except HostwalkError as error:
        _say(error, debug="-vv" in words)
        return error.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return signals.say_interrupted()
    except Exception as error:  # the last resort: a defect of hostwalk itself
        _say(error, debug="-vv" in words)
        return 3


def _say(error: Exception, *, debug: bool) -> None:
    wanted = debug or bool(os.environ.get("HOSTWALK_DEBUG"))
    importlib.import_module("hostwalk.cli.failure").say(error, debug=wanted)


def _survive_any_terminal() -> None:
    """Never fail for a character that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
