"""Columns: one number for each page of a reading, compared and printed as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import overload

Other = "Column | int | bool | Iterable[int]"


class Column(Sequence[int]):
    """One integer per page, in page order.

    Arithmetic is element by element; ``==`` answers for the whole column, so that ``assert after == before + 1``
    reads as it should. A plain number stands for a column of that number; a column without pages equals none.
    """

    __slots__ = ("_hex", "_values", "name")

    def __init__(self, values: Iterable[int], name: str = "", *, in_hex: bool = False) -> None:
        self._values = tuple(int(value) for value in values)
        self._hex = in_hex
        self.name = name

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Column: ...
    def __getitem__(self, index: int | slice) -> int | Column:
        if isinstance(index, slice):
            return Column(self._values[index], self.name, in_hex=self._hex)
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def _aligned(self, other: object) -> tuple[int, ...] | None:
        if isinstance(other, int):
            return (int(other),) * len(self)
        if isinstance(other, Iterable):
            return tuple(int(value) for value in other)
        return None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int) and not self._values:
            return False
        return self._values == self._aligned(other)

    def __hash__(self) -> int:
        return hash(self._values)

    def _combine(self, other: Column | Iterable[int] | int, operation: Callable[[int, int], int]) -> Column:
        values = self._aligned(other)
        if values is None or len(values) != len(self):
            raise ValueError(f"{self.name or 'column'} has {len(self)} pages, the other side has not")
        return Column(map(operation, self._values, values), self.name, in_hex=self._hex)

    def __add__(self, other: Column | Iterable[int] | int) -> Column:
        return self._combine(other, int.__add__)

    def __sub__(self, other: Column | Iterable[int] | int) -> Column:
        return self._combine(other, int.__sub__)

    @property
    def in_hex(self) -> bool:
        """Whether the values are addresses, frames or entries, which are printed in hexadecimal."""
        return self._hex

    def differing(self, other: object) -> tuple[int, ...]:
        """Return the indices at which this column and ``other`` differ."""
        values = self._aligned(other) or ()
        longest = max(len(self), len(values))
        return tuple(i for i in range(longest) if self._values[i : i + 1] != values[i : i + 1])

    @property
    def all(self) -> bool:
        """Whether every value is non-zero (and there is one)."""
        return bool(self._values) and all(self._values)

    @property
    def any(self) -> bool:
        """Whether any value is non-zero."""
        return any(self._values)

    def text(self, value: int) -> str:
        """Return a value as this column prints it: in hexadecimal, or not."""
        return f"{value:#x}" if self._hex else str(value)

    def __repr__(self) -> str:
        runs = [(value, len(list(run))) for value, run in groupby(self._values)]
        body = ", ".join(self.text(value) + (f" x{count}" if count > 1 else "") for value, count in runs)
        return f"{self.name}[{body}]"
