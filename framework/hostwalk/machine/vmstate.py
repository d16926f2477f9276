"""The state of a machine's devices as QEMU keeps it in a qcow2 image: an internal snapshot.

Only what is needed to leave one section out of it. ``cpu_common`` (QEMU, cpu_common_post_load()) holds two numbers,
and loading it drops all code that TCG has translated, which then takes ten times what the loading took. What the
numbers say, a reset of the board, which comes before a load, says too: no interrupt waits, and a processor that
was halted wakes once for nothing.

Sources: QEMU's docs/interop/qcow2.txt, migration/savevm.c (sections), cpu.c (vmstate_cpu_common).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Self

STREAM_MAGIC = b"QEVM"
SECTION_FULL, SECTION_FOOTER = 0x04, 0x7E
COMMON = b"cpu_common"
COMMON_VERSION = 1
_OFFSET = (1 << 56) - 512
_HEAD = struct.Struct(f">BIB{len(COMMON)}sII")
_NUMBERS = struct.Struct(">II")
_FOOT = struct.Struct(">BI")


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
        if state[:4] != STREAM_MAGIC:
            raise ValueError("the snapshot does not begin like QEMU's stream")
        return cls(places, cluster, state)

    @cached_property
    def warm(self) -> bytes | None:
        """The state, as long as before, that leaves translated code alone; None where it has to be loaded whole.

        That is with several processors, with one for which an interrupt waits, and with a section of another form.
        """
        start = self.state.find(bytes((len(COMMON),)) + COMMON) - 5
        if start < 0 or self.state.count(bytes((len(COMMON),)) + COMMON) != 1:
            return None
        kind, section, _, _, _, version = _HEAD.unpack_from(self.state, start)
        _, interrupts = _NUMBERS.unpack_from(self.state, start + _HEAD.size)
        foot = start + _HEAD.size + _NUMBERS.size
        plain = (kind, version, interrupts) == (SECTION_FULL, COMMON_VERSION, 0)
        if not plain or _FOOT.unpack_from(self.state, foot) != (SECTION_FOOTER, section):
            return None
        rest = self.state[foot + _FOOT.size :]
        return self.state[:start] + rest + bytes(len(self.state) - start - len(rest))

    def put(self, image: int, state: bytes) -> None:
        """Write a state, as long as this one, in its place in an image file."""
        for number, place in enumerate(self.places):
            os.pwrite(image, state[number * self.cluster : (number + 1) * self.cluster], place)
