"""Merging, finding and comparing scans."""

import json

from hostwalk.memory import FakeMemory, Region
from hostwalk.paging import (
    AddressSpace,
    addresses_of,
    diff,
    find,
    merge,
    plain_leaf,
    plain_walk,
    scan,
    walk,
    with_layout,
    x86_64,
)

LAYOUT = {"_PAGE_BIT_PROTNONE": 8, "SWP_TYPE_BITS": 5, "SWP_OFFSET_FIRST_BIT": 9}
SPACE = with_layout(
    AddressSpace("test", x86_64.make_format(4), 0x1000, 0, 1 << 47, x86_64.linux_bits({})), LAYOUT
)
PTE = 0x4000


def memory_of(entries, pmds=()):
    memory = FakeMemory((Region(0, 1 << 30),))
    for place, entry in ((0x1000, 0x2007), (0x2000, 0x3007), (0x3000, PTE | 7)):
        memory.write_u64(place, entry)
    for index, entry in entries.items():
        memory.write_u64(PTE + 8 * index, entry)
    for index, entry in pmds:
        memory.write_u64(0x3000 + 8 * index, entry)
    return memory


def scanned(entries, pmds=()):
    return scan(memory_of(entries, pmds), SPACE, non_present=True)


def test_merge_joins_neighbours_that_are_alike():
    leaves = scanned({0: 0x8007, 1: 0x9007, 2: 0xA007, 3: 0xB005, 5: 0xC005, 6: 0xF005})
    assert [(run.virt_addr, run.count) for run in merge(leaves)] == [
        (0, 3),
        (0x3000, 1),
        (0x5000, 1),
        (0x6000, 1),
    ]
    loose = merge(leaves, contiguous=False)
    assert [(run.virt_addr, run.size) for run in loose] == [(0, 0x3000), (0x3000, 0x1000), (0x5000, 0x2000)]
    assert str(merge(leaves)[0]).startswith(
        "0x0000000000000000-0x0000000000003000    12K pte  -> 0x8000 [P RW US]"
    )


def test_merge_can_ignore_flags():
    leaves = scanned({0: 0x8007, 1: 0x9067, 2: 0xA027})
    assert len(merge(leaves)) == 3
    assert [run.count for run in merge(leaves, ignore=("A", "D"))] == [3]


def test_merge_keeps_swap_entries_apart():
    assert len(merge(scanned({0: 0xFFFF_FFFF_FFFF_F000, 1: 0xFFFF_FFFF_FFFF_E000}))) == 2


def test_merge_of_nothing():
    assert merge(scanned({})) == ()


def test_large_pages_merge_in_their_own_size():
    runs = merge(scanned({}, pmds=((1, 0x40_0087), (2, 0x60_0087), (4, 0x80_0087))))
    assert [(run.virt_addr, run.size) for run in runs] == [(2 << 20, 4 << 20), (8 << 20, 2 << 20)]


def test_find_is_the_reverse_map():
    leaves = scanned({0: 0x40_1007, 3: 0x40_1005, 4: 0x9007}, pmds=((1, 0x40_0087),))
    assert find(leaves, 0x40_1000).virt_addr.tolist() == [0, 0x3000, 2 << 20]
    assert addresses_of(leaves, 0x40_1234) == [0x234, 0x3234, (2 << 20) + 0x1234]
    assert addresses_of(leaves, 0x1_0000_0000) == []


def test_find_sees_populated_prot_none():
    hidden = (~0x40_1000 & 0x000F_FFFF_FFFF_F000) | 0x100
    assert addresses_of(scanned({7: hidden}), 0x40_1000) == [0x7000]


def test_diff():
    before = scanned({0: 0x8007, 1: 0x9007, 2: 0xA007})
    after = scanned({0: 0x8007, 1: 0x9067, 3: 0xB007})
    found = diff(before, after)
    assert found.appeared.virt_addr.tolist() == [0x3000]
    assert found.vanished.virt_addr.tolist() == [0x2000]
    assert [(change.after.virt_addr, change.bits) for change in found.changed] == [(0x1000, 0x60)]
    assert str(found.changed[0]) == "~ 0x0000000000001000 pte +A +D +dirty +young"
    assert [line[0] for line in found.lines()] == ["+", "-", "~"]


def test_no_difference():
    found = diff(scanned({0: 0x8007}), scanned({0: 0x8007}))
    assert not found
    assert str(found) == "no change"


def test_a_split_large_page_vanishes_and_small_ones_appear():
    found = diff(scanned({}, pmds=((1, 0x40_0087),)), scanned({0: 0x8007}))
    assert (len(found.appeared), len(found.vanished), found.changed) == (1, 1, ())


def test_plain_forms_are_json():
    memory = memory_of(
        {0: 0x8007, 1: (~0x40_1000 & 0x000F_FFFF_FFFF_F000) | 0x100, 2: 1 << 60 | 0xFFFF_FFFF_FE00}
    )
    for virt_addr in (0, 0x1000, 0x2000, 0x3000, 1 << 50):
        seen = walk(memory, SPACE, virt_addr)
        assert json.loads(json.dumps(plain_walk(seen)))["end"] == str(seen.end)
    assert plain_leaf(walk(memory, SPACE, 0).leaf)["phys_addr"] == "0x8000"
    assert plain_leaf(walk(memory, SPACE, 0x1000).leaf)["linux"] == ["prot_none"]
    assert plain_leaf(walk(memory, SPACE, 0x2000).leaf)["swap"]
