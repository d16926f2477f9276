"""Exported symbols, decoded from a boot image: ``__ksymtab`` (include/linux/export.h).

A kernel without CONFIG_KALLSYMS_ALL names only functions in its kallsyms. Variables that modules may use are
in the export table, init_task among them. An entry is three signed 32-bit numbers: the distances to a value,
a name (which may be the tail of a longer one) and a namespace.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

_ENTRY = 12
_FEW = 100
_PT_LOAD = 1
_ANCHOR = b"init_task\0"


def decode(image: bytes) -> dict[str, int]:
    """Return offsets in a raw image of the symbols that it exports; empty if there is no such table."""
    values = np.frombuffer(image, "<i4", len(image) // 4)
    at = image.find(_ANCHOR)
    while at >= 0:
        for entry in _entries_naming(values, at):
            found = _table(image, entry)
            if len(found) > _FEW:
                return found
        at = image.find(_ANCHOR, at + 1)
    return {}


def load(kernel: bytes) -> bytes:
    """Return a kernel as it lies in memory from its lowest address in the upper half on."""
    if kernel[:4] != b"\x7fELF":
        return kernel
    segments = [segment for segment in _segments(kernel) if segment[1] >> 63]
    start = min((address for _, address, _ in segments), default=0)
    memory = bytearray(max((address + size - start for _, address, size in segments), default=0))
    for offset, address, size in segments:
        memory[address - start : address - start + size] = kernel[offset : offset + size]
    return bytes(memory)


def _segments(elf: bytes) -> list[tuple[int, int, int]]:
    """Return file offset, address and bytes of what an ELF file loads."""
    (start,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    headers = (struct.unpack_from("<IIQQQQ", elf, start + size * number) for number in range(count))
    return [(offset, address, length) for kind, _, offset, address, _, length in headers if kind == _PT_LOAD]


def _entries_naming(values: npt.NDArray[np.int32], name_at: int) -> list[int]:
    """Return offsets of entries whose second number leads to a name."""
    positions = np.arange(0, 4 * len(values), 4, dtype=np.int64)
    hits = np.flatnonzero(values + positions == name_at) * 4
    return [int(hit) - 4 for hit in hits if hit >= 4]


def _table(image: bytes, entry: int) -> dict[str, int]:
    """Return the table around an entry: names to offsets in the image."""
    found: dict[str, int] = {}
    for step in (-_ENTRY, _ENTRY):
        at = entry
        while symbol := _symbol(image, at):
            found.setdefault(*symbol)
            at += step
    return found


def _symbol(image: bytes, at: int) -> tuple[str, int] | None:
    if at < 0 or at + _ENTRY > len(image):
        return None
    value, name, _ = struct.unpack_from("<iii", image, at)
    start = at + 4 + name
    if not 0 < start < len(image):
        return None
    text = image[start : image.find(b"\0", start, start + 512)]
    is_name = text.isascii() and text.decode("ascii", "replace").isidentifier()
    return (text.decode("ascii"), at + value) if is_name else None
