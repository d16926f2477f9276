"""The state of a machine's devices as QEMU writes it: a stream of sections, in a file or in a qcow2 image.

Only what is needed to know whether the processors are at rest, and to leave one section out. ``cpu_common`` (QEMU,
cpu_common_post_load()) holds two numbers, and loading it drops all code that TCG has translated, which then takes ten
times what the loading took. What the numbers say of a processor at rest, a reset of the board, which comes before a
load, says too: no interrupt waits, and the first processor, which was halted, wakes once for nothing.

Sources: QEMU's docs/interop/qcow2.txt, migration/savevm.c (sections), cpu.c (vmstate_cpu_common),
hw/core/cpu-common.c (cpu_common_reset).
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Self

STREAM_MAGIC = b"QEVM"
_OFFSET = (1 << 56) - 512
_COMMON = re.compile(
    rb"\x04(?P<section>.{4})\x0acpu_common(?P<instance>.{4})\0\0\0\x01"
    rb"(?P<halted>.{4})(?P<interrupts>.{4})\x7e(?P=section)",
    re.DOTALL,
)
_ANY_COMMON = b"\x0acpu_common"


def at_rest(stream: bytes) -> bool:
    """Return whether every processor of a stream is halted, and no interrupt waits for it."""
    found = tuple(_COMMON.finditer(stream))
    return len(found) == stream.count(_ANY_COMMON) > 0 and all(
        int.from_bytes(each["halted"]) == 1 and int.from_bytes(each["interrupts"]) == 0 for each in found
    )


@dataclass(frozen=True)
class Snapshot:
    """The state in an image's only snapshot: where its clusters of ``cluster`` bytes lie, and their contents."""

    places: tuple[int, ...]
    cluster: int
    state: bytes

    @classmethod
    def of(cls, image: bytes) -> Self:
        """Find it in an image without a backing file; raise ValueError where that is not possible."""
        try:
            return cls._found(image)
        except struct.error as error:
            raise ValueError(f"the image of the snapshot is cut short: {error}") from error

    @classmethod
    def _found(cls, image: bytes) -> Self:
        cluster = 1 << struct.unpack_from(">I", image, 20)[0]
        count, table = struct.unpack_from(">IQ", image, 60)
        if image[:4] != b"QFI\xfb" or count != 1:
            raise ValueError(f"no qcow2 image with one snapshot, but {count}")
        size, disk = struct.unpack_from(">QQ", image, table + 40)
        first = -(-disk // (cluster * (cluster // 8)))
        (level1,) = struct.unpack_from(">Q", image, table)
        (level2,) = struct.unpack_from(">Q", image, level1 + 8 * first)
        entries = struct.unpack_from(f">{-(-size // cluster)}Q", image, level2 & _OFFSET)
        places = tuple(entry & _OFFSET for entry in entries)
        state = b"".join(image[place : place + cluster] for place in places)[:size]
        if state[:4] != STREAM_MAGIC or not all(places):
            raise ValueError("the snapshot does not begin like QEMU's stream, or has holes")
        return cls(places, cluster, state)

    @cached_property
    def warm(self) -> bytes | None:
        """The state, as long as before, that leaves translated code alone; None where it has to be loaded whole."""
        if not at_rest(self.state):
            return None
        return _COMMON.sub(b"", self.state).ljust(len(self.state), b"\0")

    def put(self, image: int, state: bytes) -> None:
        """Write a state, as long as this one, in its place in an image file."""
        for number, place in enumerate(self.places):
            os.pwrite(image, state[number * self.cluster : (number + 1) * self.cluster], place)
