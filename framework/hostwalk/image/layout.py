"""Name/value tables that the compiler left in exerciser and agent; see guest/include/hostwalk_table.h."""

from __future__ import annotations

import difflib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar, overload

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from hostwalk.errors import LayoutError

LAYOUT_SECTION = ".hostwalk.layout"
ABI_SECTION = ".hostwalk.abi"
_T = TypeVar("_T")
_ENTRY = struct.Struct("<88sQ")


def read_table(elf: Path, section: str) -> dict[str, int]:
    """Return the entries of a table in a section of an ELF file, in the file's order.

    Raises LayoutError when the file is no ELF file, has no such section, or the section is no such table.
    """
    try:
        with elf.open("rb") as stream:
            found = ELFFile(stream).get_section_by_name(section)
            data = None if found is None else found.data()
    except (OSError, ELFError) as error:
        raise LayoutError(f"{elf} is not a readable ELF file: {error}") from error
    if data is None:
        raise LayoutError(f"{elf} has no section {section}", remedy="build it again: hostwalk cache clear")
    return parse_table(data, f"section {section} of {elf}")


def parse_table(data: bytes, where: str) -> dict[str, int]:
    """Return the entries of a raw table; ``where`` names it in a LayoutError."""
    if len(data) % _ENTRY.size:
        raise LayoutError(f"{where} holds {len(data)} bytes, not a multiple of {_ENTRY.size}")
    table: dict[str, int] = {}
    for raw, value in _ENTRY.iter_unpack(data):
        name = raw.rstrip(b"\0").decode("ascii", "replace")
        if not name or not name.isprintable() or "\ufffd" in name:
            raise LayoutError(f"{where} is damaged: an entry is named {raw!r}")
        if table.setdefault(name, value) != value:
            raise LayoutError(f"{where} contradicts itself: {name} is {table[name]:#x} and {value:#x}")
    return table


class Layout(Mapping[str, int]):
    """The constants, sizes and offsets that one binary was compiled with.

    A mapping from the exact key, such as ``offsetof(struct page, _refcount)``, to its value. A missing key
    raises LayoutError; ``in``, ``has`` and ``get`` do not raise.
    """

    def __init__(self, table: Mapping[str, int], source: str = "a table") -> None:
        self._table = dict(table)
        self.source = source

    @classmethod
    def load(cls, path: Path) -> Layout:
        """Return the table of an exerciser (.ko) or an agent; raise LayoutError."""
        section = LAYOUT_SECTION if path.suffix == ".ko" else ABI_SECTION
        return cls(read_table(path, section), str(path))

    def __getitem__(self, key: str) -> int:
        try:
            return self._table[key]
        except KeyError:
            raise self._missing(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, key: object) -> bool:
        return key in self._table

    def __repr__(self) -> str:
        return f"Layout({len(self._table)} entries of {self.source})"

    @overload
    def get(self, key: str, default: None = None, /) -> int | None: ...
    @overload
    def get(self, key: str, default: int | _T, /) -> int | _T: ...
    def get(self, key: str, default: int | _T | None = None, /) -> int | _T | None:
        """Return the value of a key, or the default."""
        return self._table.get(key, default)

    def has(self, key: str) -> bool:
        """Return whether the table has this key."""
        return key in self._table

    def const(self, name: str) -> int:
        """Return a constant, such as ``PAGE_SIZE``."""
        return self[name]

    def signed(self, name: str) -> int:
        """Return a constant that the compiler sign-extended to 64 bits."""
        value = self[name]
        return value - (1 << 64) if value >> 63 else value

    def sizeof(self, type_: str) -> int:
        """Return the bytes of a type, such as ``struct page``."""
        return self[f"sizeof({type_})"]

    def offsetof(self, type_: str, member: str) -> int:
        """Return the offset in bytes of a member of a type."""
        return self[f"offsetof({type_}, {member})"]

    def member_size(self, type_: str, member: str) -> int:
        """Return the bytes of a member of a type."""
        return self[f"sizeof({type_}.{member})"]

    def has_member(self, type_: str, member: str) -> bool:
        """Return whether the type has the member in this build."""
        return f"offsetof({type_}, {member})" in self._table

    def _missing(self, key: str) -> LayoutError:
        close = difflib.get_close_matches(key, self._table, 3)
        remedy = (
            f"close: {', '.join(close)}" if close else "add it to guest/module/layout.c or guest/agent/abi.c"
        )
        return LayoutError(f"{self.source} has no {key!r}", remedy=remedy)


Abi = Layout
