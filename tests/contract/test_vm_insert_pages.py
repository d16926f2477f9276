"""vm_insert_pages: many pages at once, and what is left of them when one cannot be mapped."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, mm_counter, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "vm_insert_pages(9)"
NUM = "out: number of pages that were *not* mapped. (0 means all pages were successfully mapped)."
SUBSET = "In case of error, we may have mapped a subset of the provided pages."
MANY = 20
BATCH = 8


@claim(
    "insert_pages.num.1",
    PAGE,
    NUM,
    reading="All are mapped, in order, and 0 are left.",
    sabotage=entry_pfn(+1, page=9),
)
def test_all_pages_are_mapped_in_order(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=MANY)
    rss = witness.mm(subject).rss_file
    inserted = subject.insert("vm_insert_pages", pages)
    mapped = witness.pages(inserted.area)
    assert (inserted.ret, inserted.num) == (0, 0)
    assert mapped.pfns == pages.pfns
    assert (mapped.refcounts, mapped.mapcounts) == (2, 1)
    assert witness.mm(subject).rss_file == rss + MANY


@claim(
    "insert_pages.entry.1",
    PAGE,
    "The same restrictions apply as in vm_insert_page().",
    reading="The entries have the vma's protection and are normal ones.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_entries_are_normal_ones_with_the_vmas_protection(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=BATCH + 1)
    shared = witness.pages(subject.insert("vm_insert_pages", pages, shared=True).area)
    private = witness.pages(subject.insert("vm_insert_pages", pages, shared=False).area)
    assert (shared.writable, private.writable) == (1, 0)
    for mapped in (shared, private):
        assert (mapped.special, mapped.dirty, mapped.executable, mapped.young) == (0, 0, 0, 1)


@claim(
    "insert_pages.vmflag.1",
    PAGE,
    "The same restrictions apply as in vm_insert_page().",
    reading="VM_MIXEDMAP is set by the call.",
    sabotage=vm_flag("VM_MIXEDMAP"),
)
def test_the_mapping_becomes_a_mixed_map(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_pages", subject.alloc_pages("order0", nr=2)).area
    assert "VM_MIXEDMAP" in witness.vma(area).flags


@claim(
    "insert_pages.tables.1",
    PAGE,
    "insert multiple pages into user vma, batching the pmd lock",
    reading="Beyond the end of a page table too, in order.",
    sabotage=mm_counter("pgtables_bytes", +1, at=2),
)
def test_pages_go_on_in_the_next_table(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=MANY)
    start = subject.astride_tables(MANY)
    empty, before = witness.pages(subject.area(start, MANY)), witness.mm(subject).pgtables_bytes
    area = subject.insert("vm_insert_pages", pages, fixed_at=start).area
    mapped = witness.pages(area)
    grown = len(mapped.tables - empty.tables)
    assert (mapped.pfns, mapped.refcounts) == (pages.pfns, 2)
    assert grown >= 2
    assert witness.mm(subject).pgtables_bytes == before + grown * subject.page_size


@claim(
    "insert_pages.count.1",
    PAGE,
    SUBSET,
    reading="A prefix stays mapped.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_a_prefix_stays_mapped(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    blocker = subject.alloc_pages("order0", nr=1)
    area = subject.insert("vm_insert_page", blocker, map_pages=4, offset=2 * subject.page_size).area
    before = witness.pages(area)
    assert before.present == (0, 0, 1, 0)
    failed = subject.insert("vm_insert_pages", pages, when="now", at=area)
    after = witness.pages(area)
    assert (failed.errno, failed.num) == ("EBUSY", 2)
    assert after.pfns == (*pages.pfns[:2], *blocker.pfns, NO_PFN)
    assert witness.frames(pages.pfns).refcounts == (2, 2, 1, 1)


@claim(
    "insert_pages.count.2",
    PAGE,
    NUM,
    reading="The count is right wherever it stops.",
    sabotage=refcount(+1, at=2, page=BATCH),
)
def test_the_count_is_right_wherever_it_stops(subject: Subject, witness: Witness) -> None:
    blocker = subject.alloc_pages("order0", nr=1)
    for stop in (BATCH, 0, BATCH - 1, BATCH + 1, 2 * BATCH, MANY - 1):
        pages = subject.alloc_pages("order0", nr=MANY)
        area = subject.insert("vm_insert_page", blocker, map_pages=MANY, offset=stop * subject.page_size).area
        failed = subject.insert("vm_insert_pages", pages, when="now", at=area)
        assert (failed.errno, failed.num) == ("EBUSY", MANY - stop)
        assert witness.pages(area).pfns[: stop + 1] == (*pages.pfns[:stop], *blocker.pfns)
        assert witness.frames(pages.pfns).refcounts == [1 + (page < stop) for page in range(MANY)]


@claim(
    "insert_pages.count.3",
    PAGE,
    SUBSET,
    reading="A prefix that ends in the next page table.",
    sabotage=mapcount(+1, at=1, page=MANY - 1),
)
def test_a_prefix_that_ends_in_the_next_table(subject: Subject, witness: Witness) -> None:
    pages, blocker = subject.alloc_pages("order0", nr=MANY), subject.alloc_pages("order0", nr=1)
    start, stop = subject.astride_tables(MANY), MANY // 2 + 3
    area = subject.insert(
        "vm_insert_page", blocker, map_pages=MANY, offset=stop * subject.page_size, fixed_at=start
    ).area
    failed = subject.insert("vm_insert_pages", pages, when="now", at=area)
    assert (failed.errno, failed.num) == ("EBUSY", MANY - stop)
    frames = witness.frames(pages.pfns)
    assert frames.mapcounts == [page < stop for page in range(MANY)]
    assert witness.pages(area).pfns == (*pages.pfns[:stop], *blocker.pfns, *[NO_PFN] * (MANY - stop - 1))


@claim(
    "insert_pages.refused.1",
    PAGE,
    "In case of error, we may have mapped a subset of the provided pages.",
    reading="A page that is refused ends it.",
    sabotage=entry_bit("present", set=True),
)
def test_a_refused_page_ends_it(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=2)
    inserted = subject.insert("vm_insert_pages", pages, keep=True)
    assert (inserted.errno, inserted.num) == ("EINVAL", 3)
    assert witness.pages(inserted.area).pfns == (pages.pfns[0], NO_PFN, NO_PFN, NO_PFN)
    assert witness.frames(pages.pfns).refcounts == (2, 0, 0, 0)


@claim(
    "insert_pages.mmap.1",
    PAGE,
    "It is the caller's responsibility to account for this case.",
    reading="A failing f_op->mmap() unmaps the subset again.",
    sabotage=mapcount(+1, at=2),
)
def test_a_failing_mmap_gives_back_the_subset(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=2)
    before, rss = witness.frames(pages.pfns), witness.mm(subject).rss_file
    inserted = subject.insert("vm_insert_pages", pages)
    after = witness.frames(pages.pfns)
    assert (inserted.mapping, inserted.errno) == (None, "EINVAL")
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.mm(subject).rss_file == rss


@claim(
    "insert_pages.range.1",
    PAGE,
    "@addr: target start user address of these pages",
    reading="A range that leaves the vma is -EFAULT, and nothing is mapped.",
    sabotage=entry_bit("present", set=True),
)
def test_a_range_that_leaves_the_vma_is_efault(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    inserted = subject.insert("vm_insert_pages", pages, map_pages=3, keep=True, prot="rw", shared=True)
    assert (inserted.errno, inserted.num) == ("EFAULT", 4)
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert witness.frames(pages.pfns).refcounts == 1
    assert "VM_MIXEDMAP" not in witness.vma(inserted.area).flags


@claim(
    "insert_pages.range.2",
    PAGE,
    "@addr: target start user address of these pages",
    reading="Not before the vma, but up to its last page.",
    sabotage=refcount(-1, at=2, page=1),
)
def test_the_range_may_end_with_the_vma(subject: Subject, witness: Witness) -> None:
    pages, room = subject.alloc_pages("order0", nr=2), subject.mmap(3, "none")
    area = subject.mmap(2, "rw", shared=True, fd=subject.exerciser, fixed_at=room.address(1), replace=True)
    early = subject.insert("vm_insert_pages", pages, when="now", at=area, offset=-subject.page_size)
    assert (early.errno, early.num) == ("EFAULT", 2)
    assert witness.pages(room).pfns == NO_PFN
    exact = subject.insert("vm_insert_pages", pages, when="now", at=area)
    assert (exact.ret, exact.num) == (0, 0)
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.refcounts) == (pages.pfns, 2)


@claim(
    "insert_pages.compound.1",
    PAGE,
    "The same restrictions apply as in vm_insert_page().",
    reading="Each part of a compound page is mapped, its head referenced.",
    sabotage=mapcount(-1, page=BATCH - 1),
)
def test_a_compound_page_goes_in_as_a_whole(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("compound", order=3)
    area = subject.insert("vm_insert_pages", pages).area
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.mapcounts, mapped.refcounts) == (pages.pfns, 1, 1 + BATCH)
    subject.munmap(area[:3])
    after = witness.frames(pages.pfns)
    assert (after.mapcounts, after.refcounts) == ((0, 0, 0, 1, 1, 1, 1, 1), 1 + BATCH - 3)


@claim(
    "insert_pages.fault.1",
    PAGE,
    "The same restrictions apply as in vm_insert_page().",
    reading="With VM_MIXEDMAP set a fault handler may call it.",
    sabotage=refcount(-1, at=2),
)
def test_a_fault_handler_may_insert_many(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=BATCH + 2)
    area = subject.insert("vm_insert_pages", pages, when="fault", mixedmap=True).area
    assert witness.pages(area).pfns == NO_PFN
    area.load()
    mapped = witness.pages(area)
    assert subject.insert_result().runs == 1
    assert (mapped.pfns, mapped.refcounts) == (pages.pfns, 2)
