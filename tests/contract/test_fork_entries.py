"""fork(2), seen in the page tables: what of each entry is copied, and what is not."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable, not_applicable_if
from hostwalk.guest import Area, Subject
from hostwalk.needs import huge_page, soft_dirty, uffd_wp
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, refcount
from hostwalk.witness import Witness

PAGE = "fork(2)"
SAME = "At the time of fork() both memory spaces have the same content."
DUPLICATE = "The child process is an exact duplicate of the parent process"
COW = "Under Linux, fork() is implemented using copy-on-write pages."


@claim(
    "fork.old.1",
    "mm/memory.c",
    "An entry is old in the child, which has not used the page yet; the parent's stays young.",
    code="copy_pte_range(): pte_mkold()",
    sabotage=entry_bit("young", set=True, at=1),
)
def test_the_child_has_used_nothing_yet(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    with subject.fork() as child:
        theirs, ours = witness.pages(area, of=child), witness.pages(area)
        assert (theirs.present, theirs.young) == (1, 0)
        assert ours.young == 1
        child.must(child.load(area.start))
        assert witness.pages(area, of=child).young == (1, 0)


@claim(
    "fork.old.2",
    "mm/huge_memory.c",
    "The entry of a huge page is old in the child, too; the parent's stays young.",
    code="copy_huge_pmd(): pmd_mkold()",
    sabotage=entry_bit("young", set=True, at=2),
)
def test_the_child_has_not_used_the_huge_page_yet(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:2].touch()
    with subject.fork() as child:
        theirs, ours = witness.pages(part, of=child), witness.pages(part)
        assert (theirs.huge, theirs.young, theirs.dirty) == (1, 0, 1)
        assert (ours.huge, ours.young, ours.pfns) == (1, 1, theirs.pfns)
        child.must(child.load(area.start))
        assert witness.pages(part, of=child).young == 1


@claim(
    "fork.uffd_wp.2",
    "mm/huge_memory.c",
    "A child that is not watched by userfaultfd has entries of huge pages without its write protection; the parent's "
    "stay.",
    code="copy_huge_pmd(): pmd_clear_uffd_wp()",
    sabotage=entry_bit("uffd_wp", set=True, at=2),
)
def test_the_child_is_not_watched_in_huge_pages(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area)
    part = area[:2]
    with subject.fork() as child:
        theirs, ours = witness.pages(part, of=child), witness.pages(part)
        assert (theirs.huge, theirs.uffd_wp, theirs.writable) == (1, 0, 0)
        assert (ours.huge, ours.uffd_wp, ours.pfns) == (1, 1, theirs.pfns)


@claim(
    "fork.clean.1",
    "mm/memory.c",
    "An entry of a shared mapping is clean in the child; the parent's stays dirty and writable.",
    code="copy_pte_range(): pte_mkclean()",
    sabotage=entry_bit("dirty", set=True, at=1, page=0),
)
def test_a_shared_page_is_clean_in_the_child(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area.touch()
    with subject.fork() as child:
        theirs, ours = witness.pages(area, of=child), witness.pages(area)
        assert (theirs.pfns, theirs.writable, theirs.dirty) == (pages.pfns, 1, 0)
        assert (ours.writable, ours.dirty) == (1, 1)
        child.must(child.store(area.start))
        assert witness.pages(area, of=child).dirty == (1, 0)


@claim(
    "fork.uffd_wp.1",
    "mm/memory.c",
    "A child that is not watched by userfaultfd has entries without its write protection; the parent's stay.",
    code="copy_pte_range(): userfaultfd_wp()",
    sabotage=entry_bit("uffd_wp", set=True, at=1, page=0),
)
def test_the_child_is_not_watched(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x31)
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area[:1])
    with subject.fork() as child:
        theirs, ours = witness.pages(area, of=child), witness.pages(area)
        assert (theirs.uffd_wp, theirs.writable) == (0, 0)
        assert (ours.uffd_wp, ours.writable) == ((1, 0), 0)
        assert "VM_UFFD_WP" not in witness.vma(area, of=child).flags
        child.must(child.store(area.start, byte=0x32))
        assert subject.peek(area.start, 1) == b"\x31"


@claim(
    "fork.soft_dirty.1",
    PAGE,
    DUPLICATE,
    reading="Which pages were written since the kernel last forgot is the same in both.",
    sabotage=entry_bit("soft_dirty", set=False, at=1, page=1),
)
def test_soft_dirty_is_inherited(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area = subject.mmap(pages=2).touch()
    subject.clear_soft_dirty()
    area[1:].touch()
    with subject.fork() as child:
        theirs, ours = witness.pages(area, of=child), witness.pages(area)
        assert (theirs.soft_dirty, ours.soft_dirty) == ((0, 1), (0, 1))


@claim(
    "fork.reuse.2",
    "mm/memory.c",
    "A page that nobody else maps, but somebody else holds, is copied before it is written.",
    code="do_wp_page(): folio_ref_count()",
    sabotage=refcount(+1, at=3),
)
def test_a_page_that_somebody_holds_is_copied(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1).touch(0x51)
    before = witness.pages(area)
    with subject.fork():
        pins = subject.get_user_pages(area)
    with pins:
        area.store(0x52)
        after, held = witness.pages(area), witness.frames(pins.pfns)
        assert before.pfns == pins.pfns
        assert after.pfns.differing(before.pfns) == (0,)
        assert (after.writable, after.exclusive, after.refcounts) == (1, 1, 1)
        assert (held.refcounts, held.mapcounts) == (1, 0)


def _mapped_singly(subject: Subject, witness: Witness) -> Area:
    """Return a huge page that a page table maps, in one mapping."""
    area = huge_page(subject, witness)
    with subject.get_user_pages(area[:1], split_pmd=True):
        pass
    return area


@claim(
    "fork.batch.1",
    PAGE,
    COW,
    reading="Each page of a huge page that a page table maps is shared, write-protected on both sides, and counted.",
    sabotage=mapcount(-1, at=4, page=300),
)
def test_a_huge_page_in_a_page_table_is_shared(subject: Subject, witness: Witness) -> None:
    area = _mapped_singly(subject, witness)
    area.touch(0x21)
    before = witness.pages(area)
    with subject.fork() as child:
        theirs, ours = witness.pages(area, of=child), witness.pages(area)
        assert (before.huge, theirs.pfns, ours.pfns) == (0, before.pfns, before.pfns)
        assert (theirs.writable, ours.writable, ours.exclusive) == (0, 0, 0)
        assert ours.mapcounts == before.mapcounts + 1
        assert ours.refcounts == before.refcounts + area.pages
        assert (ours.dirty, theirs.dirty) == (1, 1)
    after = witness.pages(area)
    assert (after.mapcounts, after.refcounts) == (before.mapcounts, before.refcounts)


@claim(
    "fork.batch.2",
    PAGE,
    DUPLICATE,
    reading="Of a huge page in a page table, some pages of which are clean or nobody may access.",
    sabotage=entry_bit("writable", set=True, at=3, page=3),
)
def test_entries_of_one_huge_page_that_differ(subject: Subject, witness: Witness) -> None:
    area = _mapped_singly(subject, witness)
    area.touch(0x21)
    subject.mprotect(area[2:5], "r")
    subject.mprotect(area[7:9], "none")
    subject.mprotect(area[2:5], "rw")
    part = area[:12]
    with subject.fork() as child:
        theirs, ours = witness.pages(part, of=child), witness.pages(part)
        hidden = [page in (7, 8) for page in range(12)]
        assert (theirs.prot_none, ours.prot_none) == (hidden, hidden)
        assert (theirs.pfns, theirs.writable, ours.writable) == (ours.pfns, 0, 0)
        child.must(child.store(part.address(3), byte=0x22))
        assert subject.peek(part.address(3), 1) == b"\x21"
        with child.faults("SIGSEGV", "SEGV_ACCERR"):
            child.load(part.address(7))


@claim(
    "fork.hugetlb.1",
    PAGE,
    COW,
    reading="A private page of hugetlbfs is shared, write-protected on both sides.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_a_hugetlb_page_is_shared(subject: Subject, witness: Witness) -> None:
    with subject.sysctl("vm/nr_hugepages", 1) as pool:
        if pool < 1:
            not_applicable("no huge page was free for the pool")
        area = subject.mmap(pages=subject.pmd_size // subject.page_size, hugetlb=True).touch(0x61)
        part = area[:3]
        before = witness.pages(part)
        with subject.fork() as child:
            theirs, ours = witness.pages(part, of=child), witness.pages(part)
            assert (theirs.huge, theirs.pfns, ours.pfns) == (1, before.pfns, before.pfns)
            assert (theirs.writable, ours.writable) == (0, 0)
            assert ours.refcounts == before.refcounts + 1
            assert child.peek(area.start, 1) == b"\x61"
        after = witness.pages(part)
        subject.munmap(area)
    assert (after.pfns, after.refcounts) == (before.pfns, before.refcounts)


@claim(
    "fork.hugetlb.2",
    PAGE,
    "Memory writes, file mappings (mmap(2)), and unmappings (munmap(2)) performed by one of the processes do not "
    "affect the other.",
    reading="A write to a private page of hugetlbfs copies it, and lets go of the old one.",
    sabotage=refcount(+1, at=2),
)
def test_a_hugetlb_page_is_copied_when_written(subject: Subject, witness: Witness) -> None:
    with subject.sysctl("vm/nr_hugepages", 2) as pool:
        if pool < 2:
            not_applicable("there were no two huge pages for the pool")
        area = subject.mmap(pages=subject.pmd_size // subject.page_size, hugetlb=True).touch(0x61)
        part = area[:2]
        before = witness.pages(part)
        with subject.fork() as child:
            area[:1].store(0x62)
            theirs, ours = witness.pages(part, of=child), witness.pages(part)
            seen = child.peek(area.start, 1) + subject.peek(area.start, 1) + subject.peek(area.address(1), 1)
        subject.munmap(area)
    assert (theirs.pfns, theirs.refcounts) == (before.pfns, before.refcounts)
    assert (ours.writable, ours.huge, ours.exclusive[0]) == (1, 1, 1)
    assert len(ours.pfns.differing(before.pfns)) == 2
    assert seen == b"\x61\x62\x61"


@claim(
    "fork.levels.1",
    PAGE,
    SAME,
    reading="On both sides of the end of a pmd table and of a pud table.",
    sabotage=entry_bit("present", set=False, at=2, page=7),
)
def test_fork_over_the_end_of_higher_tables(subject: Subject, witness: Witness) -> None:
    for level in (1, 2):
        with not_applicable_if("ENOMEM", "user space has no second table of that level"):
            area = subject.across_tables(level=level).touch(0x71)
        before = witness.pages(area)
        with subject.fork() as child:
            theirs = witness.pages(area, of=child)
            assert (theirs.pfns, theirs.writable) == (before.pfns, 0)
            assert witness.pages(area).writable == 0
            child.must(child.store(area.start, stride=area.page_size, count=8, byte=0x72))
            assert subject.peek(area.address(7), 1) == b"\x71"


@claim(
    "fork.pinned.1",
    "mm/memory.c",
    "The child's copy of a page that its parent has pinned is its own: exclusive, writable, dirty, and held by its "
    "mapping alone.",
    code="copy_present_page()",
    sabotage=entry_bit("dirty", set=False, at=1),
)
def test_the_copy_of_a_pinned_page_is_the_childs_own(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x33)
    with subject.pin_user_pages(area, write=True) as pins, subject.fork() as child:
        theirs, ours = witness.pages(area, of=child), witness.pages(area)
        assert (theirs.dirty, theirs.writable, theirs.exclusive) == (1, 1, 1)
        assert (theirs.refcounts, theirs.mapcounts, theirs.anon) == (1, 1, 1)
        assert ours.pfns == pins.pfns
        assert (ours.writable, ours.dirty, ours.mapcounts) == (1, 1, 1)
        assert child.peek(area.address(1), 1) == b"\x33"


@claim(
    "fork.pinned.2",
    "include/linux/mm.h",
    "see whether we should break the cow immediately for an anon page on the src mm.",
    reading="A huge page of which one page is pinned: the parent keeps that page, the child gets another.",
    sabotage=entry_pfn(+1, at=2, page=0),
)
def test_a_pinned_page_of_a_huge_page_stays_the_parents(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:3].touch(0x44)
    with subject.pin_user_pages(area[:1], write=True) as pins, subject.fork() as child:
        ours, theirs = witness.pages(part), witness.pages(part, of=child)
        assert (ours.pfns[:1], ours.writable[0], ours.exclusive[0]) == (pins.pfns, 1, 1)
        assert theirs.pfns[0] != ours.pfns[0]
        area[:1].store(0x45)
        assert witness.pages(area[:1]).pfns == pins.pfns
        assert child.peek(area.start, 1) + child.peek(area.address(2), 1) == b"\x44\x44"


@claim(
    "fork.reuse.3",
    "mm/huge_memory.c",
    "A huge page that nobody else maps, but somebody else holds, is not written where it is.",
    code="do_huge_pmd_wp_page()",
    sabotage=refcount(+1, at=3, page=0),
)
def test_a_huge_page_that_somebody_holds_is_copied(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:2].touch(0x51)
    with subject.fork():
        pins = subject.get_user_pages(area[:1])
    with pins:
        held = witness.pages(part)
        area[:1].store(0x52)
        after = witness.pages(part)
        assert held.pfns[:1] == pins.pfns
        assert after.pfns[0] not in pins.pfns
        assert (after.refcounts[0], after.mapcounts[0], after.orders[0]) == (1, 1, 0)
        assert witness.contents(area[1:2])[0] == 0x51


@claim(
    "fork.reuse.4",
    "mm/huge_memory.c",
    "The last process that has a huge page takes it back on its next write, without a copy.",
    code="do_huge_pmd_wp_page()",
    sabotage=entry_bit("writable", set=False, at=3),
)
def test_the_last_owner_keeps_the_huge_page(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:2].touch(0x51)
    before = witness.pages(part)
    with subject.fork():
        pass
    area[:1].store(0x52)
    after = witness.pages(part)
    assert (after.pfns, after.huge, after.writable) == (before.pfns, 1, 1)
    assert (after.exclusive[0], after.refcounts, after.mapcounts) == (1, before.refcounts, before.mapcounts)
