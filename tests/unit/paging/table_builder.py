"""Builds page tables in a fake memory, from the manuals alone: it shares nothing with the code under test."""

from dataclasses import dataclass, field

from hostwalk.memory import FakeMemory

X86_P, X86_PS = 1 << 0, 1 << 7
TABLES_AT = 0x1_0000_0000


@dataclass(frozen=True)
class Shape:
    """What a format needs to be built; ``blocks``: levels, from 0 at the pages, that can be leaves."""

    name: str
    page_shift: int
    va_bits: int
    blocks: tuple[int, ...]
    wide: str = ""

    @property
    def arm(self):
        return not self.name.startswith("x86")

    @property
    def width(self):
        return self.page_shift - 3

    @property
    def depth(self):
        return -(-(self.va_bits - self.page_shift) // self.width)

    @property
    def phys_bits(self):
        return 52 if self.wide or not self.arm else 48


SHAPES = (
    Shape("x86-4", 12, 48, (0, 1, 2)),
    Shape("x86-5", 12, 57, (0, 1, 2)),
    *(Shape(f"arm-4k-{va}", 12, va, (0, 1, 2)) for va in (36, 39, 42, 47, 48)),
    *(Shape(f"arm-4k-{va}-lpa2", 12, va, (0, 1, 2, 3), "LPA2") for va in (48, 52)),
    *(Shape(f"arm-16k-{va}", 14, va, (0, 1)) for va in (36, 42, 47, 48)),
    *(Shape(f"arm-16k-{va}-lpa2", 14, va, (0, 1, 2), "LPA2") for va in (48, 52)),
    *(Shape(f"arm-64k-{va}", 16, va, (0, 1)) for va in (36, 42, 47, 48)),
    *(Shape(f"arm-64k-{va}-lpa", 16, va, (0, 1, 2), "LPA") for va in (48, 52)),
)


@dataclass
class Builder:
    shape: Shape
    memory: FakeMemory
    next_table: int = TABLES_AT
    root: int = 0
    tables: set = field(default_factory=set)

    def __post_init__(self):
        self.root = self.new_table()

    def new_table(self):
        table, self.next_table = self.next_table, self.next_table + (1 << self.shape.page_shift)
        self.tables.add(table)
        return table

    def encode(self, phys):
        """Return an output address as the format spreads it over an entry."""
        if self.shape.wide == "LPA":
            return phys & 0x0000_FFFF_FFFF_0000 | (phys >> 48 & 0xF) << 12
        if self.shape.wide == "LPA2":
            return phys & ((1 << 50) - 1) | (phys >> 50 & 3) << 8
        return phys

    def leaf(self, phys, level, attributes):
        """Return a leaf entry; ``attributes`` are bits that are neither type nor address."""
        if self.shape.arm:
            return self.encode(phys) | attributes | (3 if level == 0 else 1)
        return phys | attributes | X86_P | (X86_PS if level > 0 else 0)

    def table_entry(self, phys, attributes=0):
        if self.shape.arm:
            return self.encode(phys) | 3 | attributes
        return phys | X86_P | 2 | 4 | attributes

    def slot(self, virt, level):
        """Return the address of the entry for ``virt`` at ``level``, making the tables above it."""
        table = self.root
        for above in range(self.shape.depth - 1, level, -1):
            at = self.entry_at(table, virt, above)
            entry = int.from_bytes(self.memory.read(at, 8), "little")
            if entry == 0:
                below = self.new_table()
                self.memory.write_u64(at, self.table_entry(below))
                table = below
            else:
                table = self.decode(entry)
        return self.entry_at(table, virt, level)

    def decode(self, entry):
        """Tables of ours lie below 4 GiB and a bit: their address bits are where they are in every format."""
        return entry & 0x0000_00FF_FFFF_F000 & -(1 << self.shape.page_shift)

    def entry_at(self, table, virt, level):
        shift = self.shape.page_shift + level * self.shape.width
        bits = min(self.shape.width, self.shape.va_bits - shift)
        return table + 8 * ((virt >> shift) & ((1 << bits) - 1))

    def put(self, virt, level, entry):
        at = self.slot(virt, level)
        self.memory.write_u64(at, entry)
        return at

    def size(self, level):
        return 1 << (self.shape.page_shift + level * self.shape.width)
