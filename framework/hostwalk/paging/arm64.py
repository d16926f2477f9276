"""arm64, stage 1 at EL1&0, every granule: Arm ARM D8; Linux arch/arm64/include/asm/pgtable-hwdef.h."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hostwalk.errors import WalkError
from hostwalk.paging.format import (
    NEVER,
    WRITES,
    Field,
    Fields,
    Flag,
    Format,
    Level,
    Match,
    Rights,
    Rule,
    Value,
    bit,
    clear,
)
from hostwalk.paging.meaning import LinuxBits, SwapBits, one_of, pfn_bits, swap_names
from hostwalk.paging.space import AddressSpace, Spaces
from hostwalk.target import Arch

GRANULES = {12: "4K", 14: "16K", 16: "64K"}
TG0 = {0: 12, 1: 16, 2: 14}
TG1 = {1: 14, 2: 12, 3: 16}
PHYS_BITS = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52, 7: 56}
NAMES = {
    1: ("pte",),
    2: ("pgd", "pte"),
    3: ("pgd", "pmd", "pte"),
    4: ("pgd", "pud", "pmd", "pte"),
    5: ("pgd", "p4d", "pud", "pmd", "pte"),
}
TABLE, BLOCK, PAGE = Match(3, 3), Match(3, 1), Match(3, 3)
AP_USER, AP_RDONLY, DBM = 6, 7, 51
USER_DATA = Rights.USER_READ | Rights.USER_WRITE

LEAF_FLAGS = (
    Flag("V", bit(0)),
    Flag("NS", bit(5)),
    Flag("USER", bit(AP_USER)),
    Flag("RO", bit(AP_RDONLY)),
    Flag("AF", bit(10)),
    Flag("nG", bit(11)),
    Flag("GP", bit(50)),
    Flag("DBM", bit(DBM)),
    Flag("CONT", bit(52)),
    Flag("PXN", bit(53)),
    Flag("UXN", bit(54)),
)
TABLE_FLAGS = (
    Flag("V", bit(0)),
    Flag("PXNTable", bit(59)),
    Flag("UXNTable", bit(60)),
    Flag("APTable.noEL0", bit(61)),
    Flag("APTable.RO", bit(62)),
    Flag("NSTable", bit(63)),
)
TABLE_RULES = (
    Rule(bit(59), Rights.EXEC),
    Rule(bit(60), Rights.USER_EXEC),
    Rule(bit(61), USER_DATA),
    Rule(bit(62), WRITES),
)
LEAF_RULES = (
    Rule(bit(53), Rights.EXEC),
    Rule(bit(54), Rights.USER_EXEC),
    Rule(clear(AP_USER), USER_DATA),
)
READ_ONLY = Rule(bit(AP_RDONLY), WRITES)
# With hardware management of the dirty state, a store makes a read-only entry with DBM writable.
READ_ONLY_HD = Rule(Match(1 << AP_RDONLY | 1 << DBM, 1 << AP_RDONLY), WRITES)
SHAREABILITY = ("NSH", "SH=1", "OSH", "ISH")
ATTR_INDEX = (Field(2, 3, 0),)


@dataclass(frozen=True)
class Half:
    """What TCR_EL1 and the ID registers say about one half of the address space.

    ``wide`` is "" for output addresses of 48 bits, else LPA or LPA2. ``hd``: hardware sets the dirty state.
    """

    page_shift: int
    va_bits: int
    wide: str = ""
    phys_bits: int = 48
    hd: bool = False
    hpd: bool = False
    mair: int = 0


def make_format(half: Half) -> Format:
    """Return the format of one half; raises WalkError for a size that the granule cannot have."""
    width = half.page_shift - 3
    count = -(-(half.va_bits - half.page_shift) // width)
    if count not in NAMES or half.page_shift not in GRANULES:
        raise WalkError(f"no arm64 format has {half.page_shift}-bit pages and {half.va_bits}-bit addresses")
    wide = f" {half.wide}" if half.wide else ""
    return Format(
        name=f"arm64 {GRANULES[half.page_shift]}/{half.va_bits}{wide}",
        arch=Arch.ARM64,
        variant=half.wide,
        page_shift=half.page_shift,
        levels=_levels(half, width, count),
        address=_address(half),
        phys_bits=half.phys_bits,
        leaf_rules=(*LEAF_RULES, READ_ONLY_HD if half.hd else READ_ONLY),
        table_rules=() if half.hpd else TABLE_RULES,
        final_rules=((Rights.USER_WRITE, Rights.EXEC),),
        table_flags=TABLE_FLAGS,
        values=() if half.wide == "LPA2" else (Value("SH", (Field(8, 2, 0),), SHAREABILITY),),
        memory_types=tuple(mair_name((half.mair >> 8 * i) & 0xFF) for i in range(8)),
    )


def _levels(half: Half, width: int, count: int) -> tuple[Level, ...]:
    """Return the levels, root first; the root has what is left of the address bits."""
    levels = []
    for name, above_page in zip(NAMES[count], reversed(range(count)), strict=True):
        shift = half.page_shift + above_page * width
        block = PAGE if above_page == 0 else BLOCK if above_page in _block_depths(half) else NEVER
        bits, table = min(width, half.va_bits - shift), TABLE if above_page else NEVER
        levels.append(Level(name, shift, bits, table, block, LEAF_FLAGS, ATTR_INDEX))
    return tuple(levels)


def _block_depths(half: Half) -> tuple[int, ...]:
    """Return how far above the pages blocks may be."""
    plain = 2 if half.page_shift == 12 else 1
    return tuple(range(1, plain + 1 + bool(half.wide)))


def _address(half: Half) -> Fields:
    low = half.page_shift
    if half.wide == "LPA2":
        return (Field(low, 50 - low, low), Field(8, 2, 50))
    if half.wide == "LPA":
        return (Field(low, 48 - low, low), Field(12, 4, 48))
    return (Field(low, 48 - low, low),)


def mair_name(attribute: int) -> str:
    """Return the memory type that a byte of MAIR_EL1 stands for."""
    high, low = attribute >> 4, attribute & 0xF
    if attribute == 0xF0:
        return "Normal-Tagged"
    if high == 0:
        return f"Device-{('nGnRnE', 'nGnRE', 'nGRE', 'GRE')[low >> 2]}"
    names = {0xFF: "Normal", 0x44: "Normal-NC", 0xBB: "Normal-WT"}
    return names.get(attribute, f"Normal({attribute:#04x})")


def _root(ttbr: int, format_: Format, wide: bool) -> int:
    """Return the table that TTBRn points at: bits 5:2 are address bits 51:48 when addresses have 52 bits."""
    root = ttbr & (1 << 48) - 2
    align = format_.levels[0].table_size
    if wide:
        root, align = root | ((ttbr >> 2) & 0xF) << 48, max(align, 64)
    return root & -align


def spaces(values: Mapping[str, int]) -> Spaces:
    """Return the halves that TTBR0_EL1 and TTBR1_EL1 translate; None for one that TCR_EL1.EPDn switches off.

    Needs ttbr0_el1, ttbr1_el1, tcr_el1, mair_el1, id_aa64mmfr0_el1. Raises WalkError for a reserved granule.
    """
    tcr, bits = values["tcr_el1"], linux_bits({})
    halves: list[AddressSpace | None] = []
    for which in (0, 1):
        if tcr >> (7, 23)[which] & 1:
            halves.append(None)
            continue
        half = _half(values, which)
        format_ = make_format(half)
        size = 1 << half.va_bits
        start = 0 if which == 0 else (1 << 64) - size
        root = _root(values[f"ttbr{which}_el1"], format_, bool(half.wide))
        tagged = bool(tcr >> (37 + which) & 1)
        halves.append(AddressSpace(f"TTBR{which}", format_, root, start, start + size, bits, tagged))
    return Spaces(*halves)


def _half(values: Mapping[str, int], which: int) -> Half:
    tcr = values["tcr_el1"]
    granule = (tcr >> (14, 30)[which]) & 3
    page_shift = (TG0, TG1)[which].get(granule)
    if page_shift is None:
        raise WalkError(f"TCR_EL1.TG{which} is {granule}, which is reserved")
    can = PHYS_BITS.get(values.get("id_aa64mmfr0_el1", 6) & 0xF, 48)
    phys_bits = min(PHYS_BITS[(tcr >> 32) & 7], can)
    lpa2 = bool(tcr >> 59 & 1) and page_shift != 16
    wide = "LPA2" if lpa2 else "LPA" if page_shift == 16 and phys_bits > 48 else ""
    return Half(
        page_shift=page_shift,
        va_bits=64 - ((tcr >> (0, 16)[which]) & 0x3F),
        wide=wide,
        phys_bits=phys_bits if wide else min(phys_bits, 48),
        hd=tcr >> 39 & 3 == 3,
        hpd=bool(tcr >> (41 + which) & 1),
        mair=values["mair_el1"],
    )


def linux_bits(layout: Mapping[str, int], variant: str = "") -> LinuxBits:
    """Return how Linux reads entries, by the constants of the build; a missing one is a missing feature."""
    write = layout.get("PTE_WRITE", 0) or 1 << DBM
    invalid = layout.get("PTE_PRESENT_INVALID", 0)
    prot_none = one_of(layout.get("PTE_PROT_NONE", 0), absent=1)
    if invalid:
        prot_none = Match(1 | invalid | 1 << AP_USER | 1 << 54, invalid | 1 << 54)
    others = (one_of(invalid or layout.get("PMD_PRESENT_INVALID", 0), absent=1), prot_none)
    return LinuxBits(
        present=(bit(0), *(match for match in others if match)),
        prot_none=prot_none,
        inverted=False,
        writable=one_of(write),
        dirty=tuple(
            m for m in (one_of(layout.get("PTE_DIRTY", 0)), Match(write | 1 << AP_RDONLY, write)) if m
        ),
        young=bit(10),
        user=bit(AP_USER),
        executable=clear(54),
        special=one_of(layout.get("PTE_SPECIAL", 0)),
        soft_dirty=NEVER,
        uffd_wp=one_of(layout.get("PTE_UFFD_WP", 0)),
        saved_dirty=NEVER,
        devmap=one_of(layout.get("PTE_DEVMAP", 0)),
        shadow_stack=NEVER,
        swap=_swap_bits(layout, variant),
    )


def _swap_bits(layout: Mapping[str, int], variant: str) -> SwapBits | None:
    if "__SWP_TYPE_BITS" not in layout:
        return None
    offset_bits = layout["__SWP_OFFSET_BITS"]
    return SwapBits(
        type_field=Field(layout["__SWP_TYPE_SHIFT"], layout["__SWP_TYPE_BITS"], 0),
        offset_field=Field(layout["__SWP_OFFSET_SHIFT"], offset_bits, 0),
        inverted=False,
        exclusive=one_of(layout.get("PTE_SWP_EXCLUSIVE", 0)),
        uffd_wp=one_of(layout.get("PTE_SWP_UFFD_WP", 0)),
        soft_dirty=NEVER,
        names=swap_names(layout),
        pfn_bits=pfn_bits(layout, variant, offset_bits),
    )
