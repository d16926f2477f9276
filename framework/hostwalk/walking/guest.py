"""What walking needs of a machine, whoever started it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from hostwalk.errors import UsageError
from hostwalk.image.layout import Layout
from hostwalk.linux import Linux, find_slide, slid
from hostwalk.machine import Registers
from hostwalk.memory import PhysicalMemory
from hostwalk.paging import Spaces, spaces, with_layout

REMEDY = "name the guest's kernel (--kernel debian:VERSION), or give its System.map and a module: --symbols, --layout"


@dataclass(frozen=True)
class Build:
    """What is known of the guest's kernel: addresses as linked, and its build's constants; each may be missing."""

    symbols: Mapping[str, int] | None = None
    layout: Layout | None = None


@dataclass(frozen=True)
class Guest:
    """A machine to look into.

    ``name`` is one line, ``reader`` says how its memory is read and why so. ``hold`` keeps it still for a block and
    leaves it running or stopped, as it was; ``registers`` reads those of a processor meanwhile. ``nicknames`` are
    names for tasks by pid.
    """

    name: str
    memory: PhysicalMemory
    reader: str
    hold: Callable[[], AbstractContextManager[object]]
    registers: Callable[[int], Registers]
    build: Build = Build()
    nicknames: Mapping[str, str] = field(default_factory=dict)

    def spaces(self, registers: Registers) -> Spaces:
        """Return what a processor translates, entries read as the build reads them where it is known."""
        halves, layout = spaces(registers), self.build.layout
        if layout is None:
            return halves
        user, kernel = (half and with_layout(half, layout) for half in (halves.user, halves.kernel))
        return Spaces(user, kernel)

    def linux(self, registers: Registers) -> Linux:
        """Return the kernel that a processor runs, wherever KASLR has put it; raises UsageError, WalkError."""
        symbols, layout = self.build.symbols, self.build.layout
        if symbols is None or layout is None:
            lacks = "symbols" if symbols is None else "layout"
            raise UsageError(f"the kernel's {lacks} must be known to find tasks and symbols", remedy=REMEDY)
        slide = find_slide(self.memory, registers, symbols, layout)
        return Linux.of(self.memory, registers, slid(symbols, slide), layout)
