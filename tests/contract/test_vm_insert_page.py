"""vm_insert_page and its family: pages that a driver puts into a user mapping."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "vm_insert_page(9)"
PAGES = "vm_insert_pages(9)"
MAP = "vm_map_pages(9)"


@claim(
    "insert.page.1",
    PAGE,
    "Insert an individual page into a user vma: it is mapped, referenced and counted.",
    sabotage=mapcount(-1, at=1),
)
def test_an_inserted_page_is_mapped_and_counted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    before = witness.frames(pages.pfns)
    rss = witness.mm(subject).rss_file
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    mapped = witness.pages(area)
    assert mapped.pfns == pages.pfns
    assert mapped.refcounts == before.refcounts + 1
    assert mapped.mapcounts == before.mapcounts + 1
    assert witness.mm(subject).rss_file == rss + 4


@claim(
    "insert.entry.1",
    PAGE,
    "The page must have the vma's protection: it takes vma->vm_page_prot, so a shared writable mapping is writable.",
    sabotage=entry_bit("special", set=True),
)
def test_the_entry_is_a_normal_one_with_the_vmas_protection(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    shared = witness.pages(subject.insert("vm_insert_page", pages, prot="rw", shared=True).area)
    private = witness.pages(subject.insert("vm_insert_page", pages, prot="rw", shared=False).area)
    assert (shared.writable, private.writable) == (1, 0)
    for mapped in (shared, private):
        assert (mapped.special, mapped.dirty, mapped.executable) == (0, 0, 0)
        assert (mapped.user, mapped.young) == (1, 1)


@claim(
    "insert.vmflag.1",
    PAGE,
    "vma->vm_flags can be changed under mmap_lock: VM_MIXEDMAP is set by the call.",
    sabotage=vm_flag("VM_MIXEDMAP", at=1),
)
def test_the_mapping_becomes_a_mixed_map(subject: Subject, witness: Witness) -> None:
    inserted = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=1), prot="rw", shared=True)
    assert "VM_MIXEDMAP" in witness.vma(inserted.area).flags


@claim(
    "insert.range.1",
    PAGE,
    "An address outside the vma is -EFAULT and nothing is mapped.",
    sabotage=refcount(+1, at=2),
)
def test_an_address_outside_the_vma_is_efault(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    before = witness.frames(pages.pfns)
    inserted = subject.insert(
        "vm_insert_page", pages, map_pages=2, offset=2 * subject.page_size, keep=True, prot="rw", shared=True
    )
    assert inserted.errno == "EFAULT"
    assert witness.frames(pages.pfns).refcounts == before.refcounts
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert "VM_MIXEDMAP" not in witness.vma(inserted.area).flags


@claim(
    "insert.busy.1",
    PAGE,
    "An address that is mapped already is -EBUSY: both pages stay as they were.",
    sabotage=entry_pfn(+1, at=2),
)
def test_a_populated_address_is_ebusy(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vm_insert_page", pages, nr=1, prot="rw", shared=True).area
    before, frames = witness.pages(area), witness.frames(pages.pfns)
    again = subject.insert("vm_insert_page", pages, first=1, nr=1, when="now", at=area)
    assert again.errno == "EBUSY"
    assert witness.pages(area).entries == before.entries
    assert witness.frames(pages.pfns).refcounts == frames.refcounts


@claim(
    "insert.refcount.1",
    PAGE,
    "A page without a reference of its own (a tail of an unsplit block) is -EINVAL.",
    sabotage=entry_bit("present", set=True),
)
def test_a_page_without_a_reference_is_einval(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=2)
    inserted = subject.insert("vm_insert_page", pages, first=1, nr=1, keep=True, prot="rw", shared=True)
    assert inserted.errno == "EINVAL"
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert witness.frames(pages.pfns[1:]).refcounts == 0


@claim(
    "insert.anon.1",
    PAGE,
    "The page must be one that the driver allocated: an anonymous page is -EINVAL.",
    sabotage=mapcount(+1, at=2),
)
def test_an_anonymous_page_is_einval(subject: Subject, witness: Witness) -> None:
    anon = subject.mmap(pages=1, prot="rw").touch()
    pages = subject.alloc_pages("anon", nr=1, addr=anon.start)
    before = witness.frames(pages.pfns)
    inserted = subject.insert("vm_insert_page", pages, keep=True, prot="rw", shared=True)
    assert inserted.errno == "EINVAL"
    after = witness.frames(pages.pfns)
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.pages(inserted.area).pfns == NO_PFN


@claim(
    "insert.compound.1",
    PAGE,
    "A compound page must be allocated with __GFP_COMP: any part of it may be inserted.",
    sabotage=refcount(-1, at=3),
)
def test_parts_of_a_compound_page_may_be_inserted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("compound", order=2)
    before = witness.frames(pages.pfns[:1])
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    assert witness.pages(area).pfns == pages.pfns
    assert witness.frames(pages.pfns[:1]).refcounts == before.refcounts + 4


@claim(
    "insert.split.1",
    PAGE,
    "Or the block is split with split_page(): each page is then one of its own.",
    sabotage=refcount(-1, at=1),
)
def test_parts_of_a_split_block_may_be_inserted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=2)
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    mapped = witness.pages(area)
    assert mapped.pfns == pages.pfns
    assert mapped.refcounts == 2


@claim(
    "insert.munmap.1",
    PAGE,
    "munmap gives everything back: references, map counts and RSS.",
    sabotage=refcount(+1, at=2),
)
def test_munmap_gives_everything_back(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=3)
    before, rss = witness.frames(pages.pfns), witness.mm(subject).rss_file
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    subject.munmap(area)
    after = witness.frames(pages.pfns)
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.pages(area).pfns == NO_PFN
    assert witness.mm(subject).rss_file == rss


@claim(
    "insert.fork.1",
    PAGE,
    "fork copies inserted pages: the child maps the same pages, counted once more.",
    sabotage=mapcount(-1, at=2),
)
def test_fork_copies_inserted_pages(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=2), prot="rw", shared=True).area
    before = witness.pages(area)
    with subject.fork() as child:
        copied = witness.pages(area, of=child)
        assert copied.pfns == before.pfns
        assert copied.mapcounts == before.mapcounts + 1
        assert copied.refcounts == before.refcounts + 1
    assert witness.pages(area).mapcounts == before.mapcounts


@claim(
    "insert.gup.1",
    PAGE,
    "An inserted page is a normal one: get_user_pages can hold it.",
    sabotage=refcount(-1, at=2),
)
def test_get_user_pages_can_hold_an_inserted_page(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=2), prot="rw", shared=True).area
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1


@claim(
    "insert_pages.count.1",
    PAGES,
    "On return *num is the number of pages that were not mapped; pages before the failing one stay mapped.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_a_prefix_stays_mapped(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    blocker = subject.alloc_pages("order0", nr=1)
    size = subject.page_size
    area = subject.insert(
        "vm_insert_page", blocker, map_pages=4, offset=2 * size, prot="rw", shared=True
    ).area
    before = witness.pages(area)
    assert before.present == (0, 0, 1, 0)
    failed = subject.insert("vm_insert_pages", pages, when="now", at=area)
    after = witness.pages(area)
    assert (failed.errno, failed.num) == ("EBUSY", 2)
    assert after.pfns == (*pages.pfns[:2], *blocker.pfns, NO_PFN)
    assert witness.frames(pages.pfns).refcounts == (2, 2, 1, 1)


@claim(
    "insert_pages.range.1",
    PAGES,
    "A range that leaves the vma is -EFAULT and nothing is mapped.",
    sabotage=entry_bit("present", set=True),
)
def test_a_range_that_leaves_the_vma_is_efault(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    inserted = subject.insert("vm_insert_pages", pages, map_pages=3, keep=True, prot="rw", shared=True)
    assert inserted.errno == "EFAULT"
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert witness.frames(pages.pfns).refcounts == 1


@claim(
    "map_pages.order.1",
    MAP,
    "Maps the pages from vma->vm_pgoff on, in order, over the whole vma.",
    sabotage=entry_pfn(+1),
)
def test_map_pages_starts_at_vm_pgoff(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=5)
    area = subject.insert("vm_map_pages", pages, map_pages=3, pgoff=2, prot="rw", shared=True).area
    assert witness.pages(area).pfns == pages.pfns[2:]


@claim(
    "map_pages.range.1",
    MAP,
    "Returns -ENXIO and maps nothing if the vma asks for more pages than there are.",
    sabotage=entry_bit("present", set=True),
)
def test_map_pages_refuses_a_vma_that_is_too_large(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    inserted = subject.insert("vm_map_pages", pages, map_pages=3, keep=True, prot="rw", shared=True)
    assert inserted.errno == "ENXIO"
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert "VM_MIXEDMAP" not in witness.vma(inserted.area).flags
