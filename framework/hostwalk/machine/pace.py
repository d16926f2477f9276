"""Whether the host gave a machine the processor time that its guest's watchdogs presume."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

TIMED = frozenset({"soft-lockup", "hard-lockup", "rcu-stall"})
"""Reports that a processor makes which spins; one that the host does not run makes them too."""
WINDOW = 60.0
STEP = 1.0
ENOUGH = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used, its children's left out; 0 when it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Pace:
    """Notes, once a second at most, how much processor time a QEMU has used, for the last minute."""

    def __init__(
        self, pid: int,
        clock: Callable[[], float] = time.monotonic, used: Callable[[int], float] = processor_seconds,
    ) -> None:  # fmt: skip
        self._pid = pid
        self._clock = clock
        self._used = used
        self._notes: deque[tuple[float, float]] = deque([(clock(), used(pid))])

    def note(self) -> None:
        """Look, if the last look is a second ago; cheap otherwise."""
        now = self._clock()
        if now - self._notes[-1][0] < STEP:
            return
        while len(self._notes) > 1 and self._notes[1][0] <= now - WINDOW:
            self._notes.popleft()
        self._notes.append((now, self._used(self._pid)))

    @property
    def starved(self) -> bool:
        """Whether QEMU had less than half a processor since the first look that is kept: no guest spins so slowly."""
        then, before = self._notes[0]
        return self._used(self._pid) - before < ENOUGH * (self._clock() - then)


class Stopwatch:
    """How long a guest has been running, all in all: what its time-stamp counter counts."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    def note(self, *, running: bool) -> None:
        """Take note that it runs from now on, or does not."""
        now = time.monotonic()
        if self._since is not None:
            self._before += now - self._since
        self._since = now if running else None

    @property
    def seconds(self) -> float:
        """How long, up to now."""
        return self._before + (time.monotonic() - self._since if self._since is not None else 0.0)
