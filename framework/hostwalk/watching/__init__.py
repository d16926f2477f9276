"""Watching processes that run a program of somebody else's: what changes in their page tables, and by which call."""

from hostwalk.watching.begin import DEFAULT, Wanted, begin
from hostwalk.watching.calls import CALLS, Call
from hostwalk.watching.command import Watched, watched
from hostwalk.watching.plain import plain
from hostwalk.watching.sample import Sample
from hostwalk.watching.text import lines
from hostwalk.watching.watch import Watch

__all__ = [
    "CALLS",
    "DEFAULT",
    "Call",
    "Sample",
    "Wanted",
    "Watch",
    "Watched",
    "begin",
    "lines",
    "plain",
    "watched",
]
