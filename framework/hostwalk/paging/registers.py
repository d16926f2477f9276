"""From a processor's registers, and nothing else, to the address spaces that it translates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from hostwalk.errors import WalkError
from hostwalk.paging import arm64, x86_64
from hostwalk.paging.space import AddressSpace, Spaces
from hostwalk.target import Arch

SPACES = {Arch.X86_64: x86_64.spaces, Arch.ARM64: arm64.spaces}
LINUX_BITS = {Arch.X86_64: x86_64.linux_bits, Arch.ARM64: arm64.linux_bits}


class Registers(Protocol):
    """A processor's registers by lower-case name."""

    @property
    def arch(self) -> Arch:
        """The architecture."""

    @property
    def values(self) -> Mapping[str, int]:
        """Values by name: cr3, ttbr0_el1 and so on."""


def spaces(registers: Registers) -> Spaces:
    """Return the user and kernel address spaces of a processor.

    Raises WalkError when a register is missing, or when the processor is in a mode that is not known.
    """
    try:
        return SPACES[registers.arch](registers.values)
    except KeyError as error:
        raise WalkError(f"the registers of this {registers.arch} processor lack {error}") from error


def with_layout(space: AddressSpace, layout: Mapping[str, int]) -> AddressSpace:
    """Return the same space, its entries read as the build of Linux with this layout reads them."""
    bits = LINUX_BITS[space.format.arch](layout, space.format.variant)
    return replace(space, linux=bits)
