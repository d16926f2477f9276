"""The kernel's own symbol table, decoded from a boot image (scripts/kallsyms.c, kernel/kallsyms.c).

Names are runs of bytes, each standing for a token of ``kallsyms_token_table``. The tables lie next to each
other in one of two orders::

    before 6.4:  offsets, relative base, count, names, markers, [seqs,] tokens, token index
    since 6.4:   count, names, markers, tokens, token index, offsets, relative base, seqs

Everything that is found is checked against something else: token index against tokens, markers against names,
addresses against their own order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_DIGITS = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00"
_TOKENS = 256
_LONGEST_TOKEN = 64
_BLOCK = 256
_R_AARCH64_RELATIVE = np.uint64(1027)
_IMAGE_ALIGNMENT = np.uint64(2 << 20)
_KERNEL_HALF = np.uint64(1 << 63)


@dataclass(frozen=True)
class Table:
    """Decoded symbols in the order of their addresses; ``types`` has one nm(1) letter for each name."""

    addresses: npt.NDArray[np.uint64]
    names: list[str]
    types: str


@dataclass(frozen=True)
class _Names:
    """Where ``count`` names start and where they were followed by ``markers`` (file offsets)."""

    count_at: int
    count: int
    start: int
    markers: int
    ends: list[tuple[int, int]]


def decode(image: bytes) -> Table | None:
    """Return the symbols of an uncompressed kernel (ELF file or raw Image), or None where there are none."""
    for start, tokens in _token_tables(image):
        index = _align8(start + sum(len(token) + 1 for token in tokens))
        for names in _names(image, start):
            addresses = _addresses(image, names, index + 2 * _TOKENS)
            if addresses is not None:
                return _table(image, names, tokens, addresses)
    return None


def _table(image: bytes, names: _Names, tokens: list[bytes], addresses: npt.NDArray[np.uint64]) -> Table:
    join = b"".join
    lookup = tokens.__getitem__
    whole = [join(map(lookup, image[start:end])).decode("ascii", "replace") for start, end in names.ends]
    return Table(addresses, [name[1:] for name in whole], "".join(name[:1] for name in whole))


def _token_tables(image: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Yield token tables: offset and tokens. The digits stand for themselves, at their ASCII codes."""
    at = image.find(_DIGITS)
    while at >= 0:
        for start in range(at & ~7, max(0, at - ord("0") * _LONGEST_TOKEN), -8):
            tokens = image[start : start + _TOKENS * _LONGEST_TOKEN].split(b"\0", _TOKENS)[:_TOKENS]
            if len(tokens) == _TOKENS and _index_fits(image, start, tokens):
                yield start, tokens
        at = image.find(_DIGITS, at + 1)


def _index_fits(image: bytes, start: int, tokens: list[bytes]) -> bool:
    if any(tokens[ord("0") + digit] != b"%d" % digit for digit in range(10)):
        return False
    ends = np.cumsum([len(token) + 1 for token in tokens])
    offsets = np.concatenate(([0], ends[:-1]))
    return image.startswith(offsets.astype("<u2").tobytes(), _align8(start + int(ends[-1])))


def _names(image: bytes, before: int) -> Iterator[_Names]:
    """Yield name tables whose markers end before an offset, nearest first."""
    base = max(0, before - (1 << 24)) & ~7
    words = np.frombuffer(image, "<u4", (before - base) // 4, base)
    for first in _chains(words):
        markers = _chain(words[first:])
        yield from _names_before(image, base + 4 * int(first), markers)


def _chains(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """Return where a run of markers may start: a zero at an 8-byte boundary, then steps of plausible size."""
    if len(words) < 4:
        return np.empty(0, np.intp)
    zeros = np.flatnonzero((words[:-1] == 0) & (words[1:] >= 2 * _BLOCK) & (words[1:] < 512 * _BLOCK))
    found: npt.NDArray[np.intp] = zeros[zeros % 2 == 0][::-1]
    return found


def _chain(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    steps = np.diff(words[: 1 << 16].astype(np.int64))
    wrong = np.flatnonzero((steps < 2 * _BLOCK) | (steps >= 512 * _BLOCK))
    return words[: int(wrong[0]) + 1 if len(wrong) else len(steps) + 1]


def _names_before(image: bytes, markers_at: int, markers: npt.NDArray[np.uint32]) -> Iterator[_Names]:
    last = int(markers[-1])
    for count_at in range((markers_at - last - 8) & ~7, max(0, markers_at - last - 512 * _BLOCK), -8):
        count = int.from_bytes(image[count_at : count_at + 8], "little")
        if (count + _BLOCK - 1) // _BLOCK != len(markers):
            continue
        ends = _walk(image, count_at + 8, count, markers_at)
        if ends and all(
            ends[_BLOCK * k][2] - count_at - 8 == marker for k, marker in enumerate(markers.tolist())
        ):
            yield _Names(count_at, count, count_at + 8, markers_at, [(start, end) for start, end, _ in ends])


def _walk(image: bytes, at: int, count: int, limit: int) -> list[tuple[int, int, int]]:
    """Return start, end and start of the length of each name; empty unless they end at ``limit``."""
    ends = []
    for _ in range(count):
        if at >= limit:
            return []
        length, start = image[at], at + 1
        if length & 0x80:
            length, start = length & 0x7F | image[start] << 7, start + 1
        ends.append((start, start + length, at))
        at = start + length
    return ends if _align8(at) == limit else []


def _addresses(image: bytes, names: _Names, after: int) -> npt.NDArray[np.uint64] | None:
    """Return the addresses: before the names (old order) or after the token index (new order)."""
    for offsets_at, base_at in _places(names, after):
        if offsets_at < 0 or base_at + 8 > len(image):
            continue
        offsets = np.frombuffer(image, "<i4", names.count, offsets_at)
        base = _base(image, base_at)
        if base and (found := _from_offsets(offsets, base)) is not None:
            return found
    start = names.count_at - 8 * names.count
    absolute = np.frombuffer(image, "<u8", names.count, start) if start >= 0 else None
    return absolute.copy() if absolute is not None and _is_plausible(absolute) else None


def _places(names: _Names, after: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where offsets and relative base may be: in the new order, and in the old one."""
    size = _align8(4 * names.count)
    return (after, after + size), (names.count_at - 8 - size, names.count_at - 8)


def _base(image: bytes, at: int) -> int:
    """Return the relative base: as it stands, or from the relocation that will fill it in."""
    (base,) = struct.unpack_from("<Q", image, at)
    return int(base) if base else _relocated(image, at)


def _relocated(image: bytes, at: int) -> int:
    """Return what an R_AARCH64_RELATIVE relocation puts at an offset of a raw Image, or 0.

    The Image starts at a multiple of 2 MiB: r_offset minus ``at`` for the relocation that fits. The base is
    the lowest symbol, near that start, and all relocations lie in the Image.
    """
    offsets, addends = _relocations(image)
    starts = offsets - np.uint64(at)
    near = addends - starts
    fits = (
        (starts % _IMAGE_ALIGNMENT == 0)
        & (near < _IMAGE_ALIGNMENT)
        & (starts <= offsets.min(initial=2**64 - 1))
    )
    fits &= offsets.max(initial=0) - starts < len(image)
    hits = np.flatnonzero(fits)
    return int(addends[hits[near[hits].argmin()]]) if len(hits) else 0


def _relocations(image: bytes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return r_offset and r_addend of what looks like R_AARCH64_RELATIVE entries for kernel addresses."""
    words = np.frombuffer(image, "<u8", len(image) // 8)
    at = np.flatnonzero(words[1:-1] == _R_AARCH64_RELATIVE) + 1
    offsets, addends = words[at - 1], words[at + 1]
    kernel = (offsets > _KERNEL_HALF) & (addends > _KERNEL_HALF)
    return offsets[kernel], addends[kernel]


def _from_offsets(offsets: npt.NDArray[np.int32], base: int) -> npt.NDArray[np.uint64] | None:
    """Return addresses; negative offsets mean KALLSYMS_ABSOLUTE_PERCPU: -1 - offset above the base."""
    wide = offsets.astype(np.int64)
    relative = np.where(wide < 0, -1 - wide, wide).astype(np.uint64) + np.uint64(base)
    percpu = bool((wide < 0).any())
    addresses = np.where(wide >= 0, wide.astype(np.uint64), relative) if percpu else relative
    return addresses if _is_plausible(addresses) else None


def _is_plausible(addresses: npt.NDArray[Any]) -> bool:
    """Return whether these can be a kernel's addresses: in order, and most of them in the upper half."""
    kernel = int((addresses >= _KERNEL_HALF).sum())
    return kernel * 2 > len(addresses) and bool((addresses[1:] >= addresses[:-1]).all())


def _align8(offset: int) -> int:
    return offset + 7 & ~7
