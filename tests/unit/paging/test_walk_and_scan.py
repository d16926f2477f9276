"""How walks end, what scans find odd, and what both inherit from the tables above."""

import numpy as np
import pytest

from hostwalk.memory import FakeMemory, Region
from hostwalk.paging import AddressSpace, End, Rights, arm64, scan, walk, x86_64

X86, ARM = x86_64.make_format(4, smep=True), arm64.make_format(arm64.Half(12, 48))
RAM = (Region(0, 1 << 30),)
HALF = 1 << 47
ROOT, PUD, PMD, PTE = 0x1000, 0x2000, 0x3000, 0x4000


def space(format_=X86, start=0, end=HALF, root=ROOT):
    bits = (x86_64 if format_.name.startswith("x86") else arm64).linux_bits({})
    return AddressSpace("test", format_, root, start, end, bits)


def tables(pte=0x5007, pmd=PTE | 7, pud=PMD | 7, pgd=PUD | 7):
    """Return memory in which virtual page 0 goes through these four entries."""
    memory = FakeMemory(RAM)
    for place, entry in ((ROOT, pgd), (PUD, pud), (PMD, pmd), (PTE, pte)):
        memory.write_u64(place, entry)
    return memory


@pytest.mark.parametrize(
    ("entries", "end", "depth"),
    [
        ({}, End.MAPPED, 4),
        ({"pte": 0}, End.EMPTY, 4),
        ({"pmd": 0}, End.EMPTY, 3),
        ({"pte": 0x5006}, End.NOT_PRESENT, 4),
        ({"pmd": 0xFF_0000_0000 | 7}, End.TABLE_OUTSIDE_RAM, 3),
        ({"pgd": PUD | 0x87}, End.RESERVED, 1),
        ({"pmd": 0x20_2000 | 0x87}, End.RESERVED, 3),
        ({"pmd": 0x20_1000 | 0x87}, End.MAPPED, 3),
        ({"pmd": 0xFF_0000_0000 | 0x87}, End.MAPPED, 3),
    ],
)
def test_why_a_walk_ends(entries, end, depth):
    seen = walk(tables(**entries), space(), 0x123)
    assert (seen.end, len(seen.levels)) == (end, depth)
    assert seen.mapped == (end is End.MAPPED)
    assert (seen.phys_addr is not None) == seen.mapped
    assert "0x" in str(seen)


def test_an_address_of_no_half_is_not_walked():
    memory = tables()
    seen = walk(memory, space(), HALF)
    assert (seen.end, seen.levels, seen.entry, seen.entry_phys, memory.reads) == (
        End.NON_CANONICAL,
        (),
        0,
        None,
        0,
    )


def test_a_root_outside_ram():
    seen = walk(tables(), space(root=1 << 40), 0)
    assert (seen.end, seen.levels) == (End.TABLE_OUTSIDE_RAM, ())
    leaves = scan(tables(), space(root=1 << 40))
    assert (len(leaves), len(leaves.findings), leaves.tables) == (0, 1, 0)


def test_arm_block_at_a_level_without_blocks_is_reserved():
    assert walk(tables(pgd=PUD | 1), space(ARM), 0).end is End.RESERVED
    assert walk(tables(pte=0x5001), space(ARM), 0).end is End.RESERVED


def test_an_address_beyond_the_output_size_is_reserved():
    narrow = arm64.make_format(arm64.Half(12, 48, phys_bits=40))
    assert walk(tables(pte=1 << 40 | 3), space(narrow), 0).end is End.RESERVED
    assert scan(tables(pte=1 << 40 | 3), space(narrow)).findings[0].what.startswith("reserved")


def test_a_walk_costs_one_word_per_level():
    memory = tables()
    walk(memory, space(), 0)
    assert (memory.reads, memory.bytes_read) == (4, 32)


ALL_X86 = "user rwx kernel rw-"
ALL_ARM = "user rwx kernel rw-"


@pytest.mark.parametrize(
    ("format_", "entries", "rights"),
    [
        (X86, {}, ALL_X86),
        (X86, {"pud": PMD | 5}, "user r-x kernel r--"),
        (X86, {"pmd": PTE | 3}, "user --- kernel rwx"),
        (X86, {"pgd": PUD | 7 | 1 << 63}, "user rw- kernel rw-"),
        (X86, {"pte": 0x5005 | 1 << 63}, "user r-- kernel r--"),
        (ARM, {"pte": 0x5443}, ALL_ARM),
        (ARM, {"pte": 0x5443 | 1 << 7}, "user r-x kernel r-x"),
        (ARM, {"pte": 0x5443 | 1 << 7 | 1 << 54}, "user r-- kernel r-x"),
        (ARM, {"pte": 0x5403 | 1 << 7}, "user --x kernel r-x"),
        (ARM, {"pte": 0x5443, "pmd": PTE | 3 | 1 << 60}, "user rw- kernel rw-"),
        (ARM, {"pte": 0x5443, "pud": PMD | 3 | 1 << 62}, "user r-x kernel r-x"),
        (ARM, {"pte": 0x5443, "pgd": PUD | 3 | 1 << 61}, "user --x kernel rwx"),
        (ARM, {"pte": 0x5403, "pgd": PUD | 3 | 1 << 59}, "user --x kernel rw-"),
    ],
)
def test_rights_over_all_levels(format_, entries, rights):
    memory = tables(**entries)
    seen = walk(memory, space(format_), 0)
    assert str(seen.leaf.rights) == rights
    assert Rights(int(scan(memory, space(format_)).rights[0])) == seen.leaf.rights


def test_hardware_dirty_state_makes_dbm_writable():
    for hd, expected in ((False, "user r-- kernel r--"), (True, "user rw- kernel rw-")):
        format_ = arm64.make_format(arm64.Half(12, 48, hd=hd))
        memory = tables(pte=0x5443 | 1 << 7 | 1 << 51 | 1 << 53 | 1 << 54)
        assert str(walk(memory, space(format_), 0).leaf.rights) == expected


def test_disabled_hierarchical_permissions_are_ignored():
    format_ = arm64.make_format(arm64.Half(12, 48, hpd=True))
    memory = tables(pte=0x5443, pgd=PUD | 3 | 1 << 61 | 1 << 60)
    assert str(walk(memory, space(format_), 0).leaf.rights) == ALL_ARM


def test_entries_that_are_not_present_come_on_request():
    memory = tables(pte=0x5006)
    memory.write_u64(PMD + 8, 0x100)
    assert len(scan(memory, space())) == 0
    leaves = scan(memory, space(), non_present=True)
    assert [(leaf.level, leaf.entry, leaf.present) for leaf in leaves] == [
        ("pte", 0x5006, False),
        ("pmd", 0x100, False),
    ]
    assert not leaves.rights.any()


def test_a_table_that_leads_to_itself_is_a_finding():
    memory = tables()
    memory.write_u64(ROOT + 8, ROOT | 7)
    leaves = scan(memory, space())
    assert len(leaves) == 1
    assert [str(finding).rpartition(": ")[2] for finding in leaves.findings] == [
        "leads back to a table above it"
    ]
    assert "also the pgd" in str(walk(memory, space(), 1 << 39))


def test_tables_shared_by_many_are_entered_a_bounded_number_of_times():
    memory = FakeMemory(RAM)
    for table, below in ((ROOT, PUD), (PUD, PMD), (PMD, PTE)):
        memory.write(table, np.full(512, below | 7, dtype="<u8").tobytes())
    memory.write_u64(PTE, 0x5007)
    leaves = scan(memory, space())
    assert leaves.tables < 10_000
    assert memory.bytes_read < 64 << 20
    assert len(leaves) >= 1
    assert any("entered elsewhere" in finding.what for finding in leaves.findings)
    assert leaves.unlisted > 0


def test_the_same_table_twice_is_entered_twice():
    memory = tables()
    memory.write_u64(ROOT + 8, PUD | 7)
    assert scan(memory, space()).virt_addr.tolist() == [0, 1 << 39]


def test_cost_follows_the_tables_that_are_there():
    memory = tables()
    scan(memory, space())
    assert memory.bytes_read == 4 * 4096


def test_leaves_of_different_sizes_are_in_order():
    memory = tables()
    memory.write_u64(PTE + 8 * 511, 0x9007)
    memory.write_u64(PMD + 8, 0x40_0000 | 0x87)
    memory.write_u64(PUD + 8, 0x8000_0000 | 0x87)
    leaves = scan(memory, space())
    assert leaves.virt_addr.tolist() == [0, 0x1FF000, 0x200000, 0x4000_0000]
    assert leaves.size.tolist() == [4096, 4096, 2 << 20, 1 << 30]
    assert leaves.phys_addr.tolist() == [0x5000, 0x9000, 0x40_0000, 0x8000_0000]
    assert leaves.inside(RAM).tolist() == [True, True, True, False]
    assert leaves.flag("PS").tolist() == [False, False, True, True]
    assert leaves.linux("writable").all()
    assert [leaf.virt_addr for leaf in leaves.between(0x200FFF, 0x4000_0001)] == [0x200000, 0x4000_0000]


def test_kernel_half():
    memory = tables()
    memory.write_u64(ROOT + 8 * 511, PUD | 7)
    kernel = space(start=(1 << 64) - HALF, end=1 << 64)
    assert scan(memory, kernel).virt_addr.tolist() == [0xFFFF_FF80_0000_0000]
    assert walk(memory, kernel, 0xFFFF_FF80_0000_0010).phys_addr == 0x5010


def test_an_empty_range():
    assert len(scan(tables(), space(), 0x1000, 0x1000)) == 0
    assert len(scan(tables(), space(), HALF, 1 << 64)) == 0
