"""Pages that are pinned, as the host sees them: how many by the kernel's own counters, which ones, and whose they are.

The counters decide whether pages were left pinned; the page frames name them. A page of order 0 has no count of its
own for pins: it shows as pinned from GUP_PIN_COUNTING_BIAS references on (mm/gup.c, folio_maybe_dma_pinned).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hostwalk.audit.collect import User, users
from hostwalk.cell import Cell
from hostwalk.deadline import Deadline
from hostwalk.linux import Linux, Page
from hostwalk.linux.node import Node
from hostwalk.moment import Moment
from hostwalk.paging import Leaves, scan

SETTLE_SECONDS = 10.0
NAMED = 8
_FLAGS = 0b11


@dataclass(frozen=True)
class Pins:
    """What is pinned at a moment: ``count`` by the kernel's counters, ``frames`` the pins of folios by their first pfn.

    No frames are looked for where nothing is pinned, or no more than was wanted.
    """

    count: int
    frames: Mapping[int, int]


def pins(cell: Cell) -> Pins:
    """Return what is pinned now; stops the machine for it.

    Raises LayoutError, WalkError, and what a broken machine raises.
    """
    with cell.machine.stopped():
        moment = cell.moment()
        count = counted(moment.linux)
        return Pins(count, pinned_frames(moment) if count else {})


def counted(linux: Linux) -> int:
    """Return NR_FOLL_PIN_ACQUIRED less NR_FOLL_PIN_RELEASED (mm/gup.c): pins that are held."""
    node = Node.first(linux)
    return node.stat("NR_FOLL_PIN_ACQUIRED") - node.stat("NR_FOLL_PIN_RELEASED")


def settled(cell: Cell, wanted: int) -> Pins:
    """Return what is pinned when the kernel has had time to release what it releases late, down to ``wanted`` pins.

    Frames are looked for only where more are left at the end of that time. Raises what :func:`pins` raises.
    """
    limit = Deadline.after(SETTLE_SECONDS)
    while (held := _looked(cell, wanted, last=limit.expired)) is None:
        cell.settle()
    return held


def _looked(cell: Cell, wanted: int, *, last: bool) -> Pins | None:
    """Return what is pinned; None while it is more than ``wanted`` and this is not the last look."""
    with cell.machine.stopped():
        moment = cell.moment()
        count = counted(moment.linux)
        if count <= wanted:
            return Pins(count, {})
        return Pins(count, pinned_frames(moment)) if last else None


def pinned_frames(moment: Moment) -> dict[int, int]:
    """Return the pins of each folio in RAM that has any, by the page frame of its head."""
    size = moment.layout["PAGE_SIZE"]
    found: dict[int, int] = {}
    for region in moment.memory.regions:
        pfns = np.arange(region.start // size, region.end // size, dtype=np.uint64)
        pages = moment.linux.pages(pfns)
        held = (pages.pincount > 0) & (pages.head == pages.pfn) & (pages.page_type >= -1)
        found |= zip(pages.pfn[held].tolist(), pages.pincount[held].tolist(), strict=True)
    return found


def leaked(cell: Cell, before: Pins, after: Pins) -> str:
    """Return which folios have more pins than before, and whose they are, for people; stops the machine for it."""
    more = {pfn: had - before.frames.get(pfn, 0) for pfn, had in after.frames.items()}
    held = [pfn for pfn, count in more.items() if count > 0]
    if not held:
        return "none of the page frames shows it"
    with cell.machine.stopped():
        told = owners(cell.moment(), held[:NAMED])
    words = [f"pfn {pfn:#x} ({more[pfn]}), {told[pfn]}" for pfn in held[:NAMED]]
    return "; ".join([*words, *([f"and {len(held) - NAMED} more"] if len(held) > NAMED else [])])


def owners(moment: Moment, pfns: Sequence[int]) -> dict[int, str]:
    """Return whose each page frame is: the processes that map it, else what the kernel has it for."""
    found = users(moment.linux)
    spaces = [(user, scan(moment.memory, user.mm.space)) for user in found]
    return {pfn: _owner(moment, spaces, pfn) for pfn in pfns}


def _owner(moment: Moment, spaces: Sequence[tuple[User, Leaves]], pfn: int) -> str:
    page = moment.linux.page(pfn)
    last = pfn + (1 << page.order) - 1
    maps = [
        f"{user.comm} (pid {user.pid}) at {at:#x}" for user, leaves in spaces for at in _at(leaves, pfn, last)
    ]
    if maps:
        return f"{'anonymous memory' if page.anon else 'a page'} of {' and '.join(maps[:2])}"
    return f"{_kernel_use(moment.linux, page)}, which no process maps"


def _at(leaves: Leaves, first: int, last: int) -> list[int]:
    """Return the first address at which leaves map some of a range of page frames; empty where none does."""
    size = leaves.size // np.uint64(leaves.space.format.page_size)
    here = np.flatnonzero(leaves.linux_present & (leaves.pfn <= last) & (leaves.pfn + size > first))
    return [int(leaves.virt_addr[at]) for at in here[:1]]


def _kernel_use(linux: Linux, page: Page) -> str:
    if page.type:
        return f"a page of the kernel's ({page.type})"
    if page.anon:
        return "anonymous memory"
    if not page.mapping:
        return "a page of nothing"
    host = linux.member(page.mapping & ~_FLAGS, "struct address_space", "host")
    return (
        f"the page cache of inode {linux.member(host, 'struct inode', 'i_ino')}" if host else "a page cache"
    )
