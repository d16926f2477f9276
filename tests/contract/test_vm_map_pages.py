"""vm_map_pages and vm_map_pages_zero: an object's pages over a whole vma."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

MAP = "vm_map_pages(9)"
ZERO = "vm_map_pages_zero(9)"
CALLS = ("vm_map_pages", "vm_map_pages_zero")


@claim(
    "map_pages.order.1",
    MAP,
    "Maps an object consisting of @num pages, catering for the user's requested vm_pgoff",
    sabotage=entry_pfn(+1),
)
def test_map_pages_starts_at_vm_pgoff(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=5)
    area = subject.insert("vm_map_pages", pages, map_pages=3, pgoff=2, prot="rw", shared=True).area
    assert witness.pages(area).pfns == pages.pfns[2:]
    assert witness.frames(pages.pfns).refcounts == (1, 1, 2, 2, 2)


@claim(
    "map_pages.order.2",
    MAP,
    "Maps an object consisting of @num pages",
    reading="A vma that is smaller gets as many as it has room for.",
    sabotage=refcount(+1, at=2, page=4),
)
def test_a_smaller_vma_gets_fewer_pages(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=5)
    area = subject.insert("vm_map_pages", pages, map_pages=2, pgoff=1).area
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.mapcounts, mapped.writable, mapped.special) == (pages.pfns[1:3], 1, 1, 0)
    assert witness.frames(pages.pfns).refcounts == (1, 2, 2, 1, 1)


@claim(
    "map_pages.vmflag.1",
    MAP,
    "maps range of kernel pages",
    reading="As vm_insert_page() does it, in a mixed map.",
    sabotage=vm_flag("VM_MIXEDMAP"),
)
def test_the_mapping_becomes_a_mixed_map(subject: Subject, witness: Witness) -> None:
    for call in CALLS:
        area = subject.insert(call, subject.alloc_pages("order0", nr=2)).area
        assert "VM_MIXEDMAP" in witness.vma(area).flags


@claim(
    "map_pages.range.1",
    MAP,
    "0 on success and error code otherwise.",
    reading="-ENXIO if the vma asks for more pages than there are.",
    sabotage=entry_bit("present", set=True),
)
def test_map_pages_refuses_a_vma_that_is_too_large(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    inserted = subject.insert("vm_map_pages", pages, map_pages=3, keep=True, prot="rw", shared=True)
    assert inserted.errno == "ENXIO"
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert "VM_MIXEDMAP" not in witness.vma(inserted.area).flags


@claim(
    "map_pages.range.2",
    MAP,
    "catering for the user's requested vm_pgoff",
    reading="-ENXIO, nothing mapped, if it is beyond the object or leaves too few.",
    sabotage=refcount(+1, at=1),
)
def test_map_pages_refuses_an_offset_beyond_the_object(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=3)
    for pgoff, size in ((2, 2), (3, 1), (4, 1), (1 << 40, 1)):
        inserted = subject.insert("vm_map_pages", pages, map_pages=size, pgoff=pgoff, keep=True)
        assert inserted.errno == "ENXIO"
        assert witness.frames(pages.pfns).refcounts == 1
        assert witness.pages(inserted.area).pfns == NO_PFN


@claim(
    "map_pages.partial.1",
    MAP,
    "If we fail to insert any page into the vma, the function will return immediately leaving any previously inserted "
    "pages present.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_pages_before_the_failing_one_stay(subject: Subject, witness: Witness) -> None:
    pages, blocker = subject.alloc_pages("order0", nr=4), subject.alloc_pages("order0", nr=1)
    area = subject.insert("vm_insert_page", blocker, map_pages=4, offset=2 * subject.page_size).area
    assert witness.pages(area).present == (0, 0, 1, 0)
    failed = subject.insert("vm_map_pages", pages, when="now", at=area)
    assert failed.errno == "EBUSY"
    assert witness.pages(area).pfns == (*pages.pfns[:2], *blocker.pfns, NO_PFN)
    assert witness.frames(pages.pfns).refcounts == (2, 2, 1, 1)


@claim(
    "map_pages.partial.2",
    MAP,
    "Callers from the mmap handler may immediately return the error as their caller will destroy the vma, removing any "
    "successfully inserted pages.",
    sabotage=mapcount(+1, at=2),
)
def test_a_failing_mmap_removes_what_was_inserted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=1)
    before, rss = witness.frames(pages.pfns), witness.mm(subject).rss_file
    inserted = subject.insert("vm_map_pages", pages)
    after = witness.frames(pages.pfns)
    assert (inserted.mapping, inserted.errno) == (None, "EINVAL")
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.mm(subject).rss_file == rss


@claim(
    "map_pages.tables.1",
    MAP,
    "maps range of kernel pages",
    reading="Over the end of a page table too, each in its place.",
    sabotage=entry_pfn(+1, page=3),
)
def test_the_range_may_cross_page_tables(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=6)
    for call in CALLS:
        area = subject.insert(call, pages, fixed_at=subject.astride_tables(6)).area
        assert witness.pages(area).pfns == pages.pfns


@claim(
    "map_pages.munmap.1",
    MAP,
    "maps range of kernel pages",
    reading="munmap() gives all of them back, those that were not mapped are left alone.",
    sabotage=refcount(+1, at=2),
)
def test_munmap_gives_the_range_back(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    before = witness.frames(pages.pfns)
    for call in CALLS:
        subject.munmap(subject.insert(call, pages, map_pages=3, pgoff=1).area)
        after = witness.frames(pages.pfns)
        assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)


@claim(
    "map_pages_zero.order.1",
    ZERO,
    "Similar to vm_map_pages(), except that it explicitly sets the offset to 0.",
    sabotage=entry_pfn(+1),
)
def test_map_pages_zero_ignores_vm_pgoff(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    for pgoff in (0, 1, 1000):
        area = subject.insert("vm_map_pages_zero", pages, map_pages=3, pgoff=pgoff).area
        assert witness.pages(area).pfns == pages.pfns[:3]
        assert witness.vma(area).pgoff == pgoff


@claim(
    "map_pages_zero.range.1",
    ZERO,
    "0 on success and error code otherwise.",
    reading="-ENXIO if the vma asks for more pages than there are.",
    sabotage=entry_bit("present", set=True),
)
def test_map_pages_zero_refuses_a_vma_that_is_too_large(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    inserted = subject.insert("vm_map_pages_zero", pages, map_pages=3, keep=True)
    assert inserted.errno == "ENXIO"
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert witness.frames(pages.pfns).refcounts == 1
