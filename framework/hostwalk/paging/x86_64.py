"""x86-64 with 4 and 5 levels: Intel SDM volume 3, 4.5 and 4.6; Linux arch/x86/include/asm/pgtable_types.h."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hostwalk.errors import WalkError
from hostwalk.paging.format import (
    EXECS,
    NEVER,
    USER,
    WRITES,
    Field,
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

PAGE_SHIFT, INDEX_BITS = 12, 9
CR0_PG, CR4_LA57, CR4_SMEP, EFER_LMA, EFER_NXE = 1 << 31, 1 << 12, 1 << 20, 1 << 10, 1 << 11
CR3_ADDRESS = 0x000F_FFFF_FFFF_F000
P, PS, NX = 1 << 0, 1 << 7, 1 << 63
ADDRESS = (Field(12, 40, 12),)
# What Linux writes to IA32_PAT (arch/x86/mm/pat/memtype.c); no monitor shows the register.
LINUX_PAT = 0x0407_0506_0007_0106
PAT_NAMES = {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB", 7: "UC-"}

COMMON = (
    Flag("P", bit(0)),
    Flag("RW", bit(1)),
    Flag("US", bit(2)),
    Flag("PWT", bit(3)),
    Flag("PCD", bit(4)),
    Flag("A", bit(5)),
)
TABLE_FLAGS = (*COMMON, Flag("NX", bit(63)))
PAGE_FLAGS = (*COMMON, Flag("D", bit(6)), Flag("PAT", bit(7)), Flag("G", bit(8)), Flag("NX", bit(63)))
LARGE_FLAGS = (
    *COMMON,
    Flag("D", bit(6)),
    Flag("PS", bit(7)),
    Flag("G", bit(8)),
    Flag("PAT", bit(12)),
    Flag("NX", bit(63)),
)
PAGE_TYPE = (Field(3, 2, 0), Field(7, 1, 2))
LARGE_TYPE = (Field(3, 2, 0), Field(12, 1, 2))
RULES = (Rule(clear(1), WRITES), Rule(clear(2), USER))
NX_RULE = Rule(bit(63), EXECS)


def _upper(name: str, depth: int) -> Level:
    """Return a level without large pages."""
    return Level(
        name=name, shift=PAGE_SHIFT + depth * INDEX_BITS, bits=INDEX_BITS, table=Match(P, P), leaf=NEVER,
        leaf_flags=LARGE_FLAGS, memory_index=LARGE_TYPE, table_zero=PS,
    )  # fmt: skip


def _middle(name: str, depth: int) -> Level:
    """Return a level with large pages: the address bits below the page's size have to be zero, PAT aside."""
    shift = PAGE_SHIFT + depth * INDEX_BITS
    return Level(
        name=name, shift=shift, bits=INDEX_BITS, table=Match(P | PS, P), leaf=Match(P | PS, P | PS),
        leaf_flags=LARGE_FLAGS, memory_index=LARGE_TYPE, leaf_zero=(1 << shift) - (1 << 13),
    )  # fmt: skip


PTE = Level(
    name="pte", shift=PAGE_SHIFT, bits=INDEX_BITS, table=NEVER, leaf=Match(P, P), leaf_flags=PAGE_FLAGS,
    memory_index=PAGE_TYPE,
)  # fmt: skip
LOWER = (_middle("pud", 2), _middle("pmd", 1), PTE)
LEVELS = {
    4: (_upper("pgd", 3), *LOWER),
    5: (_upper("pgd", 4), _upper("p4d", 3), *LOWER),
}


def make_format(
    levels: int = 4, *, nx: bool = True, smep: bool = False, phys_bits: int = 52, pat: int = LINUX_PAT
) -> Format:
    """Return the format with 4 or 5 levels. Without ``nx`` (EFER.NXE) bit 63 has to be zero."""
    return Format(
        name=f"x86-64 {levels}-level",
        arch=Arch.X86_64,
        variant="LA57" if levels == 5 else "",
        page_shift=PAGE_SHIFT,
        levels=LEVELS[levels] if nx else tuple(_without_nx(level) for level in LEVELS[levels]),
        address=ADDRESS,
        phys_bits=phys_bits,
        leaf_rules=(*RULES, NX_RULE) if nx else RULES,
        table_rules=(*RULES, NX_RULE) if nx else RULES,
        final_rules=((Rights.USER_READ, Rights.EXEC),) if smep else (),
        table_flags=TABLE_FLAGS,
        values=(Value("pkey", (Field(59, 4, 0),), hide_zero=True),),
        memory_types=tuple(PAT_NAMES.get((pat >> 8 * i) & 7, "reserved") for i in range(8)),
    )


def _without_nx(level: Level) -> Level:
    return replace(level, table_zero=level.table_zero | NX, leaf_zero=level.leaf_zero | NX)


def spaces(values: Mapping[str, int]) -> Spaces:
    """Return both halves of what CR3 points at.

    Needs cr0, cr3, cr4, efer (and pat, where it is known); raises WalkError when not in 64-bit mode. With
    page-table isolation in user mode the kernel half holds only the entry code, as it does for the processor.
    """
    if not (values["cr0"] & CR0_PG and values["efer"] & EFER_LMA):
        raise WalkError("the processor is not in 64-bit mode: CR0.PG or EFER.LMA is clear")
    format_ = make_format(
        5 if values["cr4"] & CR4_LA57 else 4,
        nx=bool(values["efer"] & EFER_NXE),
        smep=bool(values["cr4"] & CR4_SMEP),
        pat=values.get("pat", LINUX_PAT),
    )
    root, half = values["cr3"] & CR3_ADDRESS, 1 << (format_.va_bits - 1)
    bits = linux_bits({})
    user = AddressSpace("CR3, user half", format_, root, 0, half, linux=bits)
    kernel = AddressSpace("CR3, kernel half", format_, root, (1 << 64) - half, 1 << 64, linux=bits)
    return Spaces(user, kernel)


def linux_bits(layout: Mapping[str, int], variant: str = "") -> LinuxBits:
    """Return how Linux reads entries, by the constants of the build; a missing one is a missing feature."""
    saved, prot_none = _one(layout, "_PAGE_BIT_SAVED_DIRTY"), NEVER
    if "_PAGE_BIT_PROTNONE" in layout:
        prot_none = one_of(1 << layout["_PAGE_BIT_PROTNONE"], absent=P)
    # A huge page under change is not present to the hardware, and has PS (pmd_mkinvalid()).
    invalid = Match(P | PS, PS) if prot_none else NEVER
    return LinuxBits(
        present=tuple(match for match in (bit(0), prot_none, invalid) if match),
        prot_none=prot_none,
        inverted=True,
        writable=bit(1),
        dirty=tuple(match for match in (bit(6), saved) if match),
        young=bit(5),
        user=bit(2),
        executable=clear(63),
        special=_one(layout, "_PAGE_BIT_SPECIAL"),
        soft_dirty=one_of(layout.get("_PAGE_SOFT_DIRTY", 0)),
        uffd_wp=one_of(layout.get("_PAGE_UFFD_WP", 0)),
        saved_dirty=saved,
        devmap=_one(layout, "_PAGE_BIT_DEVMAP"),
        shadow_stack=Match(P | 1 << 1 | 1 << 6, P | 1 << 6) if saved else NEVER,
        swap=_swap_bits(layout, variant),
    )


def _one(layout: Mapping[str, int], name: str) -> Match:
    """Return the match for the bit whose number the build calls ``name``."""
    return bit(layout[name]) if name in layout else NEVER


def _swap_bits(layout: Mapping[str, int], variant: str) -> SwapBits | None:
    if "SWP_TYPE_BITS" not in layout:
        return None
    bits, first = layout["SWP_TYPE_BITS"], layout["SWP_OFFSET_FIRST_BIT"]
    return SwapBits(
        type_field=Field(64 - bits, bits, 0),
        offset_field=Field(first, 64 - bits - first, 0),
        inverted=True,
        exclusive=one_of(layout.get("_PAGE_SWP_EXCLUSIVE", 0)),
        uffd_wp=one_of(layout.get("_PAGE_SWP_UFFD_WP", 0)),
        soft_dirty=one_of(layout.get("_PAGE_SWP_SOFT_DIRTY", 0)),
        names=swap_names(layout),
        pfn_bits=pfn_bits(layout, variant, 64 - bits - first),
    )
