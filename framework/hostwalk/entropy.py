"""The random numbers of forks.

All forks of a template draw the same numbers, for the state of the kernel's generator is part of its memory. The
host can give a fork another key: drivers/char/random.c keeps it in ``base_crng``, a key of 32 bytes followed by its
generation; a processor whose own key is of another generation takes a new one. That layout is in no header, so it
is recognised first: the generation must be the one that the processors' keys (``crngs``) have, or theirs none yet.

The kernel reseeds itself at intervals, from what differs between runs: every minute, soon after a boot each time that
half of the time since then has passed. From then on the numbers of two forks differ in any case.
"""

from __future__ import annotations

import hashlib
import os
from enum import Enum
from typing import TYPE_CHECKING

from hostwalk.errors import WalkError

if TYPE_CHECKING:
    from hostwalk.cell import Cell
    from hostwalk.linux import Linux

KEY_SIZE = 32
LARGEST = 1 << 32
UNUSED = (1 << 64) - 1


class Fresh(Enum):
    """Asks for numbers that no other fork has."""

    FRESH = "fresh"


FRESH = Fresh.FRESH


def reseed(cell: Cell, seed: int | Fresh) -> None:
    """Give the guest's generator a key that depends on ``seed`` alone, or on nothing but chance.

    Raises LayoutError, WalkError where the kernel keeps its generator otherwise.
    """
    key = os.urandom(KEY_SIZE) if isinstance(seed, Fresh) else hashlib.sha256(b"%d" % seed).digest()
    with cell.machine.stopped():
        linux = cell.linux.anew()
        address = _base(linux)
        generation = (linux.uint(address + KEY_SIZE) + 1).to_bytes(8, "little")
        cell.memory.write(linux.phys(address), key + generation)


def _base(linux: Linux) -> int:
    """Return the address of base_crng, recognised."""
    base, per_cpu = linux.symbols["base_crng"], linux.symbols["crngs"]
    generation = linux.uint(base + KEY_SIZE)
    known = {linux.uint(linux.per_cpu(per_cpu, cpu) + KEY_SIZE) for cpu in linux.cpus()}
    if not 0 < generation < LARGEST or not all(each in (generation, UNUSED) for each in known):
        raise WalkError(
            f"the kernel's random generator is not laid out as known: {generation}, {sorted(known)}"
        )
    return base
