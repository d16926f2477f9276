"""Deadlines: a moment by which something must have happened."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock; pass it down, never a fresh time-out."""

    moment: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that lies ``seconds`` from now."""
        return cls(time.monotonic() + seconds, seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.moment - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return self.remaining == 0.0

    def at_most(self, seconds: float) -> Deadline:
        """Return the nearer of this deadline and ``seconds`` from now."""
        nearer = Deadline.after(seconds)
        return nearer if nearer.moment < self.moment else self
