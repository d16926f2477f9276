"""A kernel's symbols as an ELF file that holds nothing else, for debuggers: System V ABI, chapter 4."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from hostwalk.target import Arch

_MACHINES = {Arch.X86_64: 62, Arch.ARM64: 183}
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_PROGBITS, _SYMTAB, _STRTAB, _NOBITS = 1, 2, 3, 8
_ALLOC_EXEC, _GLOBAL_FUNC, _TEXT_INDEX = 6, 0x12, 1
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
_LAST = 1 << 12
"""Bytes that the last symbol is taken to have."""
_NAMES = b"\0.text\0.symtab\0.strtab\0.shstrtab\0"


def symbol_file(arch: Arch, symbols: Mapping[str, int]) -> bytes:
    """Return an ELF file whose symbols have these addresses, all in one section that covers them; raises ValueError."""
    low = min(address for address in symbols.values() if address >> 63)
    high = max(symbols.values())
    strings, table = bytearray(b"\0"), bytearray(_SYMBOL.size)
    for name, address in symbols.items():
        if low <= address:
            table += _SYMBOL.pack(len(strings), _GLOBAL_FUNC, 0, _TEXT_INDEX, address, 0)
            strings += name.encode() + b"\0"
    start = _HEADER.size
    sections = [
        _section("", 0, 0, 0, 0),
        _section(".text", _NOBITS, start, high - low + _LAST, 16, flags=_ALLOC_EXEC, address=low),
        _section(".symtab", _SYMTAB, start, len(table), 8, link=3, info=1, entry=_SYMBOL.size),
        _section(".strtab", _STRTAB, start + len(table), len(strings), 1),
        _section(".shstrtab", _STRTAB, start + len(table) + len(strings), len(_NAMES), 1),
    ]
    body = bytes(table) + bytes(strings) + _NAMES
    header = _HEADER.pack(
        _IDENT, 2, _MACHINES[arch], 1, 0, 0, start + len(body), 0, _HEADER.size, 0, 0, _SECTION.size, len(sections), 4
    )  # fmt: skip
    return header + body + b"".join(sections)


def _section(
    name: str, kind: int, offset: int, size: int, align: int, *, flags: int = 0, address: int = 0,
    link: int = 0, info: int = 0, entry: int = 0,
) -> bytes:  # fmt: skip
    place = _NAMES.index(name.encode() + b"\0") if name else 0
    return _SECTION.pack(place, kind, flags, address, offset, size, link, info, align, entry)
