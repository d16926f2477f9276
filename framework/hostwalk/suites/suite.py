"""What a collection of other people's tests is to those that run it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hostwalk.suites.expected import Known
from hostwalk.suites.outcome import Ending, Result
from hostwalk.suites.plan import Step

PLACE = "/root"
"""Where commands are run in the guest."""


class Suite(Protocol):
    """A collection: its tests' files, how they are run, and what they print means."""

    @property
    def name(self) -> str:
        """What the names of its results begin with."""

    @property
    def known(self) -> Known:
        """What is known of it beforehand."""

    @property
    def whole(self) -> bool:
        """Whether a step has ended only when no process has its output any more, not with the first of them."""

    def why_not(self, step: Step) -> str:
        """Return why a step cannot run, empty if it can."""

    def files(self, step: Step) -> tuple[tuple[Path, str], ...]:
        """Return what a step needs: files of the host, and where each goes in the guest."""

    def command(self, step: Step) -> tuple[str, ...]:
        """Return the command for a step, run in PLACE."""

    def judged(self, name: str, text: str, ending: Ending) -> tuple[Result, ...]:
        """Return the results of a step, by what it printed and how it ended."""
