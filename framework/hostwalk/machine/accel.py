"""Which accelerator a target gets, and why."""

from __future__ import annotations

from dataclasses import dataclass

from hostwalk.target import Target


@dataclass(frozen=True)
class Accel:
    """An accelerator, tcg or kvm, and the reason of the choice in one line."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def choose(target: Target) -> Accel:
    """Return the accelerator for a target."""
    return Accel("tcg", "asked for")
