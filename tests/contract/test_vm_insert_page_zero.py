"""vm_insert_page and the shared zero page, which no kernel treats as a page of a driver's any more."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, refcount
from hostwalk.witness import NO_PFN, Witness

PAGE = "vm_insert_page(9)"
READ_ONLY = "O_RDONLY|O_CLOEXEC"


@claim(
    "insert.zero.1",
    PAGE,
    "The zeropage is supported in some VMAs, see vm_mixed_zeropage_allowed().",
    reading="In a private one its entry is special and it is not counted.",
    sabotage=entry_bit("special", set=False),
    kernels=">=6.11",
)
def test_the_zero_page_in_a_private_vma_is_special(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("zero", nr=2)
    before, rss = witness.frames(pages.pfns), witness.mm(subject).rss_file
    area = subject.insert("vm_insert_page", pages, shared=False).area
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.writable) == (witness.zero_pfn, 1, 0)
    assert (mapped.refcounts, mapped.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.mm(subject).rss_file == rss


@claim(
    "insert.zero.2",
    PAGE,
    "The zeropage is supported in some VMAs",
    reading="What is written in a private one goes to a page of the process's own.",
    sabotage=entry_pfn(+1, page=1),
)
def test_a_store_to_the_zero_page_makes_a_copy(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("zero", nr=2), shared=False).area
    area[0].store(1)
    written = witness.pages(area)
    assert (written.anon, written.writable) == ((1, 0), (1, 0))
    assert written.pfns[1] == witness.zero_pfn
    assert written.pfns[0] != witness.zero_pfn
    assert subject.peek(area.address(1), subject.page_size) == bytes(subject.page_size)


@claim(
    "insert.zero.3",
    PAGE,
    "The zeropage is supported in some VMAs, see vm_mixed_zeropage_allowed().",
    reading="Not where a user could write to it: -EINVAL.",
    sabotage=entry_bit("present", set=True),
    kernels=">=6.11",
)
def test_the_zero_page_is_refused_where_it_could_be_written(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("zero", nr=1)
    for prot in ("rw", "r", "none"):
        inserted = subject.insert("vm_insert_page", pages, keep=True, prot=prot, shared=True)
        assert inserted.errno == "EINVAL"
        assert witness.pages(inserted.area).pfns == NO_PFN


@claim(
    "insert.zero.4",
    PAGE,
    "The zeropage is supported in some VMAs",
    reading="In a shared one too, where write access is out of the question.",
    sabotage=entry_bit("writable", set=True),
    kernels=">=6.11",
)
def test_the_zero_page_may_be_shared_read_only(subject: Subject, witness: Witness) -> None:
    subject.open_exerciser(READ_ONLY)
    area = subject.insert("vm_insert_page", subject.alloc_pages("zero", nr=1), prot="r", shared=True).area
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.writable) == (witness.zero_pfn, 1, 0)
    with subject.refuses("EACCES"):
        subject.mprotect(area, "rw")


@claim(
    "insert.zero.5",
    PAGE,
    "insert individual pages",
    reading="The zero page is inserted as any other, with a reference and a map count for each place.",
    sabotage=mapcount(-1, at=2),
    kernels="<6.11",
)
def test_the_zero_page_was_a_page_as_any_other(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("zero", nr=2)
    before, rss = witness.frames(pages.pfns), witness.mm(subject).rss_file
    area = subject.insert("vm_insert_page", pages, shared=False).area
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.writable) == (witness.zero_pfn, 0, 0)
    assert (mapped.refcounts, mapped.mapcounts) == (before.refcounts + 2, before.mapcounts + 2)
    assert witness.mm(subject).rss_file == rss + 2


@claim(
    "insert.zero.6",
    PAGE,
    "The zeropage is supported in some VMAs",
    reading="munmap() and a fork's end leave the zero page as it was.",
    sabotage=refcount(+1, at=2),
)
def test_the_zero_page_is_left_as_it_was(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("zero", nr=3)
    before, rss = witness.frames(pages.pfns[:1]), witness.mm(subject).rss_file
    area = subject.insert("vm_insert_page", pages, shared=False).area
    with subject.fork() as child:
        child.munmap((area.start, area.length))
    subject.munmap(area)
    after = witness.frames(pages.pfns[:1])
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.mm(subject).rss_file == rss
