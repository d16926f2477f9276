"""An address space to walk: a format, a root, and the addresses that it translates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hostwalk.paging.format import Format
from hostwalk.paging.meaning import LinuxBits


@dataclass(frozen=True)
class AddressSpace:
    """What ``root`` (a guest physical address) translates: [start, end).

    ``tagged``: the top byte of an address is ignored. ``linux`` says how entries are to be read.
    """

    name: str
    format: Format
    root: int
    start: int
    end: int
    linux: LinuxBits
    tagged: bool = False

    def normal(self, virt_addr: int) -> int | None:
        """Return the address without its tag; None when the space does not translate it."""
        if self.tagged:
            low = virt_addr & (1 << 56) - 1
            virt_addr = low | (0xFF << 56 if low >> 55 else 0)
        return virt_addr if self.start <= virt_addr < self.end else None

    def __contains__(self, virt_addr: object) -> bool:
        return isinstance(virt_addr, int) and self.normal(virt_addr) is not None

    def __str__(self) -> str:
        return f"{self.name}: {self.format.name}, root {self.root:#x}, {self.start:#x}-{self.end - 1:#x}"


def with_root(space: AddressSpace, phys: int, name: str = "") -> AddressSpace:
    """Return the space of the same kind that begins at another root."""
    return replace(space, root=phys, name=name or space.name)


@dataclass(frozen=True)
class Spaces:
    """What a processor translates at one moment. A half that is switched off is None."""

    user: AddressSpace | None
    kernel: AddressSpace | None

    def of(self, virt_addr: int) -> AddressSpace | None:
        """Return the space that translates an address; None for a non-canonical one."""
        return next((half for half in (self.user, self.kernel) if half and virt_addr in half), None)
