"""Where a guest has RAM: the map that every reader keeps to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hostwalk.errors import MemoryReadError


@dataclass(frozen=True, order=True)
class Region:
    """``size`` bytes of guest RAM at guest physical ``start``, at ``offset`` in the backend ``name``."""

    start: int
    size: int
    offset: int = 0
    name: str = ""

    @property
    def end(self) -> int:
        """The first address after the region."""
        return self.start + self.size

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.start <= address < self.end

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end - 1:#x}"


Regions = tuple[Region, ...]


def covers(regions: Sequence[Region], address: int, size: int) -> bool:
    """Return whether all of [address, address + size) is RAM."""
    while size > 0:
        region = next((r for r in regions if address in r), None)
        if region is None:
            return False
        size -= region.end - address
        address = region.end
    return True


def pieces(regions: Sequence[Region], address: int, size: int) -> Iterator[tuple[Region, int, int]]:
    """Yield (region, address, size) for a range, cut at region borders.

    Raises MemoryReadError that names the first address outside RAM and the regions.
    """
    while size > 0:
        region = next((r for r in regions if address in r), None)
        if region is None:
            raise outside(regions, address)
        take = min(size, region.end - address)
        yield region, address, take
        address, size = address + take, size - take


def outside(regions: Sequence[Region], address: int) -> MemoryReadError:
    """Return the error for an address that is not RAM."""
    known = ", ".join(str(region) for region in regions) or "none"
    return MemoryReadError(f"guest physical address {address:#x} is outside RAM (RAM: {known})")


_AS = re.compile(r'^ AS "(?P<name>[^"]+)", root: ')
_RANGE = re.compile(
    r"^\s+(?P<start>[0-9a-f]+)-(?P<last>[0-9a-f]+) \(prio -?\d+, (?P<kind>\w+)\): "
    r"(?P<name>\S+)(?: @(?P<offset>[0-9a-f]+))?"
)


def ram_map(mtree: str, backend: str | None = None) -> Regions:
    """Return the RAM regions of the system address space from the text of HMP ``info mtree -f``.

    With ``backend`` (its object id, or the name that the text gives it), only that memory backend's parts.
    A line without an offset means offset 0. Raises MemoryReadError when nothing is found.
    """
    found = tuple(_merge(sorted(_ranges(mtree, backend))))
    if not found:
        raise MemoryReadError(
            f"'info mtree -f' shows no RAM{f' of backend {backend}' if backend else ''}",
            remedy="the machine has to be one with a system address space named memory",
        )
    return found


def _ranges(mtree: str, backend: str | None) -> Iterator[Region]:
    for line in _system_view(mtree):
        match = _RANGE.match(line)
        if match and match["kind"] in ("ram", "rom") and _is_backend(match["name"], match["kind"], backend):
            start, last = int(match["start"], 16), int(match["last"], 16)
            yield Region(start, last + 1 - start, int(match["offset"] or "0", 16), match["name"])


def _is_backend(name: str, kind: str, backend: str | None) -> bool:
    return kind == "ram" if backend is None else name in (backend, f"/objects/{backend}")


def _system_view(mtree: str) -> list[str]:
    for view in re.split(r"^FlatView #\d+\s*$", mtree, flags=re.MULTILINE)[1:]:
        lines = view.splitlines()
        names = [match["name"] for match in map(_AS.match, lines) if match]
        if "memory" in names:
            return lines
    return []


def _merge(regions: Sequence[Region]) -> Iterator[Region]:
    pending: Region | None = None
    for region in regions:
        joins = (
            pending is not None
            and (pending.end, pending.offset + pending.size, pending.name)
            == (region.start, region.offset, region.name)
        )  # fmt: skip
        if pending is not None and joins:
            pending = Region(pending.start, pending.size + region.size, pending.offset, pending.name)
            continue
        if pending is not None:
            yield pending
        pending = region
    if pending is not None:
        yield pending
