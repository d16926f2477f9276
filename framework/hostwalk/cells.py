"""Cells: booted machines, one per target, kept ready for the claims.

The next cell boots in the background while claims run on this one. A machine that failed once is put away and a
fresh one takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from hostwalk import process
from hostwalk.cache import Cache
from hostwalk.deadline import Deadline
from hostwalk.errors import HostwalkError, Phase, WalkError
from hostwalk.guest import Agent, Subject
from hostwalk.image import Image, build_image
from hostwalk.kernels import Kernel, Progress, resolve
from hostwalk.linux import Linux
from hostwalk.machine import Machine, launch
from hostwalk.machine.command import RAM
from hostwalk.machine.qemu import find_qemu
from hostwalk.memory import SharedMap, ram_map
from hostwalk.moment import Moment
from hostwalk.options import CheckOptions
from hostwalk.paging import spaces, with_root
from hostwalk.target import Target

BOOT_SECONDS = 180.0
AHEAD = 1
INIT_ROOTS = ("init_top_pgt",)
ROOT_TRIES, ROOT_MILLISECONDS = 20, 20


@dataclass(frozen=True)
class Prepared:
    """All that a machine of a target is made of."""

    target: Target
    kernel: Kernel
    image: Image


@dataclass(frozen=True)
class Cell:
    """One booted target with its agent, and a subject that only flushes the kernel's per-CPU page batches."""

    prepared: Prepared
    machine: Machine
    agent: Agent
    janitor: Subject
    memory: SharedMap
    linux: Linux
    resources: ExitStack

    @property
    def target(self) -> Target:
        """The target as asked for."""
        return self.prepared.target

    @property
    def identity(self) -> str:
        """What was really booted, in one line."""
        kernel, accel = self.prepared.kernel, self.machine.accel
        qemu = find_qemu(self.target.arch).version
        pages = self.linux.user_space.format.name if self.linux.user_space else "no user space"
        return f"Linux {kernel.release} ({kernel.identity[:12]}), {pages}, QEMU {qemu}, {accel.name}: {accel.reason}"

    @property
    def broken(self) -> bool:
        """Whether machine or agent failed once, so that nothing more is to be asked of them."""
        return self.machine.broken is not None or bool(self.agent.broken)

    def moment(self) -> Moment:
        """Return the machine's present moment; it is to be stopped."""
        return Moment(self.target.arch, self.memory, self.linux.anew())

    def settle(self) -> None:
        """Have the kernel give up the references that its per-CPU batches hold (mm/swap.c, lru_add_drain_all)."""
        self.janitor.settle()

    def close(self) -> None:
        """End the machine and everything that belongs to it."""
        self.resources.close()


def prepare(target: Target, options: CheckOptions, progress: Progress, cache: Cache) -> Prepared:
    """Get the kernel and build the image; raises FetchError, ResolveError, BuildError."""
    kernel = resolve(
        target.kernel,
        target.arch,
        cache=cache,
        mirror=options.mirror,
        progress=progress,
        headers=options.headers,
        symbols=options.symbols,
    )
    return Prepared(target, kernel, build_image(kernel, cache, progress=progress))


def boot(prepared: Prepared, seconds: float = BOOT_SECONDS) -> Cell:
    """Boot a prepared target up to its answering agent; raises LaunchError, BootError, AgentError, WalkError."""
    deadline = Deadline.after(seconds)
    with ExitStack() as stack:
        machine = stack.enter_context(
            launch(prepared.target, prepared.kernel, prepared.image, deadline=deadline)
        )
        try:
            agent = Agent(machine.port, prepared.image.abi, prepared.image.layout, watch=machine.watch)
            agent.hello(deadline)
            machine.phase = Phase.OPERATION
            regions = ram_map(machine.qmp.hmp("info mtree -f"), RAM)
            memory = stack.enter_context(SharedMap(machine.ram_fd, regions))
            linux = find_linux(machine, memory, prepared)
            janitor = agent.spawn()
            check_root(machine, linux, janitor)
        except HostwalkError as error:
            raise machine.explain(error) from error
        return Cell(prepared, machine, agent, janitor, memory, linux, stack.pop_all())
    raise AssertionError("unreachable: boot either returns or raises")


def find_linux(machine: Machine, memory: SharedMap, prepared: Prepared) -> Linux:
    """Return the guest's kernel, its own page tables reached from a processor's registers.

    The root becomes init_mm's, for that of the process that happened to run ends with it.
    """
    with machine.stopped():
        linux = Linux.of(memory, machine.registers(), prepared.kernel.symbols, prepared.image.layout)
        for name in INIT_ROOTS:
            if name in prepared.kernel.symbols:
                root = linux.phys(prepared.kernel.symbols[name])
                kernel_space = with_root(linux.kernel_space, root)
                return Linux(memory, kernel_space, linux.symbols, linux.layout, linux.user_space)
    return linux


def check_root(machine: Machine, linux: Linux, subject: Subject) -> None:
    """Prove the way in: while a subject runs, a processor's root must be the one that its mm_struct names.

    Raises WalkError when no processor shows it.
    """
    seen: set[int] = set()
    for _ in range(ROOT_TRIES):
        with subject.spin(ROOT_MILLISECONDS), machine.stopped():
            mm = linux.anew().task(subject.pid).mm
            users = [spaces(machine.registers(cpu)).user for cpu in range(machine.target.cpus)]
            seen = {user.root for user in users if user is not None}
            if mm is not None and seen & {mm.space.root, mm.pgd_phys}:
                return
    found = ", ".join(f"{root:#x}" for root in sorted(seen))
    raise WalkError(f"no processor has the root of {subject} while it runs; their roots are {found or 'off'}")


class Cells:
    """The machines of a run; a context manager that ends them all."""

    def __init__(self, targets: Sequence[Target], options: CheckOptions, progress: Progress) -> None:
        self._targets = tuple(targets)
        self._options = options
        self._progress = progress
        self._cache = Cache.user()
        self._workers = ThreadPoolExecutor(max_workers=AHEAD + 1, thread_name_prefix="hostwalk-boot")
        self._futures: dict[Target, Future[Cell]] = {}
        self._current: Target | None = None
        self.identities: dict[str, str] = {}
        self.on_loss: Callable[[Target, HostwalkError], None] = lambda _target, _error: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, target: Target) -> Cell:
        """Return the target's cell, healthy; boots one if there is none, or if the last one broke.

        Raises what :func:`prepare` and :func:`boot` raise; the same failure is not tried again.
        """
        if self._current not in (None, target):
            self.retire(self._current)
        self._current = target
        self._start_from(target)
        cell = _result(self._futures[target])
        if not self._is_well(cell):
            cell.close()
            self._futures[target] = self._workers.submit(boot, cell.prepared)
            cell = _result(self._futures[target])
        self.identities[target.name] = cell.identity
        return cell

    def _is_well(self, cell: Cell) -> bool:
        """Whether more claims can run on it; a failure that nobody knew of goes to ``on_loss``."""
        if cell.broken:
            return False
        try:
            cell.machine.check()
        except HostwalkError as error:
            self.on_loss(cell.target, error)
            return False
        return True

    def retire(self, target: Target | None) -> None:
        """End the target's machine: no more claims will run on it."""
        future = self._futures.pop(target, None) if target is not None else None
        if future is not None and future.done() and future.exception() is None:
            future.result().close()

    def close(self) -> None:
        """End every machine; what is still being fetched, built or booted is given up."""
        if not all(future.done() for future in self._futures.values()):
            process.end_children()
        self._workers.shutdown(wait=True, cancel_futures=True)
        for target in tuple(self._futures):
            self.retire(target)

    def _start_from(self, target: Target) -> None:
        first = self._targets.index(target)
        for wanted in self._targets[first : first + AHEAD + 1]:
            if wanted not in self._futures:
                self._futures[wanted] = self._workers.submit(self._make, wanted)

    def _make(self, target: Target) -> Cell:
        prepared = prepare(target, self._options, self._progress, self._cache)
        with self._progress.task(f"boot {target}", None):
            return boot(prepared)


def _result(future: Future[Cell]) -> Cell:
    error = future.exception()
    if error is not None:
        raise error.with_traceback(None)
    return future.result()
