"""What a page-table format is made of. An architecture's formats are values of these types, and no code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, StrEnum
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from hostwalk.target import Arch

Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]


class Rights(IntFlag):
    """What an access may do; the first three are the kernel's."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXEC = 4
    USER_READ = 8
    USER_WRITE = 16
    USER_EXEC = 32

    def __str__(self) -> str:
        letters = "".join(
            letter if self & right else "-" for letter, right in zip("rwxrwx", _IN_ORDER, strict=True)
        )
        return f"user {letters[3:]} kernel {letters[:3]}"


_IN_ORDER = (
    Rights.READ,
    Rights.WRITE,
    Rights.EXEC,
    Rights.USER_READ,
    Rights.USER_WRITE,
    Rights.USER_EXEC,
)
USER = Rights.USER_READ | Rights.USER_WRITE | Rights.USER_EXEC
WRITES = Rights.WRITE | Rights.USER_WRITE
EXECS = Rights.EXEC | Rights.USER_EXEC
ALL_RIGHTS = USER | Rights.READ | Rights.WRITE | Rights.EXEC


class Kind(StrEnum):
    """What an entry is to the hardware."""

    EMPTY = "empty"
    NOT_PRESENT = "not present"
    TABLE = "table"
    LEAF = "leaf"
    RESERVED = "reserved"


@dataclass(frozen=True)
class Match:
    """Holds for entries with ``entry & mask == value``."""

    mask: int
    value: int

    @overload
    def holds(self, entry: int) -> bool: ...
    @overload
    def holds(self, entry: Words) -> Mask: ...
    def holds(self, entry: Any) -> Any:
        """Return whether it holds, for one entry or a column of them."""
        return (entry & self.mask) == self.value

    def __bool__(self) -> bool:
        return self != NEVER


NEVER = Match(0, 1)
ALWAYS = Match(0, 0)


def bit(number: int) -> Match:
    """Return the match for one bit being set."""
    return Match(1 << number, 1 << number)


def clear(number: int) -> Match:
    """Return the match for one bit being clear."""
    return Match(1 << number, 0)


@dataclass(frozen=True)
class Field:
    """Bits [low, low + width) of an entry, which are bits ``to`` and up of the number they are part of."""

    low: int
    width: int
    to: int

    @property
    def mask(self) -> int:
        """The field's bits in an entry."""
        return ((1 << self.width) - 1) << self.low

    @overload
    def of(self, entry: int) -> int: ...
    @overload
    def of(self, entry: Words) -> Words: ...
    def of(self, entry: Any) -> Any:
        """Return the field's part of the number, for one entry or a column of them."""
        if self.to == self.low:
            return entry & self.mask
        if self.to > self.low:
            return (entry & self.mask) << (self.to - self.low)
        return (entry & self.mask) >> (self.low - self.to)


Fields = tuple[Field, ...]


@overload
def number(fields: Fields, entry: int) -> int: ...
@overload
def number(fields: Fields, entry: Words) -> Words: ...
def number(fields: Fields, entry: Any) -> Any:
    """Return the number that the fields of an entry make up."""
    total = fields[0].of(entry)
    for field in fields[1:]:
        total = total | field.of(entry)
    return total


@dataclass(frozen=True)
class Rule:
    """An entry for which ``when`` holds takes ``removes`` away from what it maps or leads to."""

    when: Match
    removes: Rights


@dataclass(frozen=True)
class Flag:
    """A named state of an entry, as the architecture's manual names it."""

    name: str
    when: Match


@dataclass(frozen=True)
class Value:
    """A named number in a leaf, printed as ``names[number]``, or as ``name=number``."""

    name: str
    fields: Fields
    names: tuple[str, ...] = ()
    hide_zero: bool = False

    def text(self, entry: int) -> str:
        """Return it as printed; empty when it is zero and zero says nothing."""
        value = number(self.fields, entry)
        if value == 0 and self.hide_zero:
            return ""
        return self.names[value] if self.names else f"{self.name}={value}"


@dataclass(frozen=True)
class Level:
    """One level of tables: ``2**bits`` entries of 8 bytes, each standing for ``2**shift`` bytes.

    ``name`` is Linux's. ``*_zero`` are bits that have to be zero in such an entry.
    """

    name: str
    shift: int
    bits: int
    table: Match
    leaf: Match
    leaf_flags: tuple[Flag, ...]
    memory_index: Fields
    table_zero: int = 0
    leaf_zero: int = 0

    @property
    def size(self) -> int:
        """Bytes of address space that one entry stands for."""
        return 1 << self.shift

    @property
    def table_size(self) -> int:
        """Bytes of one table."""
        return 8 << self.bits

    def index(self, virt_addr: int) -> int:
        """Return the index of an address in its table."""
        return (virt_addr >> self.shift) & ((1 << self.bits) - 1)

    def kind(self, entry: int) -> Kind:
        """Return what an entry is to the hardware, its output address aside."""
        if entry == 0:
            return Kind.EMPTY
        if not PRESENT.holds(entry):
            return Kind.NOT_PRESENT
        if self.table.holds(entry):
            return Kind.RESERVED if entry & self.table_zero else Kind.TABLE
        if self.leaf.holds(entry):
            return Kind.RESERVED if entry & self.leaf_zero else Kind.LEAF
        return Kind.RESERVED


PRESENT = bit(0)


@dataclass(frozen=True)
class Format:
    """A page-table format, with what the machine's registers say about it.

    ``variant`` is LA57, LPA, LPA2 or nothing. ``levels`` begin at the root.
    """

    name: str
    arch: Arch
    variant: str
    page_shift: int
    levels: tuple[Level, ...]
    address: Fields
    phys_bits: int
    leaf_rules: tuple[Rule, ...]
    table_rules: tuple[Rule, ...]
    final_rules: tuple[tuple[Rights, Rights], ...]
    table_flags: tuple[Flag, ...]
    values: tuple[Value, ...]
    memory_types: tuple[str, ...]

    @property
    def page_size(self) -> int:
        """Bytes of the smallest page."""
        return 1 << self.page_shift

    @property
    def va_bits(self) -> int:
        """Bits of an address that the tables translate."""
        return self.levels[0].shift + self.levels[0].bits

    @cached_property
    def address_zero(self) -> int:
        """The bits of an entry that have to be zero because addresses end at ``phys_bits``."""
        return sum(
            1 << field.low + i
            for field in self.address
            for i in range(field.width)
            if field.to + i >= self.phys_bits
        )

    def table_phys(self, entry: int) -> int:
        """Return the address of the table that a table entry points at."""
        return number(self.address, entry) & -self.page_size

    def leaf_phys(self, level: Level, entry: int) -> int:
        """Return the first address that a leaf of ``level`` maps."""
        return number(self.address, entry) & -level.size

    def memory_type(self, level: Level, entry: int) -> str:
        """Return the memory type of a leaf."""
        return self.memory_types[number(level.memory_index, entry)]


def rights_left(rules: tuple[Rule, ...], entry: int, rights: Rights) -> Rights:
    """Return what an entry leaves of ``rights``."""
    for rule in rules:
        if rule.when.holds(entry):
            rights &= ~rule.removes
    return rights


def rights_final(rules: tuple[tuple[Rights, Rights], ...], rights: Rights) -> Rights:
    """Apply the rules of the kind *what may do this may not do that*."""
    for has, removes in rules:
        if rights & has:
            rights &= ~removes
    return rights
