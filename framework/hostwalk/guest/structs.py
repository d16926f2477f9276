"""Structures of the guest's ABI, packed and unpacked as the compiler laid them out."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hostwalk.errors import LayoutError

Value = int | Sequence[int]
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_MEMBER = re.compile(r"offsetof\((?P<type>struct \w+), (?P<member>\w+)\)")


@dataclass(frozen=True)
class Field:
    """A member: where it lies, and its ``count`` elements of ``size`` bytes (``count`` 0: no array)."""

    name: str
    offset: int
    size: int
    signed: bool
    count: int = 0

    @property
    def end(self) -> int:
        """The offset behind the member."""
        return self.offset + self.size * max(1, self.count)

    @property
    def code(self) -> str:
        """What the struct module calls the member."""
        code = _CODES[self.size]
        return f"{self.count or ''}{code if self.signed else code.upper()}"

    def wrap(self, value: int) -> int:
        """Return the value as the member would hold it: modulo its size, with its sign."""
        value &= (1 << 8 * self.size) - 1
        return value - (1 << 8 * self.size) if self.signed and value >> (8 * self.size - 1) else value

    def elements(self, value: Value) -> list[int]:
        """Return the value as a list of as many elements as the member has."""
        given = [value] if isinstance(value, int) else list(value)
        return [self.wrap(element) for element in given + [0] * (max(1, self.count) - len(given))]


class Struct:
    """One structure, such as ``struct hostwalk_gup``, read from the agent's table.

    Raises LayoutError when the table does not describe the structure, or describes nonsense.
    """

    def __init__(self, abi: Mapping[str, int], name: str) -> None:
        self.name = name
        self.fields = fields_of(abi, name)
        self.size = abi[f"sizeof({name})"]
        self._struct = struct.Struct(self._format())
        if not self.fields or self._struct.size != self.size:
            raise LayoutError(
                f"the table describes {self._struct.size} bytes of {name}, which has {self.size}"
            )

    def pack(self, **values: Value) -> bytes:
        """Return the structure's bytes; members that are not named are 0, values wrap as in C."""
        unknown = values.keys() - {field.name for field in self.fields}
        if unknown:
            raise LayoutError(f"{self.name} has no member {', '.join(sorted(unknown))}")
        flat: list[int] = []
        for field in self.fields:
            flat += field.elements(values.get(field.name, 0))
        return self._struct.pack(*flat)

    def unpack(self, data: bytes) -> dict[str, int]:
        """Return the members that are no arrays; ``data`` may go on behind the structure."""
        flat = iter(self._struct.unpack_from(data))
        values: dict[str, int] = {}
        for field in self.fields:
            elements = [next(flat) for _ in range(max(1, field.count))]
            if not field.count:
                values[field.name] = elements[0]
        return values

    def array(self, data: bytes, name: str) -> tuple[int, ...]:
        """Return the elements of a member that is an array."""
        field = next(field for field in self.fields if field.name == name)
        return struct.unpack_from(f"<{field.code}", data, field.offset)

    def _format(self) -> str:
        text, at = "<", 0
        for field in self.fields:
            if field.offset < at:
                raise LayoutError(f"{self.name}: {field.name} at {field.offset} overlaps what ends at {at}")
            text += f"{field.offset - at}x{field.code}"
            at = field.end
        return text + f"{max(0, self.size - at)}x"


def fields_of(abi: Mapping[str, int], name: str) -> tuple[Field, ...]:
    """Return the members of a structure by rising offset."""
    members = (match["member"] for match in map(_MEMBER.fullmatch, abi) if match and match["type"] == name)
    return tuple(sorted((_field(abi, name, member) for member in members), key=lambda field: field.offset))


def _field(abi: Mapping[str, int], name: str, member: str) -> Field:
    whole = abi[f"sizeof({name}.{member})"]
    element = f"sizeof({name}.{member}[0])"
    size = abi.get(element, whole)
    if size not in _CODES or whole % size:
        raise LayoutError(f"{name}.{member} has {whole} bytes in elements of {size}, which is no integer")
    count = whole // size if element in abi else 0
    return Field(
        member, abi[f"offsetof({name}, {member})"], size, bool(abi[f"signed({name}.{member})"]), count
    )
