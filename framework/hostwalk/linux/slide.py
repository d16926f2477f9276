"""Where KASLR has put a kernel: found in its own page tables, without its help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hostwalk.errors import WalkError
from hostwalk.image.layout import Layout
from hostwalk.linux.kernel import Linux, kernel_roots
from hostwalk.memory.physical import PhysicalMemory
from hostwalk.paging import AddressSpace, Registers, Rights, scan, spaces, with_root

FULL = (1 << 64) - 1
TEXT = "_stext"
# Below these no symbol is an address: per-CPU offsets and absolute constants.
LOWEST = 1 << 63
CANDIDATES = 4096


class Slid(Mapping[str, int]):
    """Symbols of a kernel that runs ``slide`` bytes from where it was linked."""

    def __init__(self, symbols: Mapping[str, int], slide: int) -> None:
        self._symbols = symbols
        self.slide = slide

    def __getitem__(self, name: str) -> int:
        value = self._symbols[name]
        return (value + self.slide) & FULL if value >= LOWEST else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._symbols)

    def __len__(self) -> int:
        return len(self._symbols)

    def __contains__(self, name: object) -> bool:
        return name in self._symbols

    def nearest(self, address: int) -> tuple[str, int]:
        """Return the symbol at or below an address and the distance to it."""
        found: tuple[str, int] = self._symbols.nearest((address - self.slide) & FULL)  # type: ignore[attr-defined]
        return found


def slid(symbols: Mapping[str, int], slide: int) -> Mapping[str, int]:
    """Return the symbols at their places in a kernel that was moved."""
    return Slid(symbols, slide) if slide else symbols


def find_slide(
    memory: PhysicalMemory, registers: Registers, symbols: Mapping[str, int], layout: Layout
) -> int:
    """Return how far the running kernel is from where it was linked; 0 without KASLR.

    Tried are the places where executable kernel mappings begin; the right one has init_task where it should be.
    Raises WalkError when there is none: the kernel is another one.
    """
    kernel = spaces(registers).kernel
    if kernel is None:
        raise WalkError("the processor translates no kernel addresses")
    for root in kernel_roots(kernel, symbols):
        space = with_root(kernel, root)
        for slide in (0, *_candidates(memory, space, symbols)):
            if Linux(memory, space, slid(symbols, slide), layout).recognised():
                return slide
    raise WalkError(
        "the kernel in the guest is not the one that symbols and layout are of",
        remedy="take kernel, symbols and layout from one build; the guest's /proc/version names its own",
    )


def _candidates(memory: PhysicalMemory, space: AddressSpace, symbols: Mapping[str, int]) -> list[int]:
    """Return how far each beginning of an executable mapping is from where the text was linked."""
    leaves = scan(memory, space)
    code = leaves[(leaves.rights & Rights.EXEC).astype(bool)]
    if not len(code) or TEXT not in symbols:
        return []
    begins = np.ones(len(code), dtype=bool)
    begins[1:] = code.virt_addr[1:] != code.virt_addr[:-1] + code.size[:-1]
    starts = code[begins]
    linked = [symbols[TEXT] & -size for size in starts.size.tolist()]
    return [at - place for at, place in zip(starts.virt_addr.tolist(), linked, strict=True)][:CANDIDATES]
