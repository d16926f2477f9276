"""How a machine is halted and goes on: as its host says, recorded meanwhile, or as it once did.

QEMU's record and replay (docs/replay.txt there) counts instructions. A mark is a halt at a count, with a digest of
the RAM: the same log gives the same bytes at the same count, each time.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hostwalk.deadline import Deadline
from hostwalk.errors import GuestHungError, MachineError, Phase, UsageError
from hostwalk.target import Arch

if TYPE_CHECKING:
    from hostwalk.machine.machine import Machine

ANSWER_SECONDS = 60.0
STALLED_POLLS = 6000
"""Each takes up to POKE_SECONDS: polls are counted, for a host that is suspended makes none."""
POKE_SECONDS = 0.01
RESTARTS = 20
BUSY = "not compared"
"""The digest of a halt at which a processor was busy: at that very count it may take an interrupt, or not yet."""
WFI = "0xd503207f"
SHORTEST_PAUSE = 0.0002


class Course:
    """Halts a machine when its host says so."""

    def halt(self, machine: Machine) -> bool:
        """Hold the guest still; return whether it is to go on afterwards."""
        running = machine.running
        machine.hold()
        return running

    def go_on(self, machine: Machine) -> None:
        """Let the guest run on after a halt."""
        machine.resume()

    def answers(self, machine: Machine) -> bool:
        """Return whether a guest can answer what it is asked: not while it is held still."""
        return machine.running

    def watch(self, machine: Machine) -> None:
        """Look after a machine that runs; called at least every 50 ms while an answer is awaited."""


@dataclass(frozen=True)
class Mark:
    """A halt: after how many instructions, the SHA-256 of the RAM, and what the host was about to do.

    ``ram`` is BUSY where it was not taken: such a halt is not compared.

    Where all processors idle, the count is that before the instruction with which the last one went to rest, which
    changes no memory: a replay that is halted while they idle goes on taking clock readings out of its log, some of
    which belong to the time after the halt, and then gets no further.
    """

    icount: int
    ram: str
    what: str = ""


@dataclass
class Recorded(Course):
    """Halts a machine whose execution is recorded in the file ``log``, and keeps a mark of each halt.

    Raises UsageError when the log has become larger than ``limit`` bytes.
    """

    log: int
    limit: int
    what: Callable[[], str] = str
    marks: list[Mark] = field(default_factory=list)

    def halt(self, machine: Machine) -> bool:
        """Hold the guest still and keep a mark."""
        resume = super().halt(machine)
        if resume:
            self._deliver(machine)
        rests = idles(machine)
        count = icount(machine) - rests
        with paused(machine.pid):
            ram = ram_digest(machine) if rests or not resume else BUSY
            self.marks.append(Mark(count, ram, self.what()))
        return resume

    def _deliver(self, machine: Machine) -> None:
        """Have the guest take what it was told last, and halt it after that: at rest, if it comes to rest soon.

        Input that comes at the very count of a halt is there or not when a replay is halted, as it happens.
        """
        for count in range(RESTARTS):
            machine.resume()
            machine.console.drain(Deadline.after(SHORTEST_PAUSE * (1 + count)))
            super().halt(machine)
            if idles(machine):
                return

    def watch(self, machine: Machine) -> None:
        """Look how large the log is."""
        size = os.fstat(self.log).st_size
        if size > self.limit:
            raise UsageError(
                f"the recording has become larger than {self.limit >> 20} MiB",
                phase=Phase.OPERATION, remedy="shrink the script first, or give it more: --limit MIB",
            )  # fmt: skip


@dataclass
class Replayed(Course):
    """Halts a machine that replays a log where it was halted before, and compares it with the marks.

    ``equal`` says of each mark that was reached whether the RAM was the same, True too of one that is not compared
    (BUSY); ``reached`` is called at each one.
    """

    marks: Sequence[Mark]
    reached: Callable[[Machine, int], None] = lambda _machine, _number: None
    equal: list[bool] = field(default_factory=list)
    _poked: float = 0.0

    def start(self, machine: Machine) -> None:
        """Let the guest run to the first mark."""
        self.go_on(machine)

    def halt(self, machine: Machine) -> bool:
        """Wait until the guest has come to the next mark; raises MachineError where there is none."""
        number = len(self.equal)
        if number >= len(self.marks):
            raise MachineError("the replay was asked for a reading that was not made when it was recorded")
        await_stop(machine, self.marks[number].icount)
        ram = self.marks[number].ram
        self.equal.append(ram == BUSY or ram == ram_digest(machine))
        self.reached(machine, number)
        return True

    def go_on(self, machine: Machine) -> None:
        """Let the guest run to the next mark, or after the last one to the end."""
        number = len(self.equal)
        if number < len(self.marks):
            aim(machine, self.marks[number].icount)
        else:
            machine.resume()

    def answers(self, machine: Machine) -> bool:
        """Return whether nobody holds the guest still: it may have answered already, and be at the next mark."""
        return not machine.held

    def watch(self, machine: Machine) -> None:
        """Have QEMU look at its log again: a guest that idles in a replay is not always woken otherwise."""
        if machine.running and time.monotonic() - self._poked > POKE_SECONDS:
            self._poked = time.monotonic()
            machine.qmp.execute("query-status", deadline=Deadline.after(ANSWER_SECONDS))


def aim(machine: Machine, count: int) -> None:
    """Let a replay run until it has executed ``count`` instructions, counted from its start."""
    if icount(machine) < count:
        machine.qmp.execute("replay-break", {"icount": count})
        machine.resume()


def await_stop(machine: Machine, count: int) -> None:
    """Wait until a replay has stopped at a count, whatever its guest reports on the way.

    Raises GuestHungError when it gets no further, MachineError when it stops elsewhere or QEMU ends.
    """
    last, polls, pause = -1, 0, SHORTEST_PAUSE
    while machine.running:
        machine.console.drain(Deadline.after(pause))
        pause = min(2 * pause, POKE_SECONDS)
        now = icount(machine)
        last, polls = now, polls + 1 if now == last else 0
        if polls > STALLED_POLLS:
            raise GuestHungError(f"the replay got no further than instruction {now} of {count}")
    if (now := icount(machine)) != count:
        raise MachineError(
            f"the replay stopped at instruction {now}, not at {count}: it is not what was recorded"
        )


def idles(machine: Machine) -> bool:
    """Return whether all processors of a machine that is held still have gone to rest: HLT, WFI."""
    return all(_rests(machine, cpu) for cpu in range(machine.target.cpus))


def _rests(machine: Machine, cpu: int) -> bool:
    shown = machine.qmp.hmp("info registers", cpu)
    if machine.target.arch is Arch.X86_64:
        return "HLT=1" in shown
    pc = re.search(r"\bPC=([0-9a-f]{16})", shown)
    return pc is not None and WFI in machine.qmp.hmp(f"x /1wx {int(pc[1], 16) - 4:#x}", cpu)


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Keep QEMU itself from running, which else writes clock readings into its log even while its guest is halted."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def icount(machine: Machine) -> int:
    """Return how many instructions a machine has executed that records or replays."""
    answer = machine.qmp.execute("query-replay", deadline=Deadline.after(ANSWER_SECONDS))
    return int(answer.get("icount", 0))


def ram_digest(machine: Machine) -> str:
    """Return the SHA-256 of a machine's RAM."""
    with mmap.mmap(machine.ram_fd, machine.ram_size, prot=mmap.PROT_READ) as ram:
        return hashlib.sha256(ram).hexdigest()
