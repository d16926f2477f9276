"""The ways in which kernels and modules are compressed, told apart by their first bytes."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

import lz4.block
import zstandard

_LZ4_LEGACY = b"\x02\x21\x4c\x18"


class DamagedError(ValueError):
    """Compressed data that cannot be decompressed, or that is compressed in no way that is known."""


def decompress(data: bytes, size: int | None = None) -> bytes:
    """Return decompressed data; what follows the end of it is ignored.

    ``size`` is what must come out, where that is known. Raises DamagedError.
    """
    way = next((way for magic, way in _WAYS.items() if data.startswith(magic)), None)
    if way is None:
        raise DamagedError(f"it is compressed in a way that is not known ({data[:4].hex(' ')})")
    try:
        out = way(data)
    except (
        zlib.error,
        lzma.LZMAError,
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        zstandard.ZstdError,
    ) as error:
        raise DamagedError(f"its compressed part is corrupt ({error})") from error
    if size is not None and len(out) != size:
        raise DamagedError(f"its compressed part holds {len(out)} bytes and should hold {size}")
    return out


def inflate_head(data: bytes, size: int) -> bytes:
    """Return the first ``size`` bytes of gzip data, or less if it is damaged."""
    try:
        return zlib.decompressobj(31).decompress(data, size)
    except zlib.error:
        return b""


def _gzip(data: bytes) -> bytes:
    return _complete(zlib.decompressobj(31), data)


def _xz(data: bytes) -> bytes:
    return _complete(lzma.LZMADecompressor(lzma.FORMAT_XZ), data)


def _lzma(data: bytes) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)


def _bzip2(data: bytes) -> bytes:
    return _complete(bz2.BZ2Decompressor(), data)


def _zstd(data: bytes) -> bytes:
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    out = decompressor.decompress(data)
    if not decompressor.eof:
        raise EOFError("it ends too early")
    return out


def _lz4(data: bytes) -> bytes:
    """Decompress the legacy frame format: blocks of at most 8 MiB, each with its compressed size."""
    at, parts = 4, []
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        if size == int.from_bytes(_LZ4_LEGACY, "little"):
            at += 4
            continue
        if at + 4 + size > len(data) or size == 0:
            break
        parts.append(lz4.block.decompress(data[at + 4 : at + 4 + size], uncompressed_size=8 << 20))
        at += 4 + size
    return b"".join(parts)


def _complete(
    decompressor: zlib._Decompress | lzma.LZMADecompressor | bz2.BZ2Decompressor, data: bytes
) -> bytes:
    out = decompressor.decompress(data)
    if not decompressor.eof:
        raise EOFError("it ends too early")
    return out


_WAYS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": _gzip,
    b"\xfd7zXZ\0": _xz,
    b"BZh": _bzip2,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x5d\0\0": _lzma,
    _LZ4_LEGACY: _lz4,
}
