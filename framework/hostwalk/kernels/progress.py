"""How long work tells what it is at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol


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
