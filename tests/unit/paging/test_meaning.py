"""What entries mean, bit by bit, to the hardware and to Linux."""

import pytest

from hostwalk.paging import AddressSpace, Leaf, Rights, arm64, with_layout, x86_64

X86_612 = {
    "_PAGE_BIT_PROTNONE": 8, "_PAGE_BIT_SPECIAL": 9, "_PAGE_UFFD_WP": 1 << 10, "_PAGE_SOFT_DIRTY": 1 << 11,
    "_PAGE_BIT_DEVMAP": 57, "_PAGE_BIT_SAVED_DIRTY": 58, "_PAGE_SWP_EXCLUSIVE": 8, "_PAGE_SWP_UFFD_WP": 4,
    "_PAGE_SWP_SOFT_DIRTY": 2, "SWP_TYPE_BITS": 5, "SWP_OFFSET_FIRST_BIT": 9, "SWP_PFN_BITS": 34,
    "SWP_PFN_BITS LA57": 40,
    "SWP_HWPOISON": 27, "SWP_MIGRATION_READ": 28, "SWP_MIGRATION_READ_EXCLUSIVE": 29,
    "SWP_MIGRATION_WRITE": 30, "SWP_PTE_MARKER": 31,
}  # fmt: skip
X86_61 = {k: v for k, v in X86_612.items() if "SAVED" not in k} | {"_PAGE_BIT_DEVMAP": 58}
ARM_612 = {
    "PTE_WRITE": 1 << 51, "PTE_DIRTY": 1 << 55, "PTE_SPECIAL": 1 << 56, "PTE_DEVMAP": 1 << 57,
    "PTE_UFFD_WP": 1 << 58, "PTE_PRESENT_INVALID": 1 << 11, "PTE_SWP_EXCLUSIVE": 4, "PTE_SWP_UFFD_WP": 8,
    "__SWP_TYPE_SHIFT": 6, "__SWP_TYPE_BITS": 5, "__SWP_OFFSET_SHIFT": 12, "__SWP_OFFSET_BITS": 50,
    "SWP_PFN_BITS": 36, "SWP_HWPOISON": 27, "SWP_MIGRATION_WRITE": 30, "SWP_PTE_MARKER": 31,
}  # fmt: skip
ARM_61 = {
    "PTE_WRITE": 1 << 51, "PTE_DIRTY": 1 << 55, "PTE_SPECIAL": 1 << 56, "PTE_DEVMAP": 1 << 57,
    "PTE_PROT_NONE": 1 << 58, "PMD_PRESENT_INVALID": 1 << 59, "PTE_SWP_EXCLUSIVE": 4,
    "__SWP_TYPE_SHIFT": 3, "__SWP_TYPE_BITS": 5, "__SWP_OFFSET_SHIFT": 8, "__SWP_OFFSET_BITS": 50,
}  # fmt: skip
P, RW, US, PWT, PCD, A, D, PS, G = (1 << i for i in range(9))
NX = 1 << 63
V, PAGE, USER, RO, AF, NG, DBM, PXN, UXN = 1, 3, 1 << 6, 1 << 7, 1 << 10, 1 << 11, 1 << 51, 1 << 53, 1 << 54


def leaf(entry, layout, level="pte", levels=4):
    arm = "PTE_WRITE" in layout
    format_ = (
        arm64.make_format(arm64.Half(12, 48, mair=0x0004_0044_FFFF)) if arm else x86_64.make_format(levels)
    )
    bits = (arm64 if arm else x86_64).linux_bits({})
    space = with_layout(AddressSpace("t", format_, 0, 0, 1 << 47, bits), layout)
    found = next(one for one in format_.levels if one.name == level)
    return Leaf(space, found, 0, entry, 0x1000, Rights.NONE)


X86_FLAGS = [
    (P, "P"), (P | RW, "P RW"), (P | US, "P US"), (P | PWT, "P PWT"), (P | PCD, "P PCD"), (P | A, "P A"),
    (P | D, "P D"), (P | 1 << 7, "P PAT"), (P | G, "P G"), (P | NX, "P NX"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "names"), X86_FLAGS)
def test_x86_page_flags(entry, names):
    assert " ".join(leaf(entry, X86_612).flags) == names


def test_x86_large_page_flags_and_address():
    large = leaf(P | PS | 1 << 12 | 0x4020_0000, X86_612, "pmd")
    assert large.flags == ("P", "PS", "PAT")
    assert (large.phys_addr, large.size) == (0x4020_0000, 2 << 20)


@pytest.mark.parametrize(
    ("bits", "name"), [(0, "WB"), (PWT, "WC"), (PCD, "UC-"), (PCD | PWT, "UC"), (1 << 7 | PWT, "WP"),
                       (1 << 7 | PCD | PWT, "WT")],
)  # fmt: skip
def test_x86_memory_types_of_linux_pat(bits, name):
    assert leaf(P | bits, X86_612).memory_type == name


def test_x86_large_page_takes_pat_from_bit_12():
    assert leaf(P | PS | 1 << 12 | PWT, X86_612, "pmd").memory_type == "WP"
    assert leaf(P | PS | PWT, X86_612, "pmd").memory_type == "WC"


def test_x86_protection_key():
    assert leaf(P | 5 << 59, X86_612).values == ("pkey=5",)
    assert leaf(P, X86_612).values == ()


@pytest.mark.parametrize(
    ("entry", "layout", "names"),
    [
        (P | RW | US | A | D | NX, X86_612, "writable young user dirty"),
        (P | US | A, X86_612, "young user executable"),
        (P | US | A | NX | 1 << 58, X86_612, "young user dirty saved_dirty"),
        (P | US | A | NX | 1 << 58, X86_61, "young user devmap"),
        (P | US | A | NX | 1 << 57, X86_612, "young user devmap"),
        (P | US | D | NX, X86_612, "user dirty shadow_stack"),
        (P | US | D | NX, X86_61, "user dirty"),
        (P | NX | 1 << 9 | 1 << 10 | 1 << 11, X86_612, "special uffd_wp soft_dirty"),
        (P | NX | 1 << 9, {}, ""),
        (V | 2 | USER | AF | NG | RO | DBM | PXN | UXN | 1 << 55, ARM_612, "writable young user dirty"),
        (V | 2 | USER | AF | NG | RO | PXN | UXN, ARM_612, "young user"),
        (V | 2 | USER | AF | NG | DBM | PXN | UXN, ARM_612, "writable young user dirty"),
        (V | 2 | USER | AF | NG | DBM | RO | PXN | UXN, ARM_612, "writable young user"),
        (V | 2 | NG | AF | PXN | RO, ARM_612, "young executable"),
        (V | 2 | USER | UXN | RO | 1 << 56 | 1 << 57 | 1 << 58, ARM_612, "user special devmap uffd_wp"),
        (V | 2 | USER | UXN | RO | 1 << 58, ARM_61, "user"),
    ],
)
def test_linux_terms(entry, layout, names):
    assert leaf(entry, layout).linux.names == frozenset(names.split())


def test_x86_prot_none_has_its_pfn_inverted():
    seen = leaf(0x040F_FFFF_FD42_4920, X86_612)
    assert not seen.present
    assert seen.prot_none
    assert (seen.pfn, seen.phys_addr) == (0x2BDB, 0x2BDB000)
    assert seen.linux.names >= {"young", "dirty", "saved_dirty", "soft_dirty"}
    assert not seen.executable
    assert not seen.user


def test_arm_prot_none_of_both_kinds():
    seen = leaf(0x00E0_0000_4206_DF82, ARM_612)
    assert (seen.prot_none, seen.pfn, seen.present, seen.swap) == (True, 0x4206D, False, None)
    older = leaf(1 << 58 | PXN | UXN | AF | 0x4206_D000 | 2, ARM_61)
    assert (older.prot_none, older.pfn, older.swap) == (True, 0x4206D, None)


def test_huge_page_under_change_is_present_to_linux():
    x86 = leaf((~0x4020_0000 & 0x000F_FFFF_FFE0_0000) | PS | RW | A, X86_612, "pmd")
    assert (x86.linux.present, x86.prot_none, x86.phys_addr) == (True, False, 0x4020_0000)
    arm = leaf(1 << 59 | 0x4020_0000 | AF, ARM_61, "pmd")
    assert (arm.linux.present, arm.prot_none, arm.phys_addr) == (True, False, 0x4020_0000)


def x86_swap(kind, offset, bits=0):
    return kind << 59 | (~offset & (1 << 50) - 1) << 9 | bits


def test_x86_swap_entry():
    swap = leaf(x86_swap(1, 0x1234, 8 | 2), X86_612).swap
    assert (swap.type, swap.offset, swap.name, swap.pfn) == (1, 0x1234, "swap", None)
    assert (swap.exclusive, swap.soft_dirty, swap.uffd_wp) == (True, True, False)
    assert str(swap) == "swap type 1 offset 0x1234 exclusive soft_dirty"


def test_x86_migration_entry_holds_a_pfn_below_young_and_dirty():
    swap = leaf(x86_swap(30, 0x2BDB | 3 << 34), X86_612).swap
    assert (swap.name, swap.pfn, swap.migration) == ("migration write", 0x2BDB, True)
    assert leaf(x86_swap(30, 1 << 39), X86_612, levels=5).swap.pfn == 1 << 39


def test_markers_have_no_pfn():
    swap = leaf(x86_swap(31, 2), X86_612).swap
    assert (swap.marker, swap.pfn, str(swap)) == (True, None, "marker poisoned")


@pytest.mark.parametrize(
    ("layout", "entry"), [(ARM_612, 3 << 6 | 0x77 << 12 | 4), (ARM_61, 3 << 3 | 0x77 << 8 | 4)]
)
def test_arm_swap_entry(layout, entry):
    found = leaf(entry, layout)
    assert (found.swap.type, found.swap.offset, found.swap.exclusive, found.pfn) == (3, 0x77, True, None)


@pytest.mark.parametrize(
    ("index", "name"), [(0, "Normal"), (2, "Normal-NC"), (3, "Device-nGnRnE"), (4, "Device-nGnRE")]
)
def test_arm_memory_types_come_from_mair(index, name):
    assert leaf(PAGE | index << 2, ARM_612).memory_type == name


def test_mair_names():
    named = {
        0xF0: "Normal-Tagged",
        0xBB: "Normal-WT",
        0x08: "Device-nGRE",
        0x0C: "Device-GRE",
        0x4F: "Normal(0x4f)",
    }
    assert {value: arm64.mair_name(value) for value in named} == named


def test_arm_flags_and_shareability():
    entry = PAGE | 1 << 5 | USER | RO | 3 << 8 | AF | NG | 1 << 50 | DBM | 1 << 52 | PXN | UXN
    found = leaf(entry, ARM_612)
    assert found.flags == ("V", "NS", "USER", "RO", "AF", "nG", "GP", "DBM", "CONT", "PXN", "UXN")
    assert found.values == ("ISH",)
