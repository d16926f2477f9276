"""Looking into the page tables of a machine of ours or of any QEMU: what ``hostwalk walk`` does."""

from hostwalk.walking.foreign import attached
from hostwalk.walking.guest import Build, Guest
from hostwalk.walking.look import FILTERS, Changes, Outcome, Wanted, look, watch
from hostwalk.walking.own import booted
from hostwalk.walking.plain import plain
from hostwalk.walking.text import lines

__all__ = [
    "FILTERS",
    "Build",
    "Changes",
    "Guest",
    "Outcome",
    "Wanted",
    "attached",
    "booted",
    "lines",
    "look",
    "plain",
    "watch",
]
