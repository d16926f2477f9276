"""Beginning a watch: what is asked for, and the kind of watch that gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostwalk.deadline import Deadline
from hostwalk.errors import UsageError
from hostwalk.watching.calls import default_points, points
from hostwalk.watching.watch import Clock, Points, Watch

if TYPE_CHECKING:
    from hostwalk.cell import Cell

WATCH_SECONDS = 600.0


@dataclass(frozen=True)
class Wanted:
    """How to watch: ``every`` so many seconds, else ``at`` the functions of the kernel named, else at CALLS.

    ``children``: processes that it makes, too (not by time).
    """

    every: float | None = None
    at: tuple[str, ...] = ()
    children: bool = True

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """Return what ``--watch`` says: milliseconds, or names with commas between; raises UsageError."""
        names = tuple(filter(None, text.split(",")))
        if len(names) == 1 and names[0].replace(".", "", 1).isdigit():
            if not float(names[0]):
                raise UsageError("a watch cannot look every 0 ms")
            return cls(every=float(names[0]) / 1000)
        return cls(at=names)


DEFAULT = Wanted()


def begin(
    cell: Cell,
    pid: int,
    wanted: Wanted = DEFAULT,
    deadline: Deadline | None = None,
    *,
    from_exec: bool = False,
) -> Watch:
    """Return a watch of a process, to be entered; raises UsageError, WalkError where there is no such process."""
    limit = deadline or Deadline.after(WATCH_SECONDS)
    if wanted.every is not None:
        return Clock(cell, pid, limit, wanted.every, from_exec=from_exec)
    arch, symbols = cell.target.arch, cell.linux.symbols
    found = points(wanted.at, arch, symbols) if wanted.at else default_points(arch, symbols)
    return Points(cell, pid, limit, found, children=wanted.children, from_exec=from_exec)
