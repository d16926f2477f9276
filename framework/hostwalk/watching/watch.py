"""Watching a process that somebody else's program runs in: page tables and mappings, change by change.

By points (:class:`Points`) the guest stops where the kernel is about to alter an address space, and again when it has:
nothing is missed, each change has the call that made it, and two runs of one program tell the same. By time
(:class:`Clock`) it is stopped every so often, which costs a program less that calls a lot and misses what comes and
goes between. In both the process does not notice: its clock stands still, and nothing is written into it.
"""

from __future__ import annotations

import select
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from hostwalk.deadline import Deadline
from hostwalk.errors import UsageError, WalkError
from hostwalk.linux import Linux, Task
from hostwalk.linux.mm import Vma
from hostwalk.machine.breakpoints import Breakpoints, Hit
from hostwalk.moment import Moment
from hostwalk.paging import Diff
from hostwalk.target import Arch
from hostwalk.watching import calls
from hostwalk.watching.calls import EXIT, FORKS, Call, Point
from hostwalk.watching.sample import EXEC, FORKED, MEANWHILE, Sample, Sight, changes, find, look
from hostwalk.watching.sample import EXIT as EXITED

if TYPE_CHECKING:
    from hostwalk.cell import Cell

LOOK_SECONDS = 0.05
CURRENT = ("pcpu_hot", "current_task")
"""Where x86-64 keeps the running task: pcpu_hot.current_task (6.2 to 6.14), else a variable of its own."""


class Watch(ABC):
    """An iterator of samples, and a context manager that lets the machine go at its end.

    It goes on when it is asked for the next sample; whoever waits for something else, too, waits for ``fileno()`` (-1:
    nothing) and ``due`` seconds at most, then calls ``serve`` and takes what there is with ``take``. It ends when the
    processes have exited or the deadline passes: ``end`` says which. ``from_exec``: what a process does before it
    executes its program is not told. Raises what the machine's ``watch`` raises.
    """

    def __init__(self, cell: Cell, pid: int, deadline: Deadline, *, from_exec: bool = False) -> None:
        self.cell = cell
        self.machine = cell.machine
        self.deadline = deadline
        self.end = ""
        self._begun = time.monotonic()
        self._samples: deque[Sample] = deque()
        self._seen: dict[int, Sight] = {}
        self._number = 0
        with self.machine.stopped():
            moment = cell.moment()
            task = moment.linux.task(pid)
            first = look(moment, task)
        if first is None:
            raise WalkError(f"process {pid} has no address space to watch")
        self._seen[task.tgid] = first
        self._prelude = first.mm if from_exec else 0

    @abstractmethod
    def __enter__(self) -> Self:
        """Begin."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Let the machine go."""

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        while not self._samples:
            if self.over:
                raise StopIteration
            self.machine.watch()
            self._wait()
            self.serve()
        return self._samples.popleft()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        if not self._seen:
            self.end = self.end or "exit"
        elif self.deadline.expired:
            self.end = self.end or "deadline"
        return bool(self.end)

    @property
    def pids(self) -> frozenset[int]:
        """The processes that are being watched."""
        return frozenset(self._seen)

    def _wait(self) -> None:
        seconds = min(self.due, self.deadline.remaining, LOOK_SECONDS)
        select.select([self.fileno()] if self.fileno() >= 0 else [], [], [], seconds)

    def take(self) -> Iterator[Sample]:
        """Yield the samples that there are."""
        while self._samples:
            yield self._samples.popleft()

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that becomes readable when there is something to do, -1 where only time tells."""

    @property
    @abstractmethod
    def due(self) -> float:
        """Seconds until there is something to do."""

    @abstractmethod
    def serve(self) -> None:
        """Do what there is to do, without waiting."""

    def _compare(self, moment: Moment, task: Task, occasion: str, call: Call | None = None) -> bool:
        """Look at a process that is watched, and keep what changed; return whether it was there."""
        pid = task.tgid
        after, before = look(moment, task), self._seen[pid]
        if after is None:
            return False
        self._seen[pid] = after
        if after.mm == self._prelude:
            return True
        self._prelude = 0  # the address is free now, and may come to be another's
        replaced = after.mm != before.mm
        when = EXEC if replaced and call is None else occasion
        sample = self._sample(pid, when, after, changes(before, after), () if replaced else before.vmas)
        if occasion != MEANWHILE or sample:
            self._keep(replace(sample, call=call))
        return True

    def _sample(
        self, pid: int, occasion: str, after: Sight, difference: Diff, old: tuple[Vma, ...]
    ) -> Sample:
        seconds = time.monotonic() - self._begun
        return Sample(self._number, pid, after.comm, seconds, occasion, difference, old, after.vmas)

    def _keep(self, sample: Sample) -> None:
        self._samples.append(sample)
        self._number += 1

    def _gone(self, pid: int) -> None:
        """Note that a process has ended: its address space was taken down, unseen."""
        last = self._seen.pop(pid)
        none = last.leaves[:0]
        self._keep(self._sample(pid, EXITED, last, Diff(none, none, ()), last.vmas))


class Clock(Watch):
    """A watch that looks every ``every`` seconds of the host's time."""

    def __init__(
        self, cell: Cell, pid: int, deadline: Deadline, every: float, *, from_exec: bool = False
    ) -> None:
        if every <= 0:
            raise UsageError(f"a watch looks every so many seconds, not every {every:g}")
        super().__init__(cell, pid, deadline, from_exec=from_exec)
        self._every = every
        self._next = time.monotonic() + every

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End; between its looks the machine runs on."""

    def fileno(self) -> int:
        """Return -1: only time tells."""
        return -1

    @property
    def due(self) -> float:
        """Seconds until there is something to do."""
        return LOOK_SECONDS if self.over else max(0.0, self._next - time.monotonic())

    def serve(self) -> None:
        """Look, if it is time."""
        if self.due:
            return
        with self.machine.stopped():
            moment = self.cell.moment()
            for pid in tuple(self._seen):
                task = find(moment.linux, pid)
                if task is None or not self._compare(moment, task, MEANWHILE):
                    self._gone(pid)
        self._next = time.monotonic() + self._every


@dataclass(frozen=True)
class _Pending:
    """A call that has not returned: whose it is, and where it will go on."""

    pid: int
    tid: int
    call: Call
    returns_to: int


class Points(Watch):
    """A watch that stops a process where it enters functions of the kernel and where it comes back, and at its exit.

    ``children``: processes that it makes are watched from then on, too. A function that another process calls stops
    the guest for a moment and is no sample.
    """

    def __init__(
        self, cell: Cell, pid: int, deadline: Deadline, points: Iterable[Point], *, children: bool,
        from_exec: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(cell, pid, deadline, from_exec=from_exec)
        self._arch = cell.target.arch
        self._points = {point.address: point for point in points}
        self._exit = self._address_of(EXIT)
        self._children = children
        self._pending: dict[int, _Pending] = {}
        self._exiting: dict[int, set[tuple[int, int]]] = {}
        self._breakpoints = Breakpoints(self.machine)

    def _address_of(self, name: str) -> int:
        try:
            return self.cell.linux.symbols[name]
        except KeyError:
            raise WalkError(f"this kernel's symbols do not tell where {name} is") from None

    def __enter__(self) -> Self:
        """Begin."""
        self._breakpoints.__enter__()
        try:
            self._breakpoints.add([*self._points, self._exit])
        except BaseException:
            self._breakpoints.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Take the points away and let the guest run on."""
        self._breakpoints.__exit__()

    def fileno(self) -> int:
        """Return a descriptor that is readable when the guest has stopped."""
        return self._breakpoints.fileno()

    @property
    def due(self) -> float:
        """Seconds until there is something to do."""
        return LOOK_SECONDS

    def serve(self) -> None:
        """Look at what has stopped the guest, and let it go."""
        hits = self._breakpoints.hits()
        if self.machine.running:
            return
        moment = self.cell.moment()
        for hit in hits:
            self._handle(hit, moment)
        if not self._seen:
            self._breakpoints.clear()
        self._breakpoints.go_on(hits)

    def _handle(self, hit: Hit, moment: Moment) -> None:
        pending = self._pending.get(hit.sp)
        if pending is not None and pending.returns_to == hit.pc:
            self._returned(hit, moment, pending)
            return
        task = Task(moment.linux, self._current(hit, moment.linux))
        if task.tgid not in self._seen and not self._adopts(moment, task):
            return
        if hit.pc == self._exit:
            self._exits(moment, task)
        elif hit.pc in self._points:
            self._entered(hit, moment, task, self._points[hit.pc])

    def _current(self, hit: Hit, linux: Linux) -> int:
        """Return the address of the task that a processor in the kernel runs (asm/current.h)."""
        if self._arch is Arch.ARM64:
            return hit.values["sp_el0"]
        place = next((linux.symbols[name] for name in CURRENT if name in linux.symbols), None)
        if place is None:
            raise WalkError("this kernel's symbols do not tell where the running task is")
        return linux.uint(linux.per_cpu(place, hit.cpu))

    def _entered(self, hit: Hit, moment: Moment, task: Task, point: Point) -> None:
        self._compare(moment, task, MEANWHILE)
        linux, arguments = moment.linux, hit.arguments
        if point.is_call:
            arguments = calls.arguments_in(linux.read_virt(arguments[0], calls.FRAME_SIZE), self._arch)
        back, sp = self._way_back(hit, linux)
        call = Call(point.name, arguments, point.is_call)
        self._breakpoints.add([back])
        self._pending[sp] = _Pending(task.tgid, task.pid, call, back)

    def _way_back(self, hit: Hit, linux: Linux) -> tuple[int, int]:
        """Return where a function that has just been called returns to, and the stack pointer there."""
        if self._arch is Arch.ARM64:
            return hit.values["x30"], hit.sp
        return linux.uint(hit.sp), hit.sp + 8

    def _returned(self, hit: Hit, moment: Moment, pending: _Pending) -> None:
        self._forget(hit.sp)
        call = replace(pending.call, result=hit.result)
        task = Task(moment.linux, self._current(hit, moment.linux))
        if task.tgid in self._seen:
            self._compare(moment, task, calls.shown(call, self.cell.prepared.image.abi), call)
        if self._children and call.is_call and call.name in FORKS and hit.result > 0:
            self._follow(moment, hit.result)

    def _forget(self, sp: int) -> None:
        self._breakpoints.remove(self._pending.pop(sp).returns_to)

    def _adopts(self, moment: Moment, task: Task) -> bool:
        """Watch a child that comes here before its parent's call has returned, as one of vfork(2) does."""
        if self._children:
            parent = moment.linux.member(task.address, "struct task_struct", "real_parent")
            if Task(moment.linux, parent).tgid in self._seen:
                self._follow(moment, task.tgid)
        return task.tgid in self._seen

    def _follow(self, moment: Moment, pid: int) -> None:
        """Watch a process that was made, if it is one; a thread is part of its process."""
        child = find(moment.linux, pid)
        sight = look(moment, child) if child is not None and child.tgid == pid else None
        if sight is not None and pid not in self._seen:
            self._seen[pid] = sight
            whole = Diff(sight.leaves, sight.leaves[:0], ())
            self._keep(self._sample(pid, FORKED, sight, whole, ()))

    def _exits(self, moment: Moment, task: Task) -> None:
        """Tell what changed up to the exit of a process's last thread, its last moment with an address space."""
        for sp in [sp for sp, pending in self._pending.items() if pending.tid == task.pid]:
            self._forget(sp)
        if self._is_last(task):
            self._compare(moment, task, EXITED)
            self._seen.pop(task.tgid, None)
            del self._exiting[task.tgid]

    def _is_last(self, task: Task) -> bool:
        """Note that a thread exits; return whether all of its process's do, of which its first may be long dead.

        By pid and address: a thread that executes a program takes the pid of the first (fs/exec.c, de_thread).
        """
        there = {(thread.pid, thread.address) for thread in task.threads()}
        exiting = (self._exiting.get(task.tgid, set()) | {(task.pid, task.address)}) & there
        self._exiting[task.tgid] = exiting
        return exiting == there
