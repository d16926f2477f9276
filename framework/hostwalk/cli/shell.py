"""``hostwalk shell``: a prompt in a guest, on its console, or in Python with the machine in hand."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hostwalk.cell import Cell
from hostwalk.cli import debuggers, machines, output, prompt, terminal
from hostwalk.cli.progress import showing
from hostwalk.cli.run import check_files, furnish
from hostwalk.errors import GuestCrashError, LoginError
from hostwalk.machine import Machine
from hostwalk.machine.ssh import Ssh

EPILOG = """\
examples:
  hostwalk shell                          bash in the guest, over SSH
  hostwalk shell --arch arm64 --console   the serial console: kernel messages, SysRq; Ctrl-] leaves
  hostwalk shell --python                 machine, agent, subject, witness, memory, linux at a Python prompt
  hostwalk shell --gdb                    gdb on QEMU's gdbstub, with the kernel's symbols
  hostwalk shell --drgn --vmlinux FILE    drgn on the guest's memory, with debug information

exit status: that of bash, of gdb, or what exit(N) says in Python; 0 when the console is left;
255 when bash is left by Enter ~ . ; 123 the guest's kernel crashed; 3 the machine failed."""
LEFT, CRASHED = 255, 123


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = "Boot a kernel and give a prompt; the machine ends with it. + may be repeated."
    parser.epilog = EPILOG
    kinds = parser.add_mutually_exclusive_group()
    for kind, text in _KINDS.items():
        kinds.add_argument(f"--{kind}", action="store_const", const=kind, dest="kind", help=text)
    machines.arguments(parser.add_argument_group("which machine"))
    parser.add_argument(
        "--put", action="append", default=[], type=Path, metavar="FILE", help="+ copy a file into /root first"
    )
    parser.add_argument(
        "--module", action="append", default=[], metavar="FILE.ko", dest="modules",
        help="+ load a kernel module first, or what the Kbuild of a directory builds",
    )  # fmt: skip
    parser.add_argument(
        "--vmlinux", type=Path, metavar="FILE", help="the kernel with debug information, for --gdb, --drgn"
    )


_KINDS = {
    "console": "the serial console instead of SSH",
    "python": "a Python prompt on the host",
    "gdb": "gdb, attached",
    "drgn": "drgn, attached",
}


def run(args: argparse.Namespace) -> int:
    """Give the prompt; return the shell's exit status."""
    if args.kind in (None, "console"):
        terminal.need_terminal("hostwalk shell")
    check_files(args)
    opened = debuggers.found(args.kind, args.arch)
    with ExitStack() as stack:
        with showing(output.err()) as progress:
            cell = stack.enter_context(machines.logged_in(machines.options_of(args), progress))
            furnish(cell, args.put, args.modules, progress)
        try:
            return _session(args, cell, opened)
        except GuestCrashError as error:
            error.exit_status = CRASHED
            raise


def _session(args: argparse.Namespace, cell: Cell, tool: str) -> int:
    debuggers.require_vmlinux(args.kind, args.vmlinux, cell.prepared.kernel)
    match args.kind:
        case "console":
            return on_console(cell.machine)
        case "python":
            return prompt.python(cell)
        case "gdb":
            return debuggers.gdb(cell, tool, args.vmlinux)
        case "drgn":
            return debuggers.drgn(cell, args.vmlinux)
    return in_guest(cell.machine)


def in_guest(machine: Machine) -> int:
    """Lend our terminal to a login shell; return its exit status, 255 where it was left by Enter ~ .

    Raises LoginError where the connection ends first, and what the machine's ``watch`` raises.
    """
    ssh: Ssh = machine.ssh()
    channel = ssh.shell(os.environ.get("TERM", "vt100"), *terminal.size())

    def over() -> bool:
        machine.watch()
        return bool(channel.closed or (channel.eof_received and channel.exit_status_ready()))

    def take() -> bytes:
        return channel.recv(terminal.CHUNK) if channel.recv_ready() else b""

    line = terminal.Line(channel.fileno(), take, channel.sendall, over, channel.resize_pty)
    if terminal.interact(line, leave=terminal.ESCAPE):
        sys.stderr.write("\nhostwalk: left\n")
        return LEFT
    if channel.exit_status < 0:
        machine.watch()
        raise LoginError("the connection ended before the shell did")
    return channel.exit_status


def on_console(machine: Machine) -> int:
    """Lend our terminal to the serial console, where Enter starts a shell; Ctrl-] leaves."""
    console = machine.console
    sys.stderr.write("hostwalk: the guest's console; Ctrl-] leaves\n")
    columns, lines = terminal.size()
    console.send("\n")
    console.send(
        f" export TERM={os.environ.get('TERM', 'vt100')}; stty columns {columns} rows {lines}; clear\n"
    )
    terminal.interact(
        terminal.Line(console.fileno(), _news(machine), console.write, _ended(machine)), leave=terminal.LEAVE
    )
    sys.stdout.write("\n")
    return 0


def _news(machine: Machine) -> Callable[[], bytes]:
    """Return a function that returns what the console has printed since it was last called."""
    seen = machine.console.printed

    def take() -> bytes:
        nonlocal seen
        data = machine.console.bytes_since(seen)
        seen += len(data)
        return data

    return take


def _ended(machine: Machine) -> Callable[[], bool]:
    def over() -> bool:
        machine.watch()
        return False

    return over
