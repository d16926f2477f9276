"""Walk one address through the tables, as the processor would, and say what was seen and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hostwalk.memory.physical import PhysicalMemory, u64
from hostwalk.memory.regions import covers
from hostwalk.paging.format import ALL_RIGHTS, Format, Kind, Level, Rights, rights_final, rights_left
from hostwalk.paging.leaf import Leaf
from hostwalk.paging.space import AddressSpace


class End(StrEnum):
    """Why a walk ended."""

    MAPPED = "mapped"
    EMPTY = "empty entry"
    NOT_PRESENT = "entry not present"
    RESERVED = "entry has reserved bits or a reserved type"
    TABLE_OUTSIDE_RAM = "table outside RAM"
    NON_CANONICAL = "address outside the space"


ENDS = {
    Kind.EMPTY: End.EMPTY,
    Kind.NOT_PRESENT: End.NOT_PRESENT,
    Kind.RESERVED: End.RESERVED,
    Kind.LEAF: End.MAPPED,
}


@dataclass(frozen=True)
class Step:
    """One level's entry. ``phys_addr`` is where it points, for tables and leaves."""

    format: Format
    level: Level
    table_phys: int
    index: int
    entry: int
    kind: Kind
    phys_addr: int | None

    @property
    def name(self) -> str:
        """Linux's name of the level."""
        return self.level.name

    @property
    def entry_phys(self) -> int:
        """Guest physical address of the entry itself."""
        return self.table_phys + 8 * self.index

    @property
    def flags(self) -> tuple[str, ...]:
        """The hardware's flags that are set, by the names of the architecture's manual."""
        if self.phys_addr is None:
            return ()
        table = self.level.table.holds(self.entry)
        flags = self.format.table_flags if table else self.level.leaf_flags
        return tuple(flag.name for flag in flags if flag.when.holds(self.entry))

    def __str__(self) -> str:
        target = "" if self.phys_addr is None else f" -> {self.phys_addr:#x}"
        where = f"{self.name:<4} {self.entry_phys:#014x} [{self.index:>4}]"
        return f"{where} = {self.entry:016x}  {self.kind}{target}"


@dataclass(frozen=True)
class Walk:
    """What a walk saw.

    ``leaf`` is the entry that maps the address, or a non-present one that is not empty (a PROT_NONE page, a
    swap entry): ``leaf.present`` tells. ``phys_addr`` is None unless ``end`` is MAPPED.
    ``findings`` are oddities on the way, such as a table that is reached twice.
    """

    space: AddressSpace
    virt_addr: int
    levels: tuple[Step, ...]
    end: End
    leaf: Leaf | None = None
    findings: tuple[str, ...] = ()

    @property
    def mapped(self) -> bool:
        """Whether the hardware would translate the address."""
        return self.end is End.MAPPED

    @property
    def phys_addr(self) -> int | None:
        """Guest physical address that the address translates to."""
        if self.leaf is None or not self.mapped:
            return None
        return self.leaf.phys_addr + self.virt_addr % self.leaf.size

    @property
    def pfn(self) -> int | None:
        """Page frame of the address, populated PROT_NONE entries included; None where there is no page."""
        if self.leaf is None or self.leaf.pfn is None:
            return None
        return self.leaf.pfn + ((self.virt_addr % self.leaf.size) >> self.space.format.page_shift)

    @property
    def entry(self) -> int:
        """The last entry that was read; 0 when none was."""
        return self.levels[-1].entry if self.levels else 0

    @property
    def entry_phys(self) -> int | None:
        """Guest physical address of the last entry."""
        return self.levels[-1].entry_phys if self.levels else None

    def __str__(self) -> str:
        lines = [f"{self.virt_addr:#018x} in {self.space}"]
        lines += [f"  {step}  {' '.join(step.flags)}".rstrip() for step in self.levels]
        if self.phys_addr is not None and self.leaf is not None:
            lines.append(f"  = {self.phys_addr:#x}, {self.leaf.describe()}")
        elif self.leaf is not None:
            lines.append(f"  = {self.end}: {self.leaf.describe()}")
        else:
            lines.append(f"  = {self.end}")
        return "\n".join([*lines, *(f"  ! {finding}" for finding in self.findings)])


def walk(memory: PhysicalMemory, space: AddressSpace, virt_addr: int) -> Walk:
    """Translate ``virt_addr``, reading one entry per level.

    Whatever the tables hold is a result; raises MemoryReadError only when memory cannot be read.
    """
    normal = space.normal(virt_addr)
    if normal is None:
        return Walk(space, virt_addr, (), End.NON_CANONICAL)
    steps: list[Step] = []
    table, rights = space.root, ALL_RIGHTS
    for level in space.format.levels:
        entry_phys = table + 8 * level.index(normal)
        if not covers(memory.regions, entry_phys, 8):
            return Walk(space, normal, tuple(steps), End.TABLE_OUTSIDE_RAM, findings=_findings(steps))
        step = look(space, level, table, normal, u64(memory, entry_phys))
        steps.append(step)
        if step.kind is not Kind.TABLE or step.phys_addr is None:
            break
        table, rights = step.phys_addr, rights_left(space.format.table_rules, step.entry, rights)
    leaf = leaf_of(space, level, normal, step, rights)
    return Walk(space, normal, tuple(steps), ENDS[step.kind], leaf, _findings(steps))


def look(space: AddressSpace, level: Level, table: int, virt_addr: int, entry: int) -> Step:
    """Return what an entry says at a level."""
    format_, kind, phys = space.format, level.kind(entry), None
    if kind is Kind.TABLE:
        phys = format_.table_phys(entry)
    elif kind is Kind.LEAF:
        phys = format_.leaf_phys(level, entry)
    if phys is not None and entry & format_.address_zero:
        kind = Kind.RESERVED
    return Step(format_, level, table, level.index(virt_addr), entry, kind, phys)


def leaf_of(space: AddressSpace, level: Level, virt_addr: int, step: Step, rights: Rights) -> Leaf | None:
    """Return the leaf that a walk ended at; None when it ended at nothing that maps, or would map, a page."""
    if step.kind is Kind.LEAF:
        left = rights_final(
            space.format.final_rules, rights_left(space.format.leaf_rules, step.entry, rights)
        )
    elif step.kind is Kind.NOT_PRESENT:
        left = Rights.NONE
    else:
        return None
    start = virt_addr & -level.size
    return Leaf(space, level, start, step.entry, step.entry_phys, left)


def _findings(steps: list[Step]) -> tuple[str, ...]:
    seen: dict[int, str] = {}
    found = []
    for step in steps:
        if step.table_phys in seen:
            found.append(f"the {step.name} table at {step.table_phys:#x} is also the {seen[step.table_phys]}")
        seen[step.table_phys] = step.name
    return tuple(found)
