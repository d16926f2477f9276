"""A machine of our own to look into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hostwalk.cache import Cache
from hostwalk.cell import Cell, boot, prepare
from hostwalk.kernels.progress import Progress
from hostwalk.options import CheckOptions
from hostwalk.target import Target
from hostwalk.walking.guest import Build, Guest

NICKNAMES = {"agent": "1"}


@contextmanager
def booted(target: Target, options: CheckOptions, progress: Progress) -> Iterator[Guest]:
    """Boot a target and lend it; its agent is the task ``agent``. Raises what preparing and booting raise."""
    with progress.task(f"prepare {target}", None):
        prepared = prepare(target, options, progress, Cache.user())
    with progress.task(f"boot {target}", None):
        cell = boot(prepared)
    try:
        yield guest_of(cell)
    finally:
        cell.close()


def guest_of(cell: Cell) -> Guest:
    """Return a cell as a machine to look into."""
    build = Build(cell.prepared.kernel.symbols, cell.prepared.image.layout)
    return Guest(
        cell.identity, cell.memory, f"{cell.memory.name}: the RAM's file is ours",
        cell.machine.stopped, cell.machine.registers, build, NICKNAMES,
    )  # fmt: skip
