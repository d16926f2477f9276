"""Invariants: sentences about a quiet moment of the kernel, each with the function that finds its breaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hostwalk.audit.evidence import Evidence
from hostwalk.paging.format import Mask


@dataclass(frozen=True, eq=False)
class Breach:
    """Where an invariant does not hold: at ``leaves`` (indices), or in a whole ``space`` (index)."""

    why: str
    leaves: NDArray[np.intp] | None = None
    space: int | None = None


Check = Callable[[Evidence], Iterator[Breach]]


@dataclass(frozen=True)
class Invariant:
    """``source`` is where the kernel decides it. It is about builds whose layout has all of ``needs``, not zero."""

    id: str
    sentence: str
    source: str
    check: Check
    needs: tuple[str, ...] = ()

    def applies(self, seen: Evidence) -> bool:
        """Whether the sentence says something about this build."""
        return all(seen.layout.get(key, 0) for key in self.needs)

    def __str__(self) -> str:
        return f"{self.id}: {self.sentence} ({self.source})"


INVARIANTS: dict[str, Invariant] = {}


def invariant(
    id: str,  # noqa: A002
    sentence: str,
    source: str,
    *,
    needs: tuple[str, ...] = (),
) -> Callable[[Check], Check]:
    """Register a function from evidence to breaches as the invariant ``id``."""

    def register(check: Check) -> Check:
        if id in INVARIANTS:
            raise ValueError(f"there are two invariants {id}")
        INVARIANTS[id] = Invariant(id, sentence, source, check, needs)
        return check

    return register


def at(mask: Mask, why: str) -> Iterator[Breach]:
    """Yield a breach for the marked leaves, if there are any."""
    found = np.flatnonzero(mask)
    if len(found):
        yield Breach(why, leaves=found)
