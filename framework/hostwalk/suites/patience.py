"""The time that a test has: that in which the host let its guest run. A busy host makes no test fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hostwalk.deadline import Deadline

AT_MOST = 10.0
"""How many times the seconds of a test may pass in all."""
_NANO = 1e-9


@dataclass(frozen=True)
class Patience(Deadline):
    """A deadline that is later by the time for which QEMU was ready to run and another process did.

    Its own ``moment`` is the earliest that it can be; ``waited`` returns the seconds since it was made.
    """

    waited: Callable[[], float] = float

    @classmethod
    def of(
        cls, seconds: float, pid: int, delays: Callable[[int], Mapping[str, float]] | None = None
    ) -> Patience:
        """Return the deadline of a test for which a QEMU has ``seconds``; AT_MOST times as many pass in all."""
        read = delays or run_queue_delays
        before = read(pid)

        def waited() -> float:
            return max((after - before.get(task, 0.0) for task, after in read(pid).items()), default=0.0)

        return cls(time.monotonic() + seconds, seconds, waited)

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        left = self.moment - time.monotonic()
        if left > 0:
            return left
        return max(0.0, left + min(self.waited(), (AT_MOST - 1) * self.seconds))

    @property
    def share(self) -> float:
        """What share of the time up to now QEMU was not kept waiting, from 0 to 1."""
        passed = time.monotonic() - (self.moment - self.seconds)
        return max(0.0, 1.0 - self.waited() / passed) if passed > 0 else 1.0


def run_queue_delays(pid: int) -> dict[str, float]:
    """Return for each thread of a process the seconds for which it waited to be run: proc(5), schedstat.

    Nothing where the kernel does not count them, or the process has gone.
    """
    delays = {}
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            delays[task.parent.name] = int(task.read_text(encoding="ascii").split()[1]) * _NANO
        except (OSError, IndexError):
            continue
    return delays
