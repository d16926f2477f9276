"""Cells: running targets, kept ready for the claims.

Each claim gets a machine of its own, in the state of the target's template: a fork, or one that served a claim
before and was taken back. The next one is made ready while a claim runs. Or
all claims of a target share one machine, and a fresh one takes its place when it breaks. Where no template can be
made, that machine is booted, and its ``origin`` says why. The next target is made ready in the background.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

from hostwalk import process
from hostwalk.cache import Cache
from hostwalk.cell import BOOT_SECONDS, Cell, Prepared, boot, check_root, find_linux, prepare
from hostwalk.errors import CacheError, HostwalkError
from hostwalk.kernels import Progress
from hostwalk.options import CheckOptions
from hostwalk.target import Target
from hostwalk.template import NoTemplateError, Template, template_of

__all__ = ["BOOT_SECONDS", "Cell", "Cells", "Prepared", "boot", "check_root", "find_linux", "prepare"]

Made = TypeVar("Made")
AHEAD = 1
THREADS = 3


@dataclass(frozen=True)
class Source:
    """Where a target's machines come from: its template, or a boot and the reason for it."""

    prepared: Prepared
    template: Template | None
    reason: str = ""

    @classmethod
    def of(cls, prepared: Prepared) -> Self:
        """Return the template's, or where none can be made the boot's; raises what a boot raises."""
        try:
            return cls(prepared, template_of(prepared))
        except (NoTemplateError, CacheError) as error:
            return cls(prepared, None, str(error).splitlines()[0])

    def make(self) -> Cell:
        """Return a fresh cell: a fork, or without a template a machine that was booted.

        A template that somebody has cleared from the cache is made again.
        """
        if self.template is not None:
            try:
                return self.template.fork()
            except CacheError:
                return template_of(self.prepared).fork()
        return replace(boot(self.prepared), origin=f"booted, and shared: no template ({self.reason})")

    def renew(self, used: Cell | None) -> Cell:
        """Return a cell as fresh as :meth:`make`'s: one that served a claim, taken back, where that can be."""
        if used is None or self.template is None:
            return self.make()
        try:
            return self.template.reset(used)
        except CacheError:
            return self.make()


class Cells:
    """The machines of a run; a context manager that ends them all."""

    def __init__(self, targets: Sequence[Target], options: CheckOptions, progress: Progress) -> None:
        self._targets = tuple(targets)
        self._options = options
        self._progress = progress
        self._cache = Cache.user()
        self._workers = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="hostwalk-cells")
        self._sources: dict[Target, Future[Source]] = {}
        self._next: Future[Cell] | None = None
        self._used: Cell | None = None
        self._cell: Cell | None = None
        self._current: Target | None = None
        self._ends: list[tuple[Cell, Future[None]]] = []
        self.identities: dict[str, str] = {}
        self.on_loss: Callable[[Target, HostwalkError], None] = lambda _target, _error: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, target: Target) -> Cell:
        """Return a cell for one claim: a fresh one, or the target's own as long as it is well.

        The cell of the claim before is ended, if it is not the same. Raises what :func:`prepare` and
        :func:`boot` raise; a failure to prepare a target is not tried again.
        """
        used, self._cell = self._cell, None
        if used is not None:
            well = self._is_well(used) and self._current == target
            if well and not self._is_for_one(target):
                self._cell = used
                return used
            if not well:
                self._end(used)
                used = None
        if self._current != target:
            self._turn_to(target)
        self._cell = self._take(target, used)
        self.identities[target.name] = f"{self._cell.identity}, {self._cell.origin}"
        return self._cell

    def add(self, target: Target) -> None:
        """Have one more target, if it is not among them."""
        if target not in self._targets:
            self._targets += (target,)

    def spare(self, target: Target) -> Cell:
        """Return one more machine of a target that is being checked; the caller closes it."""
        if target not in self._sources:
            self._sources[target] = self._workers.submit(self._source, target)
        return _result(self._sources[target]).make()

    def warm(self) -> None:
        """Make the first target's first machine in the background: claims are being collected meanwhile."""
        first = self._targets[0]
        self._turn_to(first)
        self._next = self._workers.submit(lambda: _result(self._sources[first]).make())

    def _turn_to(self, target: Target) -> None:
        """Make a target the current one: no more claims will run on the one before."""
        self._drop_next()
        self._current = target
        first = self._targets.index(target)
        for wanted in self._targets[first : first + AHEAD + 1]:
            if wanted not in self._sources:
                self._sources[wanted] = self._workers.submit(self._source, wanted)

    def _take(self, target: Target, used: Cell | None) -> Cell:
        """Return the machine that was made ready, and have the next one made, of the one that was used if there is."""
        ready, self._next, self._used = self._next, None, used
        try:
            source = _result(self._sources[target])
            if ready is not None:
                cell = _result(ready)
            else:
                cell, self._used = source.renew(used), None
        except BaseException:
            self._drop_next()
            raise
        if self._is_for_one(target):
            self._next = self._workers.submit(_made_ready, source, self._used)
        cell.machine.run_on()
        return cell

    def _is_for_one(self, target: Target) -> bool:
        """Whether each claim on a target gets a machine of its own."""
        return self._options.isolation == "claim" and _result(self._sources[target]).template is not None

    def _source(self, target: Target) -> Source:
        prepared = prepare(target, self._options, self._progress, self._cache)
        with self._progress.task(f"boot {target}", None):
            return Source.of(prepared)

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

    def _end(self, cell: Cell) -> None:
        """End a machine in the background; what went wrong with the ones before is raised here."""
        for ended in [ended for ended in self._ends if ended[1].done()]:
            self._ends.remove(ended)
            ended[1].result()
        self._ends.append((cell, self._workers.submit(cell.close)))

    def _drop_next(self) -> None:
        """Give up the machine that is being made ready, and the used one that it was to be made of."""
        if self._next is None or self._next.cancel():
            if self._used is not None:
                self._end(self._used)
        elif self._next.exception() is None:
            self._end(self._next.result())
        self._next = self._used = None

    def close(self) -> None:
        """End every machine; what is still being fetched, built or booted is given up."""
        if not all(future.done() for future in self._sources.values()):
            process.end_children()
        self._workers.shutdown(wait=True, cancel_futures=True)
        with ExitStack() as stack:
            for cell, end in self._ends:
                stack.callback(cell.close if end.cancelled() else end.result)
            for rest in filter(None, (self._unused(), self._cell)):
                stack.callback(rest.close)
            self._ends, self._next, self._used, self._cell = [], None, None, None

    def _unused(self) -> Cell | None:
        """Return the machine that was made ready, or the one that it was to be made of."""
        if self._next is None or self._next.cancelled():
            return self._used
        return self._next.result() if self._next.exception() is None else None


def _made_ready(source: Source, used: Cell | None) -> Cell:
    """Make a machine ready, which waits for its turn without growing older."""
    cell = source.renew(used)
    cell.machine.hold()
    return cell


def _result(future: Future[Made]) -> Made:
    error = future.exception()
    if error is not None:
        raise error.with_traceback(None)
    return future.result()
