"""Formats and roots from registers, as live machines had them."""

from dataclasses import dataclass

import pytest

from hostwalk.errors import WalkError
from hostwalk.paging import spaces
from hostwalk.target import Arch

X86 = {"cr0": 0x80050033, "cr3": 0x541E000, "cr4": 0x750EF0, "efer": 0xD01}
ARM_48 = {
    "ttbr0_el1": 0x43273001, "ttbr1_el1": 0x2000041A79001, "tcr_el1": 0x5001F5B5503510,
    "mair_el1": 0x40044FFFF, "id_aa64mmfr0_el1": 0x101125,
}  # fmt: skip
ARM_52 = {
    "ttbr0_el1": 0x430DCD01, "ttbr1_el1": 0x2000041A79001, "tcr_el1": 0x95001F6B54C350C,
    "mair_el1": 0x40044FFFF, "id_aa64mmfr0_el1": 0x32310201126,
}  # fmt: skip


@dataclass
class Registers:
    arch: Arch
    values: dict


def read(values, **changes):
    arch = Arch.X86_64 if "cr3" in values else Arch.ARM64
    return spaces(Registers(arch, values | changes))


def tcr(t0sz=16, t1sz=16, tg0=0, tg1=2, ips=5, **bits):
    value = t0sz | tg0 << 14 | t1sz << 16 | tg1 << 30 | ips << 32
    for name, number in {"epd0": 7, "epd1": 23, "tbi0": 37, "tbi1": 38, "hpd1": 42, "ds": 59}.items():
        value |= bits.get(name, 0) << number
    return value


def test_x86_halves_share_a_root():
    found = read(X86)
    assert found.user.format.name == found.kernel.format.name == "x86-64 4-level"
    assert found.user.root == found.kernel.root == 0x541E000
    assert (found.user.start, found.user.end) == (0, 1 << 47)
    assert (found.kernel.start, found.kernel.end) == (0xFFFF_8000_0000_0000, 1 << 64)


def test_x86_la57_gives_five_levels():
    found = read(X86, cr4=0x751EF0)
    assert [level.name for level in found.user.format.levels] == ["pgd", "p4d", "pud", "pmd", "pte"]
    assert found.kernel.start == 0xFF00_0000_0000_0000


def test_x86_root_without_pcid_and_lam():
    assert read(X86, cr3=1 << 63 | 3 << 61 | 0x541E000 | 0x123).user.root == 0x541E000


def test_x86_without_nxe_bit_63_is_reserved():
    pte = read(X86, efer=0x501).user.format.levels[-1]
    assert pte.kind(1 << 63 | 0x1001) == "reserved"


def test_x86_outside_64_bit_mode():
    with pytest.raises(WalkError, match="64-bit mode"):
        read(X86, efer=0)


def test_missing_register_is_named():
    with pytest.raises(WalkError, match="cr4"):
        spaces(Registers(Arch.X86_64, {"cr0": 0x80050033, "cr3": 0, "efer": 0xD01}))


def test_arm_48():
    found = read(ARM_48)
    assert (found.user.format.name, found.user.root) == ("arm64 4K/48", 0x43273000)
    assert (found.kernel.format.name, found.kernel.root) == ("arm64 4K/48", 0x41A79000)
    assert found.kernel.start == 0xFFFF_0000_0000_0000
    assert found.user.format.memory_types[:5] == (
        "Normal", "Normal", "Normal-NC", "Device-nGnRnE", "Device-nGnRE",
    )  # fmt: skip


def test_arm_52_root_is_aligned_to_its_small_table():
    found = read(ARM_52)
    assert (found.user.format.name, found.user.root) == ("arm64 4K/52 LPA2", 0x430DCD00)
    assert [level.name for level in found.user.format.levels] == ["pgd", "p4d", "pud", "pmd", "pte"]
    assert found.user.format.levels[0].bits == 4


def test_arm_root_above_48_bits():
    ttbr = ARM_52["ttbr0_el1"] & ~0x3F | 0xA << 2
    assert read(ARM_52, ttbr0_el1=ttbr).user.root == 0xA << 48 | 0x430DCD00


def test_arm_root_bits_mean_nothing_without_52_bit_addresses():
    assert read(ARM_48, ttbr0_el1=0x43273001 | 0xA << 2).user.root == 0x43273000


@pytest.mark.parametrize(
    ("granule", "size", "names", "first_bits"),
    [
        ((0, 2), 28, "pgd pmd pte", 6),
        ((0, 2), 25, "pgd pmd pte", 9),
        ((0, 2), 16, "pgd pud pmd pte", 9),
        ((2, 1), 16, "pgd pud pmd pte", 1),
        ((2, 1), 17, "pgd pmd pte", 11),
        ((2, 1), 28, "pgd pte", 11),
        ((1, 3), 22, "pgd pte", 13),
        ((1, 3), 16, "pgd pmd pte", 6),
    ],
)
def test_arm_levels(granule, size, names, first_bits):
    tg0, tg1 = granule
    found = read(ARM_48, tcr_el1=tcr(size, size, tg0, tg1))
    for half in (found.user, found.kernel):
        assert " ".join(level.name for level in half.format.levels) == names
        assert half.format.levels[0].bits == first_bits


def test_arm_halves_can_differ():
    found = read(ARM_48, tcr_el1=tcr(25, 16, tg0=1, tg1=2))
    assert found.user.format.name == "arm64 64K/39"
    assert found.kernel.format.name == "arm64 4K/48"


def test_arm_64k_is_lpa_only_where_cpu_and_tcr_both_say_so():
    wide = tcr(12, 12, 1, 3, ips=6)
    assert read(ARM_52, tcr_el1=wide).user.format.name == "arm64 64K/52 LPA"
    assert read(ARM_52, tcr_el1=tcr(16, 16, 1, 3, ips=5)).user.format.name == "arm64 64K/48"
    assert read(ARM_48, tcr_el1=tcr(16, 16, 1, 3, ips=6)).user.format.name == "arm64 64K/48"


def test_arm_switched_off_half():
    found = read(ARM_48, tcr_el1=tcr(epd0=1))
    assert found.user is None
    assert found.of(0x1000) is None
    assert found.of(0xFFFF_0000_0000_0000) is found.kernel


def test_arm_reserved_granule():
    with pytest.raises(WalkError, match="TG0"):
        read(ARM_48, tcr_el1=tcr(tg0=3))


def test_arm_tagged_addresses():
    found = read(ARM_48, tcr_el1=tcr(tbi0=1))
    assert found.user.normal(0xAB00_0000_0000_1000) == 0x1000
    assert found.user.normal(0xAB80_0000_0000_1000) is None
    assert found.kernel.normal(0x1FFF_0000_0000_1000) is None
    assert found.of(0xAB00_0000_0000_1000) is found.user


def test_hierarchical_permissions_can_be_disabled_per_half():
    found = read(ARM_48, tcr_el1=tcr(hpd1=1))
    assert found.user.format.table_rules
    assert not found.kernel.format.table_rules
