"""mprotect(2) and write faults that are still wanted: soft-dirty, userfaultfd, copy-on-write, huge pages among them."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable, not_applicable_if
from hostwalk.guest import Area, Subject, SyscallFailed
from hostwalk.guest.code import store_call_store
from hostwalk.needs import huge_page, soft_dirty, uffd_wp
from hostwalk.sabotage import entry_bit, entry_pfn, vm_pgoff
from hostwalk.witness import NO_PFN, Witness

PAGE = "mprotect(2)"
THP = "/sys/kernel/mm/transparent_hugepage"
ONLY_PROTECTION = "mprotect() changes the access protections for the calling process's memory pages."
RANGE = (
    "mprotect() changes the access protections for the calling process's memory pages containing any part of the "
    "address range in the interval [addr, addr+len-1]."
)
VIOLATION = (
    "If the calling process tries to access memory in a manner that violates the protections, then the kernel "
    "generates a SIGSEGV signal for the process."
)
COW = "In all writable, private mappings, we have to properly handle COW."
UFFD = "Do we need write faults for uffd-wp tracking?"
SOFT_DIRTY = "The soft-dirty is a bit on a PTE which helps to track which pages a task writes to."


def forget_what_was_written(subject: Subject) -> None:
    """Clear all soft-dirty bits; ends the claim where there are none."""
    soft_dirty(subject)
    subject.clear_soft_dirty()


def write_protect(subject: Subject, area: Area, part: Area) -> None:
    """Watch an area by userfaultfd and write-protect a part; ends the claim where that cannot be done."""
    subject.uffd_write_protect(uffd_wp(subject, area), part)


@claim(
    "mprotect.soft_dirty.1",
    "Documentation/admin-guide/mm/soft-dirty.rst",
    SOFT_DIRTY,
    reading="A page that became writable again is not writable before its next write is noticed.",
    sabotage=entry_bit("writable", set=True),
)
def test_the_next_write_is_still_noticed(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    forget_what_was_written(subject)
    subject.mprotect(area, "r")
    subject.mprotect(area, "rw")
    after = witness.pages(area)
    assert (after.soft_dirty, after.writable) == (0, 0)
    area[:1].store()
    assert witness.pages(area).soft_dirty == (1, 0)


@claim(
    "mprotect.soft_dirty.2",
    "Documentation/admin-guide/mm/soft-dirty.rst",
    SOFT_DIRTY,
    reading="A huge page that became writable again is not writable before its next write is noticed.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_the_next_write_to_a_huge_page_is_still_noticed(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    forget_what_was_written(subject)
    subject.mprotect(area, "r")
    subject.mprotect(area, "rw")
    part = area[:2]
    after = witness.pages(part)
    assert (after.huge, after.soft_dirty, after.writable) == (1, 0, 0)
    area[:1].store()
    assert witness.pages(part).soft_dirty == 1


@claim(
    "mprotect.uffd_wp.1",
    "mm/mprotect.c",
    UFFD,
    reading="A huge page that userfaultfd protects stays protected, and one, through mprotect().",
    kernels=">=6.2",
    sabotage=entry_bit("writable", set=True, at=3),
)
def test_a_huge_page_stays_write_protected(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    write_protect(subject, area, area)
    for prot in ("r", "none", "rw"):
        subject.mprotect(area, prot)
        after = witness.pages(area[:2])
        assert (after.huge, after.uffd_wp, after.writable) == (1, 1, 0)


@claim(
    "mprotect.uffd_wp.2",
    "mm/mprotect.c",
    "Markers of pages that are not there, but write-protected by userfaultfd, stay: the page that comes is protected.",
    code="change_pte_range()",
    sabotage=entry_bit("present", set=False, at=2, page=1),
)
def test_markers_stay(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, shared=True, fd=subject.memfd(3)).touch(0x19)
    write_protect(subject, area, area[:2])
    subject.madvise(area, "DONTNEED")
    before = witness.pages(area)
    assert before.swaps == ("marker", "marker", "")
    for prot in ("none", "r", "rw"):
        subject.mprotect(area, prot)
        assert witness.pages(area).entries == before.entries
    area.load()
    back = witness.pages(area)
    assert (back.present, back.uffd_wp) == (1, (1, 1, 0))
    assert back.writable[:2] == 0


@claim(
    "mprotect.private.3",
    "mm/mprotect.c",
    COW,
    reading="A huge page that fork has shared stays read-only: the next write copies.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_a_shared_huge_page_stays_read_only(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:3].touch(0x11)
    with subject.fork() as child:
        subject.mprotect(area, "r")
        subject.mprotect(area, "rw")
        ours = witness.pages(part)
        assert (ours.huge, ours.writable) == (1, 0)
        area[:1].store(0x12)
        assert child.peek(area.start, 1) == b"\x11"
        assert witness.pages(part, of=child).pfns == ours.pfns


@claim(
    "mprotect.private.4",
    "mm/mprotect.c",
    COW,
    reading="The huge zero page stays read-only: the next write gets memory of its own.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_the_huge_zero_page_stays_read_only(subject: Subject, witness: Witness) -> None:
    with subject.agent.spawn() as root:
        for name, value in (("enabled", b"madvise"), ("use_zero_page", b"1")):
            try:
                switch = root.open(f"{THP}/{name}", "O_WRONLY")
            except SyscallFailed:
                not_applicable("this kernel makes no transparent huge pages")
                raise
            root.write(switch, value)
            root.close(switch)
    area = subject.mmap(pages=subject.pmd_size // subject.page_size, aligned=subject.pmd_size)
    subject.madvise(area, "HUGEPAGE")
    area[:1].load()
    part = area[:2]
    before = witness.pages(part)
    if (before.huge, before.anon) != (1, 0):
        not_applicable("a read mapped no huge zero page")
    subject.mprotect(area, "r")
    subject.mprotect(area, "rw")
    after = witness.pages(part)
    assert (after.pfns, after.huge, after.writable) == (before.pfns, 1, 0)
    area[:1].store()
    own = witness.pages(part)
    assert (own.anon[0], own.writable[0]) == (1, 1)
    assert own.pfns[0] != before.pfns[0]


@claim(
    "mprotect.thp.5",
    "mm/mprotect.c",
    "We can only special-case on exclusive anonymous pages",
    reading="An exclusive huge page is writable again at once, and dirty and young as before.",
    kernels=">=6.2",
    sabotage=entry_bit("writable", set=False, at=3),
)
def test_an_exclusive_huge_page_is_writable_at_once(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:2].touch()
    before = witness.pages(part)
    subject.mprotect(area, "r")
    subject.mprotect(area, "rw")
    after = witness.pages(part)
    assert (after.huge, after.writable, after.pfns) == (1, 1, before.pfns)
    assert (after.dirty, after.young, after.exclusive) == (before.dirty, before.young, before.exclusive)


@claim(
    "mprotect.thp.6",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: a huge page that nobody used stays old.",
    sabotage=entry_bit("young", set=True, at=2),
)
def test_a_huge_page_stays_old(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    subject.clear_young()
    for prot in ("r", "none", "rw"):
        subject.mprotect(area, prot)
        after = witness.pages(area[:2])
        assert (after.huge, after.young) == (1, 0)


@claim(
    "mprotect.thp.7",
    PAGE,
    RANGE,
    reading="Two huge pages and a part of a third: the two change as a whole, the third is split.",
    sabotage=entry_bit("writable", set=True, at=2, page=0),
)
def test_from_huge_pages_into_a_part_of_one(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    size = area.pages
    subject.mprotect(area[: size // 2], "r")
    edge = witness.pages(area[size // 2 - 2 : size // 2 + 2])
    assert (edge.huge, edge.writable) == (0, (0, 0, 1, 1))
    subject.mprotect(area, "none")
    after = witness.pages(area)
    assert (after.prot_none, after.mapcounts) == (1, 1)
    assert len(set(after.pfns)) == size


@claim(
    "mprotect.tlb.4",
    PAGE,
    VIOLATION,
    reading="The very next store to a huge page that became read-only.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_the_very_next_store_to_a_huge_page_faults(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness).touch()
    number, read = subject.agent.abi["__NR_mprotect"], subject.protection("r")
    text = store_call_store(subject.arch, area.start, number, (area.start, area.length, read))
    code = subject.code(text)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.execute(code.start)
    assert witness.pages(area[:1]).writable == 0


@claim(
    "mprotect.levels.1",
    PAGE,
    RANGE,
    reading="On both sides of the end of a pmd table and of a pud table.",
    sabotage=entry_bit("writable", set=True, at=2, page=5),
)
def test_a_range_over_the_end_of_higher_tables(subject: Subject, witness: Witness) -> None:
    for level in (1, 2):
        with not_applicable_if("ENOMEM", "user space has no second table of that level"):
            area = subject.across_tables(level=level).touch()
        before = witness.pages(area)
        subject.mprotect(area[1:7], "r")
        after = witness.pages(area)
        assert (after.pfns, after.writable) == (before.pfns, (1, 0, 0, 0, 0, 0, 0, 1))
        for page in (1, 3, 4, 6):
            with subject.faults("SIGSEGV", "SEGV_ACCERR"):
                subject.store(area.address(page))


@claim(
    "mprotect.vma.5",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: the parts of a mapping of a file still show the file's pages in their order.",
    sabotage=vm_pgoff(+1, at=2),
)
def test_the_parts_show_the_same_pages_of_the_file(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(6)
    whole = subject.mmap(pages=6, shared=True, fd=fd).touch()
    area = subject.apart(pages=5, shared=True, fd=fd)
    subject.mprotect(area[1:3], "r")
    assert [witness.vma(area[page]).pgoff for page in (0, 1, 3)] == [0, 1, 3]
    area.load()
    assert witness.pages(area).pfns == witness.pages(whole).pfns[:5]
    subject.mprotect(area[1:3], "rw")
    assert witness.vma(area).pgoff == 0


@claim(
    "mprotect.hugetlb.3",
    PAGE,
    RANGE,
    reading="A hugetlb page that nobody may access, and may again: the same page, dirty as before.",
    sabotage=entry_bit("user", set=True, at=2),
)
def test_a_hugetlb_page_out_of_reach(subject: Subject, witness: Witness) -> None:
    with subject.sysctl("vm/nr_hugepages", 1) as pool:
        if pool < 1:
            not_applicable("no huge page was free for the pool")
        area = subject.mmap(pages=subject.pmd_size // subject.page_size, hugetlb=True).touch(0x29)
        part = area[:2]
        before = witness.pages(part)
        subject.mprotect(area, "none")
        hidden = witness.pages(part)
        subject.mprotect(area, "r")
        shown = witness.pages(part)
        with subject.faults("SIGSEGV", "SEGV_ACCERR"):
            subject.store(area.start)
        data = subject.peek(area.start, 1)
        subject.munmap(area)
    assert (hidden.prot_none, hidden.user, hidden.pfns) == (1, 0, before.pfns)
    assert (shown.pfns, shown.writable, shown.dirty) == (before.pfns, 0, before.dirty)
    assert data == b"\x29"


@claim(
    "mprotect.empty.1",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: where no page is, none comes.",
    sabotage=entry_bit("present", set=True, at=1),
)
def test_no_page_comes(subject: Subject, witness: Witness) -> None:
    area = subject.across_tables(pages=4)
    tables = witness.mm(subject).pgtables_bytes
    for prot in ("r", "none", "rw", "rx"):
        subject.mprotect(area, prot)
    assert witness.pages(area).pfns == NO_PFN
    assert witness.mm(subject).pgtables_bytes == tables


@claim(
    "mprotect.keep.7",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: inserted pages keep page, dirtiness and memory type through PROT_NONE.",
    sabotage=entry_pfn(+1, at=3),
)
def test_inserted_pages_come_back_as_they_were(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=3)
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    area[1:2].store()
    before = witness.pages(area)
    for prot in ("none", "r", "rw"):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert (after.pfns, after.dirty, after.special) == (pages.pfns, (0, 1, 0), 0)
        assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.pages(area).memory_types == before.memory_types
