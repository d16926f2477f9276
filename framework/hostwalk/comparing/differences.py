"""What differs between two observations of the same claim: readings field by field, costs, printed lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from hostwalk.observed import Observed, Runs, Seen

WORD_FIELDS = frozenset(("entry", "page flags", "hardware", "vm_flags", "flags", "def_flags"))
"""Fields whose texts are sets of names."""
MISSING = "not there"


@dataclass(frozen=True)
class Difference:
    """One field that changed. ``where`` tells the reading and the pages; it is empty for what a claim has but once."""

    field: str
    before: str
    after: str
    where: str = ""

    @property
    def delta(self) -> str:
        """The change alone: ``+1``, ``+young -dirty``, or ``before -> after``."""
        if self.field in WORD_FIELDS and MISSING not in (self.before, self.after):
            return _words(self.before, self.after)
        if _is_number(self.before) and _is_number(self.after):
            return f"{int(self.after) - int(self.before):+d}"
        return f"{self.before} -> {self.after}"


def states(before: Observed, after: Observed, *, complete: bool = True) -> tuple[Difference, ...]:
    """Return what the readings show differently.

    Where the claim did not end alike on both sides (``complete`` false), only readings that both took are compared.
    """
    pairs = list(zip(before.readings, after.readings, strict=False))
    found = [change for number, pair in enumerate(pairs, 1) for change in _reading(number, *pair)]
    counts = len(before.readings), len(after.readings)
    if complete and counts[0] != counts[1]:
        found.append(Difference("number of readings", str(counts[0]), str(counts[1])))
    return tuple(found)


def costs(before: Observed, after: Observed) -> tuple[Difference, ...]:
    """Return the costs that changed, of those that both sides know."""
    then, now = dict(before.costs), dict(after.costs)
    return tuple(
        Difference(name, str(then[name]), str(now[name]))
        for name in then
        if now.get(name, then[name]) != then[name]
    )


def new_lines(before: Observed, after: Observed) -> tuple[str, ...]:
    """Return what the kernel printed only afterwards."""
    return tuple(line for line in after.warnings if line not in before.warnings)


def _reading(number: int, before: Seen, after: Seen) -> Iterator[Difference]:
    where = f"reading {number}, {before.title}"
    if before.title != after.title:
        yield Difference("what was read", before.title, after.title, f"reading {number}")
        return
    then, now = dict(before.fields), dict(after.fields)
    for name in dict.fromkeys((*then, *now)):
        if then.get(name) != now.get(name):
            yield from _column(name, where, then.get(name, ()), now.get(name, ()))


def _column(name: str, where: str, before: Runs, after: Runs) -> Iterator[Difference]:
    """Yield a difference for each stretch of pages that changed in the same way."""
    pairs = list(enumerate(zip_longest(_spread(before), _spread(after), fillvalue=MISSING)))
    alone = len(pairs) == 1
    for (then, now), stretch in groupby(pairs, key=lambda pair: pair[1]):
        numbers = [number for number, _ in stretch]
        if then != now:
            yield Difference(name, then, now, where if alone else f"{where}, {_span(numbers)}")


def _spread(runs: Runs) -> list[str]:
    return [text for text, count in runs for _ in range(count)]


def _span(numbers: Sequence[int]) -> str:
    first, last = numbers[0], numbers[-1]
    return f"[{first}]" if first == last else f"[{first}-{last}]"


def _words(before: str, after: str) -> str:
    then, now = (set(text.split()) - {"none"} for text in (before, after))
    return " ".join(
        [*(f"+{name}" for name in sorted(now - then)), *(f"-{name}" for name in sorted(then - now))]
    )


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
