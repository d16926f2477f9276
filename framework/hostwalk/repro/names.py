"""Values as a script says them: results of earlier calls by name, addresses within areas, all else literally."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hostwalk.column import Column
from hostwalk.errors import HostwalkError
from hostwalk.guest import Area, Inserted, Subject
from hostwalk.guest.insert import Pages as OwnPages
from hostwalk.readings import Frames

NEAR = 1 << 24
LARGEST_LENGTH = 1 << 30
_LEAST_ADDRESS = 1 << 12


class UnspeakableError(HostwalkError):
    """A value that a script cannot say: it came from somewhere else than the subjects and the witness."""


@dataclass
class Speaker:
    """Says values; ``known`` are the objects that have names so far, in the order in which they got them."""

    roots: Sequence[tuple[object, str]]
    page_size: int
    known: list[tuple[object, str]] = field(default_factory=list)

    def name(self, value: object, name: str) -> None:
        """Give an object a name from here on."""
        self.known.append((value, name))

    def name_of(self, value: object) -> str | None:
        """Return the name of this very object, if it has one."""
        if value is None or isinstance(value, bool | str):
            return None
        return next((name for known, name in self._latest() if known is value), None)

    def say(self, value: object, *, raw: bool = False) -> str:
        """Return an expression for a value; ``raw``: a system call's argument, where a length is in bytes.

        Raises UnspeakableError.
        """
        name = self.name_of(value)
        if name is not None:
            return name
        match value:
            case None | bool() | float() | bytes():
                return repr(value)
            case str():
                return self._text(str(value))
            case Area():
                return self._area(value)
            case int():
                return self._number(int(value), raw=raw)
            case Column() | tuple() | list() | frozenset() | set():
                return self._sequence(value, raw=raw)
        raise UnspeakableError(f"a {type(value).__name__} that did not come from a subject or the witness")

    def _text(self, value: str) -> str:
        """Return a text; one that begins with a path that a call has given, such as a mount point, by that name."""
        for known, name in self._latest():
            if isinstance(known, str) and known.startswith("/") and f"{value}/".startswith(f"{known}/"):
                rest = value.removeprefix(known)
                return f"{name} + {rest!r}" if rest else name
        return repr(value)

    def _latest(self) -> Iterable[tuple[object, str]]:
        return [*reversed(self.known), *self.roots]

    def areas(self) -> Iterable[tuple[Area, str]]:
        """Return the areas that have names, the latest first."""
        for known, name in self._latest():
            if isinstance(known, Area):
                yield known, name
            elif isinstance(known, Inserted) and known.mapping is not None:
                yield known.mapping, f"{name}.area"

    def _area(self, area: Area) -> str:
        for known, name in self.areas():
            inside = known.start <= area.start and area.end <= known.end
            if inside and known.subject is area.subject:
                return name + _slice((area.start - known.start) // self.page_size, area.pages, known.pages)
        return f"{self.say(area.subject)}.area({self.say(area.start)}, {area.pages})"

    def _number(self, value: int, *, raw: bool) -> str:
        if value < _LEAST_ADDRESS:
            return str(value)
        return self._address(value) or self._scratch(value) or self._length(value, raw) or _literal(value)

    def _address(self, value: int) -> str | None:
        for area, name in self.areas():
            if area.start == value:
                return f"{name}.start"
            if area.start < value < area.end:
                page, rest = divmod(value - area.start, self.page_size)
                return f"{name}.address({page}{f', {rest}' if rest else ''})"
        for area, name in self.areas():
            if area.end <= value < area.end + NEAR:
                return name + ".end" + self._offset(value - area.end)
        return None

    def _offset(self, value: int) -> str:
        return f" + {self._length(value, raw=True) or value}" if value else ""

    def _scratch(self, value: int) -> str | None:
        for known, name in self._latest():
            if isinstance(known, Subject) and 0 <= value - known.scratch < known.scratch_size:
                rest = value - known.scratch
                return f"{name}.scratch{f' + {rest}' if rest else ''}"
        return None

    def _length(self, value: int, raw: bool) -> str | None:
        pages, rest = divmod(value, self.page_size)
        if not raw or rest or not 0 < value <= LARGEST_LENGTH:
            return None
        unit = f"{self.roots[0][1]}.page_size"
        return unit if pages == 1 else f"{pages} * {unit}"

    def _sequence(self, values: Iterable[object], *, raw: bool) -> str:
        listed = list(values)
        whole = self._pfns(listed)
        if whole is not None:
            return whole
        said = [self._pfn(value) or self.say(value, raw=raw) for value in listed]
        if isinstance(values, set | frozenset):
            return f"{{{', '.join(sorted(said))}}}" if said else "set()"
        inside = ", ".join(said)
        if isinstance(values, list):
            return f"[{inside}]"
        return f"({inside},)" if len(said) == 1 else f"({inside})"

    def _pfn_columns(self) -> Iterable[tuple[list[int], str]]:
        for known, name in self._latest():
            if isinstance(known, Frames | OwnPages) or hasattr(known, "pfns"):
                yield [int(pfn) for pfn in known.pfns], f"{name}.pfns"

    def _pfns(self, values: list[object]) -> str | None:
        """Return the page frames of a reading, or some that follow each other in it."""
        if not values or not all(isinstance(value, int) and value > 0 for value in values):
            return None
        for pfns, name in self._pfn_columns():
            for first in range(len(pfns) - len(values) + 1):
                if pfns[first : first + len(values)] == values and len(values) > 1:
                    return name + _slice(first, len(values), len(pfns), single=False)
        if len(values) == 1 and (only := self._pfn(values[0])):
            return f"({only},)"
        return None

    def _pfn(self, value: object) -> str | None:
        """Return one page frame as an element of a reading; small numbers are numbers."""
        if not isinstance(value, int) or value < _LEAST_ADDRESS or self.name_of(value):
            return None
        for pfns, name in self._pfn_columns():
            if value in pfns:
                return f"{name}[{pfns.index(value)}]"
        return None


def _slice(first: int, count: int, of: int, *, single: bool = True) -> str:
    if first == 0 and count == of:
        return ""
    if count == 1 and single:
        return f"[{first}]"
    end = "" if first + count == of else str(first + count)
    return f"[{first or ''}:{end}]"


def _literal(value: int) -> str:
    if value >= 1 << 63:
        return f"{value - (1 << 64)} % (1 << 64)" if value > (1 << 64) - LARGEST_LENGTH else hex(value)
    return hex(value) if value >= 1 << 16 else str(value)
