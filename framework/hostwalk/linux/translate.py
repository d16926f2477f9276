"""From kernel addresses to guest physical ones, through the kernel's own page tables."""

from __future__ import annotations

from dataclasses import dataclass

from hostwalk.errors import WalkError
from hostwalk.memory.physical import PhysicalMemory, u64
from hostwalk.paging import AddressSpace, walk


@dataclass(frozen=True)
class Run:
    """``size`` bytes of kernel addresses from ``virt_addr`` that one leaf maps to ``phys_addr`` and up.

    ``path`` are the entries that led there, from the root to the leaf: (guest physical address, value).
    """

    virt_addr: int
    phys_addr: int
    size: int
    path: tuple[tuple[int, int], ...]

    def holds(self, memory: PhysicalMemory) -> bool:
        """Return whether every entry on the way still is what it was: then so is the translation."""
        return all(u64(memory, address) == entry for address, entry in self.path)


class Translator:
    """Translations of one moment.

    ``remembered`` may come from an earlier moment: a run of it serves again once its path was found unchanged,
    which takes one look at each entry instead of a walk.
    """

    def __init__(
        self, memory: PhysicalMemory, space: AddressSpace, remembered: dict[int, Run] | None = None
    ) -> None:
        self._memory = memory
        self._space = space
        self._page = space.format.page_size
        self._sizes = tuple(level.size for level in reversed(space.format.levels))
        self._proven: dict[int, Run] = {}
        self.remembered: dict[int, Run] = {} if remembered is None else remembered

    def run(self, virt_addr: int) -> Run:
        """Return the run that a kernel address is in; raise WalkError when it is not mapped."""
        known = self._find(self._proven, virt_addr)
        if known is not None:
            return known
        old = self._find(self.remembered, virt_addr)
        run = old if old is not None and old.holds(self._memory) else self._walked(virt_addr)
        self._proven[run.virt_addr] = self.remembered[run.virt_addr] = run
        return run

    def _find(self, runs: dict[int, Run], virt_addr: int) -> Run | None:
        for size in self._sizes:
            run = runs.get(virt_addr & -size)
            if run is not None and virt_addr - run.virt_addr < run.size:
                return run
        return None

    def _walked(self, virt_addr: int) -> Run:
        seen = walk(self._memory, self._space, virt_addr & -self._page)
        if not seen.mapped or seen.leaf is None:
            raise WalkError(f"kernel address {virt_addr:#x} is not mapped: {seen.end}\n{seen}")
        path = tuple((step.entry_phys, step.entry) for step in seen.levels)
        return Run(seen.leaf.virt_addr, seen.leaf.phys_addr, seen.leaf.size, path)
