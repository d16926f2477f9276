"""Addresses of the kernel's symbols, as linked: from its kallsyms, its export table or a System.map."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt
import zstandard

from hostwalk.errors import LayoutError
from hostwalk.kernels import exports, kallsyms

_REMEDY = "give its System.map (--symbols FILE), or use a kernel with CONFIG_KALLSYMS_ALL"
_MAP_LINE = re.compile(r"^([0-9a-f]{8,16}) ([A-Za-z?]) (\S+)(?:\t\[.*)?$", re.MULTILINE)
_T = TypeVar("_T")
_NAMES = "names.zst"
_ADDRESSES = "addresses.npy"


class Symbols(Mapping[str, int]):
    """A mapping from a symbol's name to its address; the lowest one where static symbols share a name.

    A missing name raises LayoutError; ``in`` and ``get`` do not raise.
    """

    def __init__(self, addresses: Sequence[int], names: Sequence[str], types: str, source: str) -> None:
        order = np.argsort(np.asarray(addresses, np.uint64), kind="stable")
        self.addresses: npt.NDArray[np.uint64] = np.asarray(addresses, np.uint64)[order]
        self.names = [names[index] for index in order.tolist()]
        self.types = "".join(types[index] for index in order.tolist())
        self.source = source

    @cached_property
    def _table(self) -> dict[str, int]:
        return dict(zip(reversed(self.names), reversed(self.addresses.tolist()), strict=True))

    def __getitem__(self, name: str) -> int:
        try:
            return self._table[name]
        except KeyError:
            raise self._missing(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __repr__(self) -> str:
        return f"Symbols({len(self.names)} of {self.source})"

    @overload
    def get(self, name: str, default: None = None, /) -> int | None: ...
    @overload
    def get(self, name: str, default: int | _T, /) -> int | _T: ...
    def get(self, name: str, default: int | _T | None = None, /) -> int | _T | None:
        """Return an address, or the default."""
        return self._table.get(name, default)

    def all(self, name: str) -> tuple[int, ...]:
        """Return the addresses of all symbols of a name, lowest first."""
        return tuple(int(self.addresses[at]) for at, each in enumerate(self.names) if each == name)

    def nearest(self, address: int) -> tuple[str, int]:
        """Return the symbol at or below an address and the distance to it; raises LayoutError below all."""
        at = int(np.searchsorted(self.addresses, np.uint64(address), "right")) - 1
        if at < 0:
            raise LayoutError(f"no symbol of {self.source} lies at or below {address:#x}")
        first = int(np.searchsorted(self.addresses, self.addresses[at], "left"))
        return self.names[first], address - int(self.addresses[first])

    def save(self, directory: Path) -> None:
        """Write the symbols as files of a directory; raises OSError."""
        np.save(directory / _ADDRESSES, self.addresses)
        text = "\n".join([self.source, self.types, *self.names])
        (directory / _NAMES).write_bytes(zstandard.ZstdCompressor(level=3).compress(text.encode()))

    @classmethod
    def load(cls, directory: Path) -> Symbols:
        """Return what ``save`` wrote; raises OSError."""
        symbols = cls.__new__(cls)
        symbols.addresses = np.load(directory / _ADDRESSES)
        text = zstandard.ZstdDecompressor().decompress((directory / _NAMES).read_bytes()).decode()
        symbols.source, symbols.types, *symbols.names = text.split("\n")
        return symbols

    def _missing(self, name: str) -> LayoutError:
        close = difflib.get_close_matches(name, self._table, 3, 0.75)
        hint = f"close: {', '.join(close)}; or " if close else ""
        return LayoutError(f"{self.source} has no symbol {name!r}", remedy=hint + _REMEDY)


def from_kernel(kernel: bytes, source: str) -> Symbols:
    """Return the symbols of an uncompressed kernel (ELF file or raw Image).

    Where kallsyms has functions only, the exported variables are added. Raises LayoutError without kallsyms.
    """
    table = kallsyms.decode(kernel)
    if table is None:
        raise LayoutError(f"{source} carries no symbols (kallsyms)", remedy=_REMEDY)
    addresses, names, types = table.addresses.tolist(), table.names, table.types
    if "init_task" not in names:
        added = _exported(kernel, dict(zip(names, addresses, strict=True)))
        addresses, names, types = [*addresses, *added.values()], [*names, *added], types + "D" * len(added)
    if "init_task" not in names:
        raise LayoutError(f"{source} carries symbols of functions only", remedy=_REMEDY)
    return Symbols(addresses, names, types, source)


def _exported(kernel: bytes, known: Mapping[str, int]) -> dict[str, int]:
    """Return exported symbols that are not known; where the image lies follows from those that are."""
    offsets = exports.decode(exports.load(kernel))
    starts = Counter(known[name] - offset for name, offset in offsets.items() if name in known)
    if not starts:
        return {}
    start, votes = starts.most_common(1)[0]
    if votes * 10 < starts.total() * 9:
        return {}
    found = {name: start + offset for name, offset in offsets.items()} | {"_text": start}
    return {name: address for name, address in found.items() if name not in known}


def from_system_map(text: str, source: str) -> Symbols:
    """Return the symbols of a System.map or of /proc/kallsyms; raises LayoutError when it is neither."""
    rows = [row for row in _MAP_LINE.findall(text) if row[1] not in "wv" or int(row[0], 16)]
    if not any(name == "init_task" for _, _, name in rows):
        raise LayoutError(f"{source} is no complete System.map: it has no init_task", remedy=_DEBIAN)
    addresses = [int(address, 16) for address, _, _ in rows]
    return Symbols(addresses, [name for _, _, name in rows], "".join(kind for _, kind, _ in rows), source)


_DEBIAN = "give the System.map of the build; Debian's image packages carry only a placeholder of it"
