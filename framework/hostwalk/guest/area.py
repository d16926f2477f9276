"""Ranges of a subject's address space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hostwalk.errors import UsageError
from hostwalk.guest.tap import tapped

if TYPE_CHECKING:
    from hostwalk.guest.operations import Operations


@tapped(lambda area: area.subject.agent, "touch", "store", "load")
@dataclass(frozen=True)
class Area:
    """``pages`` pages from ``start`` in a subject's address space; what is mapped there may change.

    ``area[1:3]`` and ``area[0]`` are areas within; iterating gives the address of each page.
    """

    subject: Operations
    start: int
    pages: int
    page_size: int

    @property
    def length(self) -> int:
        """Bytes."""
        return self.pages * self.page_size

    @property
    def end(self) -> int:
        """The first address behind the area."""
        return self.start + self.length

    def address(self, page: int, offset: int = 0) -> int:
        """Return the address of a page of the area (negative: from its end), plus ``offset`` bytes."""
        index = page + self.pages if page < 0 else page
        if not 0 <= index < self.pages:
            raise IndexError(f"page {page} of {self}")
        return self.start + index * self.page_size + offset

    def touch(self, byte: int = 1) -> Area:
        """Store to each page; return the area. Raises AccessFaulted."""
        return self.store(byte)

    def store(self, byte: int = 1) -> Area:
        """Store one byte at the start of each page; return the area. Raises AccessFaulted."""
        self.subject.must(self.subject.store(self.start, stride=self.page_size, count=self.pages, byte=byte))
        return self

    def load(self) -> Area:
        """Load one byte from the start of each page; return the area. Raises AccessFaulted."""
        self.subject.must(self.subject.load(self.start, stride=self.page_size, count=self.pages))
        return self

    def __getitem__(self, index: int | slice) -> Area:
        if isinstance(index, int):
            return replace(self, start=self.address(index), pages=1)
        first, last, step = index.indices(self.pages)
        if step != 1:
            raise UsageError("an area is contiguous: slices of it have no step")
        return replace(self, start=self.start + first * self.page_size, pages=max(0, last - first))

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.end, self.page_size))

    def __len__(self) -> int:
        return self.pages

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x} ({self.pages} pages of {self.subject})"

    __repr__ = __str__


Range = Area | tuple[int, int]


def span(place: Range) -> tuple[int, int]:
    """Return the address and the bytes of an area, or of a pair of just these."""
    return (place.start, place.length) if isinstance(place, Area) else place
