"""How long work tells what it is at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from hostwalk.cache import Cache


class Progress(Protocol):
    """Something that shows tasks; a terminal's bars or a log."""

    def task(self, text: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Show a task while the block runs; call what it gives with the amount done so far."""


class Silent:
    """Shows nothing."""

    @contextlib.contextmanager
    def task(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show nothing while the block runs."""
        yield lambda _done: None


SILENT = Silent()


def telling_of_waits(cache: Cache, progress: Progress) -> Cache:
    """Return the cache that shows when another run is waited for, unless it does so already."""
    if cache.on_wait is not None:
        return cache
    return replace(cache, on_wait=lambda what: progress.task(f"waiting for another hostwalk: {what}", None))
