"""The machines that steps of a suite run in: fresh ones of one target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from threading import Lock

from hostwalk.cell import Cell, Prepared
from hostwalk.cells import Source

MEMORY = 1024
"""MiB of a machine for a suite: some tests want more than a claim does."""


class Machines:
    """Fresh machines of one target; what they are made from is made when the first is asked for.

    A failure to make it is raised by each that asks, and tried again by the next. Any thread may ask.
    """

    def __init__(self, prepare: Callable[[], Prepared]) -> None:
        self._prepare = prepare
        self._making = Lock()

    @cached_property
    def prepared(self) -> Prepared:
        """What they are made of; raises what preparing raises."""
        return self._prepare()

    @cached_property
    def _source(self) -> Source:
        return Source.of(self.prepared)

    def make(self) -> Cell:
        """Return a machine; raises what preparing and booting raise."""
        with self._making:
            source = self._source
        return source.make()
