"""struct page, read from a fake kernel."""

import numpy as np
import pytest
from fake_kernel import MEMBERS, VMEMMAP, FakeKernel

from hostwalk.errors import LayoutError, WalkError

HEAD, ANON_EXCLUSIVE, DIRTY, UPTODATE = 1 << 6, 1 << 17, 1 << 3, 1 << 2


@pytest.fixture
def kernel():
    return FakeKernel()


def large(kernel, head, order, *, refcount=5, entire=0, pins=2, mapping=0x1001, index=0x40):
    """Make a large folio: the stored count of whole mappings is one less than ``entire``."""
    kernel.page(head, flags=HEAD | DIRTY, _refcount=refcount, mapping=mapping, index=index)
    for i in range(1, 1 << order):
        kernel.page(head + i, compound_head=VMEMMAP + 64 * head | 1, _refcount=0)
    kernel.set(
        VMEMMAP + 64 * head,
        "struct folio",
        _flags_1=order | 0xAB00,
        _entire_mapcount=entire - 1,
        _pincount=pins,
    )


def test_a_small_anonymous_page(kernel):
    kernel.page(
        0x77, flags=2 << 62 | 5 << 54 | ANON_EXCLUSIVE | UPTODATE, mapping=0x1001, index=9, _mapcount=0
    )
    page = kernel.linux().page(0x77)
    assert (page.pfn, page.refcount, page.mapcount, page.pincount) == (0x77, 1, 1, 0)
    assert (page.anon, page.anon_exclusive, page.index, page.zone, page.node) == (True, True, 9, 2, 5)
    assert (page.head, page.order, page.compound, page.tail, page.type) == (0x77, 0, False, False, "")
    assert page.has("PG_uptodate")
    assert not page.has("PG_dirty")
    assert str(page) == "pfn 0x77 refcount 1 mapcount 1 pincount 0 anon [anon_exclusive uptodate]"


def test_pins_of_a_small_page_are_in_its_refcount(kernel):
    kernel.page(3, _refcount=2 + 3 * 1024)
    assert kernel.linux().page(3).pincount == 3


def test_a_large_folio(kernel):
    large(kernel, 0x200, 3, entire=1)
    kernel.page(0x203, compound_head=VMEMMAP + 64 * 0x200 | 1, _refcount=0, _mapcount=1, flags=ANON_EXCLUSIVE)
    pages = kernel.linux().pages([0x203, 0x200, 0x100, 0x207])
    assert pages.head.tolist() == [0x200, 0x200, 0x100, 0x200]
    assert pages.order.tolist() == [3, 3, 0, 3]
    assert pages.refcount.tolist()[:2] == [5, 5]
    assert pages.pincount.tolist() == [2, 2, 0, 2]
    assert pages.mapcount.tolist() == [3, 1, 1, 1]
    assert pages.index.tolist() == [0x43, 0x40, 0, 0x47]
    assert pages.has("PG_dirty").tolist() == [True, True, False, True]
    assert pages.has("PG_anon_exclusive").tolist() == [True, False, False, False]
    assert pages.anon.tolist() == [True, True, False, True]
    assert pages[0].tail
    assert "order 3 head 0x200" in str(pages[0])


def test_types_take_the_place_of_the_mapcount(kernel):
    kernel.page(1, _mapcount=0xF000_0003 - (1 << 32))
    kernel.page(2, _mapcount=0xF500_0000 - (1 << 32))
    kernel.page(3, _mapcount=0xEE00_0000 - (1 << 32))
    kernel.page(4, _mapcount=-2)
    pages = kernel.linux().pages([1, 2, 3, 4])
    assert [page.type for page in pages] == ["buddy", "slab", "type 0xee", ""]
    assert pages.mapcount.tolist() == [0, 0, 0, -1]


def test_hugetlb_keeps_exclusivity_on_the_head(kernel):
    large(kernel, 0x400, 2)
    kernel.page(0x400, flags=HEAD | ANON_EXCLUSIVE, mapping=1, _mapcount=0xF400_0000 - (1 << 32))
    page = kernel.linux().page(0x402)
    assert (page.type, page.anon_exclusive, page.mapcount) == ("hugetlb", True, 0)


def test_types_before_they_had_a_byte():
    kernel = FakeKernel(
        PAGE_TYPE_BYTE=0, PAGE_TYPE_BASE=0xF000_0000, PG_buddy=0x80, PG_offline=0x100, PG_table=0x200,
        PG_guard=0x400, PG_slab=9, without=("PGTY_buddy", "PGTY_hugetlb", "PGTY_slab"),
    )  # fmt: skip
    kernel.page(1, _mapcount=~0x80)
    kernel.page(2, _mapcount=~0x200)
    kernel.page(3, flags=1 << 9, _mapcount=-1)
    kernel.page(4, _mapcount=2)
    pages = kernel.linux().pages([1, 2, 3, 4])
    assert [page.type for page in pages] == ["buddy", "table", "slab", ""]
    assert pages.mapcount.tolist() == [0, 0, 0, 3]
    assert "PG_buddy" not in pages[3].names


def test_heads_by_mask(monkeypatch):
    monkeypatch.setitem(MEMBERS["struct page"], "compound_info", (8, 8))
    kernel = FakeKernel(COMPOUND_INFO_HAS_MASK=1, without=("offsetof(struct page, compound_head)",))
    large(kernel, 0x200, 3)
    kernel.page(0x205, compound_info=-(64 << 3) | 1, _refcount=0)
    kernel.page(0x206, compound_info=0)
    assert kernel.linux().pages([0x205, 0x206]).head.tolist() == [0x200, 0x206]


def test_columns_agree_with_single_pages(kernel):
    for pfn in range(64):
        kernel.page(pfn, _refcount=pfn, _mapcount=pfn - 1, index=pfn)
    linux = kernel.linux()
    pages = linux.pages(np.arange(64, dtype=np.uint64))
    assert len(pages) == 64
    assert list(pages) == [linux.page(pfn) for pfn in range(64)]


def test_a_frame_without_struct_page(kernel):
    with pytest.raises(WalkError, match="is not mapped"):
        kernel.linux().page(1 << 30)


def test_an_unknown_flag(kernel):
    with pytest.raises(LayoutError, match="PG_uptodata"):
        kernel.linux().pages([1]).has("PG_uptodata")


def test_no_frames(kernel):
    assert len(kernel.linux().pages([])) == 0
