"""vm_insert_page, refused: what it answers, and that nothing was mapped, counted or lost."""

from __future__ import annotations

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Subject, SyscallFailed
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, mm_counter, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "vm_insert_page(9)"


@claim(
    "insert.range.1",
    PAGE,
    "negative error code otherwise",
    reading="An address behind the vma is -EFAULT and nothing is mapped.",
    sabotage=refcount(+1, at=2),
)
def test_an_address_behind_the_vma_is_efault(subject: Subject, witness: Witness) -> None:
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
    "insert.range.2",
    PAGE,
    "negative error code otherwise",
    reading="An address before the vma is -EFAULT, and what is mapped there stays.",
    sabotage=entry_pfn(+1, at=2),
)
def test_an_address_before_the_vma_is_efault(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(2, "rw").touch()
    before = witness.pages(room[0])
    pages = subject.alloc_pages("order0", nr=1)
    inserted = subject.insert(
        "vm_insert_page", pages, offset=-subject.page_size, keep=True, fixed_at=room.address(1)
    )
    assert inserted.errno == "EFAULT"
    assert witness.pages(room).pfns == (*before.pfns, NO_PFN)
    assert witness.frames(pages.pfns).refcounts == 1


@claim(
    "insert.busy.1",
    PAGE,
    "negative error code otherwise",
    reading="An address that is mapped already is -EBUSY, and both pages stay as they were.",
    sabotage=entry_pfn(+1, at=2),
)
def test_a_populated_address_is_ebusy(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vm_insert_page", pages, nr=1, prot="rw", shared=True).area
    before, frames = witness.pages(area), witness.frames(pages.pfns)
    again = subject.insert("vm_insert_page", pages, first=1, nr=1, when="now", at=area)
    assert again.errno == "EBUSY"
    assert witness.pages(area).entries == before.entries
    after = witness.frames(pages.pfns)
    assert (after.refcounts, after.mapcounts) == (frames.refcounts, frames.mapcounts)


@claim(
    "insert.busy.2",
    PAGE,
    "negative error code otherwise",
    reading="An address whose page nobody may access (PROT_NONE) is mapped all the same: -EBUSY.",
    sabotage=refcount(+1, at=3, page=1),
)
def test_a_page_that_nobody_may_access_is_ebusy(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vm_insert_page", pages, nr=1).area
    subject.mprotect(area, "none")
    before = witness.pages(area)
    again = subject.insert("vm_insert_page", pages, first=1, nr=1, when="now", at=area)
    assert again.errno == "EBUSY"
    assert witness.pages(area).entries == before.entries
    assert witness.frames(pages.pfns).refcounts == (2, 1)


@claim(
    "insert.refcount.1",
    PAGE,
    "The page has to be a nice clean _individual_ kernel allocation.",
    reading="The tail of an unsplit block, which has no reference, is -EINVAL.",
    sabotage=entry_bit("present", set=True),
)
def test_a_page_without_a_reference_is_einval(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=2)
    inserted = subject.insert("vm_insert_page", pages, first=1, nr=1, keep=True, prot="rw", shared=True)
    assert inserted.errno == "EINVAL"
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert witness.frames(pages.pfns[1:]).refcounts == 0


@claim(
    "insert.refcount.2",
    PAGE,
    "negative error code otherwise",
    reading="A page without a reference is refused, and vma->vm_flags stay as they were.",
    sabotage=vm_flag("VM_MIXEDMAP"),
    departs=departure(
        "sets VM_MIXEDMAP before it looks at the page, and leaves it set",
        cites='fce831c92092 ("mm/memory: cleanly support zeropage in vm_insert_page*(), ..."), 6.11',
        shows="a page that was refused left VM_MIXEDMAP set",
        kernels=">=6.11",
    ),
)
def test_a_refused_page_leaves_the_flags(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=1)
    inserted = subject.insert("vm_insert_page", pages, first=1, nr=1, keep=True)
    assert inserted.errno == "EINVAL"
    flags = witness.vma(inserted.area).flags
    assert "VM_MIXEDMAP" not in flags, "a page that was refused left VM_MIXEDMAP set"


@claim(
    "insert.refcount.3",
    "mm/memory.c",
    "VM_MIXEDMAP is set before the page is looked at, and stays although the call fails.",
    code="vm_insert_page(), validate_page_before_insert()",
    sabotage=vm_flag("VM_MIXEDMAP"),
    kernels=">=6.11",
)
def test_a_refused_page_leaves_a_mixed_map(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=1)
    inserted = subject.insert("vm_insert_page", pages, first=1, nr=1, keep=True)
    assert inserted.errno == "EINVAL"
    assert "VM_MIXEDMAP" in witness.vma(inserted.area).flags


@claim(
    "insert.anon.1",
    PAGE,
    "individual pages they've allocated",
    reading="An anonymous page of a process is not one of them: -EINVAL.",
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
    "insert.slab.1",
    PAGE,
    "a nice clean _individual_ kernel allocation",
    reading="Memory of kmalloc() is not one: -EINVAL.",
    sabotage=entry_bit("present", set=True),
)
def test_a_page_of_the_slab_allocator_is_einval(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("slab", nr=1)
    before = witness.frames(pages.pfns)
    inserted = subject.insert("vm_insert_page", pages, keep=True)
    assert inserted.errno == "EINVAL"
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert witness.frames(pages.pfns).refcounts == before.refcounts


@claim(
    "insert.hugetlb.1",
    "mm/memory.c",
    "A page of another type (hugetlb) is -EINVAL, and its counts stay.",
    code="validate_page_before_insert(): page_has_type()",
    sabotage=refcount(+1, at=2),
    kernels=">=6.12",
)
def test_a_hugetlb_page_is_einval(subject: Subject, witness: Witness) -> None:
    with subject.sysctl("vm/nr_hugepages", 1) as made:
        if not made:
            not_applicable("there is no memory for a huge page")
        huge = _hugetlb(subject)
        pages = subject.alloc_pages("mapped", addr=huge)
        before = witness.frames(pages.pfns)
        inserted = subject.insert("vm_insert_page", pages, keep=True)
        assert inserted.errno == "EINVAL"
        after = witness.frames(pages.pfns)
        assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
        assert witness.pages(inserted.area).pfns == NO_PFN


def _hugetlb(subject: Subject) -> int:
    try:
        area = subject.mmap(subject.pmd_size // subject.page_size, "rw", hugetlb=True)
    except SyscallFailed as failed:
        not_applicable(f"no huge page can be mapped: {failed.errno}")
        raise
    return area[:1].touch().start


@claim(
    "insert.mmap.1",
    PAGE,
    "negative error code otherwise",
    reading="When f_op->mmap() hands it on, mmap(2) fails and the pages before are given back.",
    sabotage=mapcount(+1, at=2),
)
def test_a_failing_mmap_gives_back_what_was_inserted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=1)
    before = witness.mm(subject)
    frames = witness.frames(pages.pfns)
    inserted = subject.insert("vm_insert_page", pages)
    assert (inserted.mapping, inserted.errno, inserted.num) == (None, "EINVAL", 1)
    after = witness.frames(pages.pfns)
    assert (after.refcounts, after.mapcounts) == (frames.refcounts, frames.mapcounts)
    assert witness.mm(subject) == before


@claim(
    "insert.refused.1",
    PAGE,
    "negative error code otherwise",
    reading="A refused page takes no part in what the address space is counted to have.",
    sabotage=mm_counter("map_count", +1, at=2),
)
def test_a_refused_page_is_not_counted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("slab", nr=1)
    area = subject.mmap(2, "rw", shared=True, fd=subject.exerciser)
    before = witness.mm(subject)
    refused = subject.insert("vm_insert_page", pages, when="now", at=area)
    after = witness.mm(subject)
    assert refused.errno == "EINVAL"
    assert (after.rss_file, after.rss_shmem, after.map_count) == (
        before.rss_file,
        before.rss_shmem,
        before.map_count,
    )
    assert after.pgtables_bytes == before.pgtables_bytes
