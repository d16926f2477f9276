"""The random numbers of forks.

All forks of a template draw the same numbers, for the state of the kernel's generator is part of its memory. The
host can give a fork another key: drivers/char/random.c keeps it in ``base_crng``, a key of 32 bytes and its
generation, in some kernels with its birth between them; a processor whose own key is of another generation takes a
new one. That layout is in no header, so it is recognised: the generation is the latest that the processors' keys
(``crngs``) have, or one of the next few.

The kernel reseeds itself at intervals, from what differs between runs: every minute, soon after a boot each time that
half of the time since then has passed. From then on the numbers of two forks differ in any case.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from hostwalk.deadline import Deadline
from hostwalk.errors import LayoutError, WalkError

if TYPE_CHECKING:
    from hostwalk.cell import Cell
    from hostwalk.linux import Linux

BASE = "base_crng"
KEY_SIZE = 32
PLACES = (32, 40)
AHEAD = 16
UNUSED = (1 << 64) - 1
LOOK_SECONDS = 0.02


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
        base, generation = _generator(linux)
        following = (linux.uint(generation) + 1).to_bytes(8, "little")
        cell.memory.write(linux.phys(base), key)
        cell.memory.write(linux.phys(generation), following)


def await_new_key(cell: Cell, deadline: Deadline) -> None:
    """Wait until the kernel has just taken a new key: what is frozen then draws alike for the longest time.

    Returns at the deadline, or at once where the kernel keeps its generator otherwise.
    """
    before: int | None = None
    with suppress(WalkError, LayoutError):
        while BASE in cell.linux.symbols and not deadline.expired:
            with cell.machine.stopped():
                linux = cell.linux.anew()
                generation = linux.uint(_generator(linux)[1])
            if before not in (None, generation):
                return
            before = generation
            cell.machine.console.drain(deadline.at_most(LOOK_SECONDS))


def _generator(linux: Linux) -> tuple[int, int]:
    """Return the addresses of base_crng and of its generation, recognised."""
    base, per_cpu = linux.symbols[BASE], linux.symbols["crngs"]
    known = {linux.uint(linux.per_cpu(per_cpu, cpu) + KEY_SIZE) for cpu in linux.cpus()} - {UNUSED}
    latest = max(known, default=1)
    for place in PLACES:
        if latest <= linux.uint(base + place) < latest + AHEAD:
            return base, base + place
    raise WalkError(
        f"the kernel's random generator is not laid out as known: its processors have {sorted(known)}"
    )
