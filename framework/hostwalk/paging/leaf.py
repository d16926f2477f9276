"""A leaf entry: what it maps, with which rights, and what it means to Linux."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hostwalk.paging.format import PRESENT, Level, Rights
from hostwalk.paging.meaning import Meaning, Swap
from hostwalk.paging.space import AddressSpace

UNITS = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))


@dataclass(frozen=True)
class Leaf:
    """A non-empty entry, no table, at ``entry_phys``, that stands for ``size`` bytes from ``virt_addr``.

    ``rights`` are effective, all levels counted; ``writable``, ``dirty`` and their like are Linux's terms.
    """

    space: AddressSpace
    level_data: Level
    virt_addr: int
    entry: int
    entry_phys: int
    rights: Rights

    @property
    def level(self) -> str:
        """Linux's name of the level."""
        return self.level_data.name

    @property
    def size(self) -> int:
        """Bytes that the entry maps."""
        return self.level_data.size

    @property
    def present(self) -> bool:
        """Whether the hardware takes the entry for present."""
        return PRESENT.holds(self.entry)

    @cached_property
    def linux(self) -> Meaning:
        """What the entry means to Linux."""
        return self.space.linux.decode(self.entry)

    @property
    def swap(self) -> Swap | None:
        """The swap entry (swapped out, migration, marker ...) that it is; None when it stands for a page."""
        return self.linux.swap

    @property
    def phys_addr(self) -> int:
        """First guest physical address of the page, populated PROT_NONE pages included."""
        return self.space.format.leaf_phys(self.level_data, self.space.linux.plain(self.entry))

    @property
    def pfn(self) -> int | None:
        """First page frame; None when the entry stands for no page."""
        return self.phys_addr >> self.space.format.page_shift if self.linux.present else None

    @property
    def flags(self) -> tuple[str, ...]:
        """The hardware's flags that are set, by the names of the architecture's manual."""
        return tuple(flag.name for flag in self.level_data.leaf_flags if flag.when.holds(self.entry))

    @property
    def memory_type(self) -> str:
        """Memory type, from PAT or MAIR."""
        return self.space.format.memory_type(self.level_data, self.entry)

    @property
    def values(self) -> tuple[str, ...]:
        """Numbers in the entry as text: the protection key, shareability."""
        return tuple(filter(None, (value.text(self.entry) for value in self.space.format.values)))

    @property
    def writable(self) -> bool:
        """pte_write()."""
        return self.linux.writable

    @property
    def dirty(self) -> bool:
        """pte_dirty()."""
        return self.linux.dirty

    @property
    def young(self) -> bool:
        """pte_young()."""
        return self.linux.young

    @property
    def user(self) -> bool:
        """Whether the entry lets user space read."""
        return self.linux.user

    @property
    def executable(self) -> bool:
        """Whether the entry lets user space execute."""
        return self.linux.executable

    @property
    def special(self) -> bool:
        """pte_special()."""
        return self.linux.special

    @property
    def uffd_wp(self) -> bool:
        """pte_uffd_wp()."""
        return self.linux.uffd_wp

    @property
    def soft_dirty(self) -> bool:
        """pte_soft_dirty()."""
        return self.linux.soft_dirty

    @property
    def prot_none(self) -> bool:
        """A populated entry that no access is allowed to."""
        return self.linux.prot_none

    def describe(self) -> str:
        """Return size, rights, memory type and Linux's meaning, in one line without the addresses."""
        if self.swap is not None or not self.linux.present:
            return str(self.linux) or "not present"
        what = [f"{size_text(self.size)} page"]
        what += [str(self.rights), self.memory_type, *self.values] if self.present else [f"pfn {self.pfn:#x}"]
        return f"{', '.join(what)}, linux: {self.linux}"

    def __str__(self) -> str:
        target = f" -> {self.phys_addr:#x}" if self.linux.present else ""
        flags = f" [{' '.join(self.flags)}]" if self.present else ""
        return f"{self.virt_addr:#018x}{target} {self.level} {self.entry:#018x}{flags} {self.describe()}"


def size_text(size: int) -> str:
    """Return a size in the largest unit that it is a multiple of: ``2M``."""
    return next((f"{size // unit}{name}" for unit, name in UNITS if size % unit == 0 and size), str(size))
