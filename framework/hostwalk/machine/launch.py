"""Starts machines and ends them.

QEMU gets everything by inherited descriptors: one end of a socket pair for QMP, the agent's port and gdb, pipes
for the console, a memory file for the RAM and one for its standard error. Nothing has a name in a file system,
so nothing is left when hostwalk is killed; QEMU itself dies with hostwalk (see process.spawn).
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.errors import Evidence, HostwalkError, LaunchError, MachineDiedError
from hostwalk.machine import command
from hostwalk.machine.accel import choose
from hostwalk.machine.boot import boot_file
from hostwalk.machine.frozen import Frozen
from hostwalk.machine.machine import BootableImage, BootableKernel, Ends, Machine, Plan
from hostwalk.machine.qemu import find_qemu
from hostwalk.target import Target

QUIT_SECONDS = 1.0
PIPE_BYTES = 1 << 20


@contextmanager
def launch(
    target: Target,
    kernel: BootableKernel,
    image: BootableImage,
    *,
    deadline: Deadline,
    extra: Sequence[str] = (),
    cmdline_extra: str = "",
    log: int = -1,
) -> Iterator[Machine]:
    """Start a machine that boots ``kernel`` with ``image``; QEMU ends with the ``with`` block.

    ``extra`` are further words for QEMU, ``cmdline_extra`` for the kernel; ``log`` is a descriptor that QEMU inherits
    (see exact_args). The machine is handed out as soon as QEMU answers; the guest then boots. Raises
    MissingToolError, LaunchError.
    """
    if kernel.arch is not target.arch:
        raise LaunchError(f"{kernel.boot} is a kernel for {kernel.arch}, the target is {target.arch}")
    plan = Plan(target, kernel, image, choose(target, kernel.cache))
    with ExitStack() as stack:
        wires = _wire(stack, _new_ram(stack, target))
        wires = replace(wires, wiring=replace(wires.wiring, log=log))
        words = _words(plan, wires.wiring, cmdline_extra) + tuple(extra)
        yield _start(stack, plan, words, wires, deadline)


@contextmanager
def thaw(
    plan: Plan, frozen: Frozen, name: str, *, deadline: Deadline, extra: Sequence[str] = ()
) -> Iterator[Machine]:
    """Start a machine that goes on where a frozen one stopped; QEMU is killed with the ``with`` block.

    Its RAM is a copy-on-write view of the frozen one's. It is handed out as soon as QEMU answers; the guest
    then runs on. ``name`` is what errors call it. Raises MissingToolError, LaunchError.
    """
    with ExitStack() as stack:
        state = frozen.open_state()
        stack.callback(os.close, state)
        ram = frozen.open_ram()
        stack.callback(os.close, ram)
        wires = _wire(stack, ram)
        wires = replace(wires, ends=replace(wires.ends, ram=-1), wiring=replace(wires.wiring, state=state))
        qemu, login = find_qemu(plan.target.arch), plan.image.login
        words = command.fork_args(plan.target, qemu, plan.accel.name, wires.wiring, login=login)
        machine = _start(stack, plan, words + tuple(extra), wires, deadline)
        machine.name = name
        yield machine


def _start(stack: ExitStack, plan: Plan, words: Sequence[str], wires: _Wires, deadline: Deadline) -> Machine:
    qemu = _spawn(stack, words, wires)
    machine = Machine(plan, qemu, process.quote(words), wires.ends)
    _greet(machine, wires.ends.qmp, deadline)
    stack.callback(_end, machine, qemu)
    return machine


def _words(plan: Plan, wiring: command.Wiring, cmdline_extra: str) -> tuple[str, ...]:
    target, kernel, image = plan.target, plan.kernel, plan.image
    payload = command.Payload(
        boot_file(target, kernel.boot, kernel.identity, kernel.cache),
        image.initramfs,
        command.kernel_cmdline(target, f"{image.cmdline} {cmdline_extra}".strip()),
        image.login,
    )
    return command.qemu_args(target, find_qemu(target.arch), plan.accel.name, payload, wiring)


def _new_ram(stack: ExitStack, target: Target) -> int:
    ram = os.memfd_create("hostwalk-ram")
    stack.callback(os.close, ram)
    os.ftruncate(ram, target.memory << 20)
    return ram


@dataclass(frozen=True)
class _Wires:
    """Both ends. ``keys`` and ``printed`` are the console's: QEMU's standard input and output.

    ``theirs`` closes QEMU's ends.
    """

    ends: Ends
    wiring: command.Wiring
    keys: int
    printed: int
    theirs: ExitStack


def _wire(stack: ExitStack, ram: int) -> _Wires:
    """Make the wires; ours are closed with the stack, QEMU's as soon as it has inherited them (_spawn)."""
    theirs = stack.enter_context(ExitStack())
    qmp, agent, gdb = (_pair(stack, theirs) for _ in range(3))
    printed, keys = os.pipe(), os.pipe()
    stderr = os.memfd_create("hostwalk-stderr")
    for fd in (printed[0], keys[1], stderr):
        stack.callback(os.close, fd)
    for fd in (keys[0], printed[1]):
        theirs.callback(os.close, fd)
    with suppress(OSError):
        fcntl.fcntl(printed[0], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    ends = Ends(qmp[0], printed[0], keys[1], agent[0], gdb[0], ram, stderr)
    wiring = command.Wiring(qmp[1], agent[1], gdb[1], ram)
    return _Wires(ends, wiring, keys[0], printed[1], theirs)


def _pair(stack: ExitStack, theirs: ExitStack) -> tuple[socket.socket, int]:
    ours, other = socket.socketpair()
    stack.callback(ours.close)
    theirs.callback(other.close)
    return ours, other.fileno()


def _spawn(stack: ExitStack, words: Sequence[str], wires: _Wires) -> subprocess.Popen[bytes]:
    with wires.theirs:
        qemu = process.spawn(
            words, pass_fds=wires.wiring.descriptors, led=True,
            stdin=wires.keys, stdout=wires.printed, stderr=wires.ends.stderr,
        )  # fmt: skip
    stack.callback(process.kill, qemu)
    return qemu


def _greet(machine: Machine, qmp: socket.socket, deadline: Deadline) -> None:
    try:
        machine.attach(qmp, deadline)
    except MachineDiedError:
        raise _refused(machine) from None
    except HostwalkError as error:
        raise LaunchError(error.message, evidence=machine.evidence) from error


def _refused(machine: Machine) -> LaunchError:
    how = machine.ending()
    last = (machine.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return LaunchError(
        f"QEMU did not start: it {how}: {last}",
        evidence=Evidence(machine.command_line, machine.console.tail(), machine.stderr),
    )


def _end(machine: Machine, qemu: subprocess.Popen[bytes]) -> None:
    """Ask QEMU to quit if it is well, kill it if that does not help, and end the QMP session.

    A fork has nothing to say any more and is killed.
    """
    deadline = Deadline.after(QUIT_SECONDS)
    if qemu.poll() is None and machine.broken is None and machine.ram_fd >= 0:
        with suppress(HostwalkError, subprocess.TimeoutExpired):
            machine.qmp.execute("quit", deadline=deadline)
            qemu.wait(deadline.remaining)
    machine.hang_up()
    process.kill(qemu)
    machine.qmp.close(Deadline.after(QUIT_SECONDS))
