"""Cells: booted machines, one per target, kept ready for the claims.

The next cell boots in the background while claims run on this one. A machine that failed once is put away and a
fresh one takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from hostwalk.cache import Cache
from hostwalk.deadline import Deadline
from hostwalk.errors import HostwalkError
from hostwalk.guest import Agent, Subject
from hostwalk.image import Image, build_image
from hostwalk.kernels import Kernel, Progress, resolve
from hostwalk.machine import Machine, launch
from hostwalk.options import CheckOptions
from hostwalk.target import Target

BOOT_SECONDS = 180.0
AHEAD = 1


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
    resources: ExitStack

    @property
    def target(self) -> Target:
        """The target as asked for."""
        return self.prepared.target

    @property
    def identity(self) -> str:
        """What was really booted, in one line."""
        kernel, accel = self.prepared.kernel, self.machine.accel
        return f"Linux {kernel.release} (sha256 {kernel.identity[:12]}), {self.machine.qemu_version}, {accel.name}: {accel.reason}"

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
    """Boot a prepared target up to its answering agent; raises LaunchError, BootError, AgentError."""
    deadline = Deadline.after(seconds)
    with ExitStack() as stack:
        machine = stack.enter_context(launch(prepared.target, prepared.kernel, prepared.image, deadline=deadline))
        try:
            agent = Agent(machine.port, prepared.image.abi, prepared.image.layout, watch=machine.watch)
            agent.hello(deadline)
            janitor = agent.spawn()
        except HostwalkError as error:
            raise machine.explain(error) from error
        return Cell(prepared, machine, agent, janitor, stack.pop_all())
    raise AssertionError("unreachable: boot either returns or raises")


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
        cell = self._futures[target].result()
        if cell.machine.broken:
            cell.close()
            self._futures[target] = self._workers.submit(boot, cell.prepared)
            cell = self._futures[target].result()
        self.identities[target.name] = cell.identity
        return cell

    def retire(self, target: Target | None) -> None:
        """End the target's machine: no more claims will run on it."""
        future = self._futures.pop(target, None) if target is not None else None
        if future is not None and future.done() and future.exception() is None:
            future.result().close()

    def close(self) -> None:
        """End every machine, those that are still booting too."""
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


__all__ = ["Cell", "Cells", "Prepared", "boot", "prepare"]
