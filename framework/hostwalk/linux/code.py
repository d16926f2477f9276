"""Where a guest has code: the pages that are mapped executable, in the kernel or in a process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hostwalk.linux.kernel import Linux
from hostwalk.paging import Leaves, Rights, scan

Mask = np.typing.NDArray[np.bool_]


def code_blocks(linux: Linux, block: int) -> Mask:
    """Return for each ``block`` bytes of the file that backs the RAM whether they are mapped executable.

    ``linux`` is the kernel at the moment asked about; its memory's regions say what of the file is where. Raises
    WalkError, MemoryReadError.
    """
    regions = linux.memory.regions
    size = max(region.offset + region.size for region in regions)
    blocks = np.zeros(-(-size // block), dtype=np.bool_)
    for start, end in _executable(linux):
        for region in regions:
            low, high = max(start, region.start), min(end, region.end)
            if low < high:
                first, last = (low - region.start + region.offset, high - region.start + region.offset)
                blocks[first // block : -(-last // block)] = True
    return blocks


def _executable(linux: Linux) -> Iterator[tuple[int, int]]:
    """Yield [first, last) of guest physical addresses."""
    yield from _ranges(scan(linux.memory, linux.kernel_space), Rights.EXEC | Rights.USER_EXEC)
    for task in linux.tasks():
        if task.mm is not None:
            yield from _ranges(scan(linux.memory, task.mm.space), Rights.USER_EXEC)


def _ranges(leaves: Leaves, rights: Rights) -> Iterator[tuple[int, int]]:
    found = leaves[(leaves.rights & np.uint8(rights)) != 0]
    ends = found.phys_addr + found.size
    yield from zip(found.phys_addr.tolist(), ends.tolist(), strict=True)
