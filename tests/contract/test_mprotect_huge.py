"""mprotect(2) of huge pages, transparent ones and those of hugetlbfs."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.needs import huge_page, uffd_wp
from hostwalk.sabotage import entry_bit, entry_pfn
from hostwalk.witness import Pages, Witness

PAGE = "mprotect(2)"
RANGE = (
    "mprotect() changes the access protections for the calling process's memory pages containing any part of the "
    "address range in the interval [addr, addr+len-1]."
)


def _huge(subject: Subject, witness: Witness) -> tuple[Area, Pages]:
    area = huge_page(subject, witness)
    return area, witness.pages(area)


@claim(
    "mprotect.thp.1",
    PAGE,
    RANGE,
    reading="A whole huge page changes in one entry.",
    sabotage=entry_bit("writable", set=True, at=3),
)
def test_a_whole_huge_page_changes_in_one_entry(subject: Subject, witness: Witness) -> None:
    area, before = _huge(subject, witness)
    subject.mprotect(area, "r")
    after = witness.pages(area)
    assert (after.huge, after.writable) == (1, 0)
    assert (after.pfns, after.dirty, after.young) == (before.pfns, before.dirty, before.young)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.store(area.address(-1))
    subject.mprotect(area, "rw")
    area[:1].store()
    again = witness.pages(area)
    assert (again.pfns, again.huge, again.writable) == (before.pfns, 1, 1)


@claim(
    "mprotect.thp.2",
    PAGE,
    RANGE,
    reading="A huge page that nobody may access stays one.",
    sabotage=entry_bit("user", set=True, at=3),
)
def test_a_huge_page_out_of_reach(subject: Subject, witness: Witness) -> None:
    area, before = _huge(subject, witness)
    subject.mprotect(area, "none")
    after = witness.pages(area)
    assert (after.prot_none, after.user, after.huge) == (1, 0, 1)
    assert (after.pfns, after.refcounts) == (before.pfns, before.refcounts)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.load(area.address(1))
    subject.mprotect(area, "rw")
    area[:1].store()
    again = witness.pages(area)
    assert (again.pfns, again.huge, again.writable) == (before.pfns, 1, 1)


@claim(
    "mprotect.thp.3",
    PAGE,
    RANGE,
    reading="A part of a huge page: it is split, the rest keeps its protection.",
    sabotage=entry_bit("writable", set=True, at=3, page=5),
)
def test_a_part_of_a_huge_page(subject: Subject, witness: Witness) -> None:
    area, before = _huge(subject, witness)
    area.touch(3)
    subject.mprotect(area[5:9], "r")
    after = witness.pages(area)
    assert after.writable == [not 5 <= page < 9 for page in range(len(area))]
    assert (after.huge, after.present, after.young) == (0, 1, 1)
    assert all(map(max, after.dirty, after.flag("PG_dirty")))
    assert after.pfns == before.pfns
    assert after.mapcounts == 1


@claim(
    "mprotect.thp.4",
    PAGE,
    RANGE,
    reading="No page of a split huge page is lost.",
    sabotage=entry_pfn(+1, at=3, page=0),
)
def test_no_page_of_a_split_huge_page_is_lost(subject: Subject, witness: Witness) -> None:
    area, before = _huge(subject, witness)
    rss = witness.mm(subject).rss_anon
    for page in range(0, len(area), 64):
        subject.store(area.address(page), byte=page >> 6 | 0x80)
    for page in (0, len(area) - 1):
        subject.mprotect(area[page], "none")
    after = witness.pages(area)
    assert after.pfns == before.pfns
    assert after.prot_none == [page in (0, len(area) - 1) for page in range(len(area))]
    assert witness.mm(subject).rss_anon == rss
    subject.mprotect(area, "r")
    for page in range(0, len(area), 64):
        assert subject.peek(area.address(page), 1)[0] == page >> 6 | 0x80


def _hugetlb(subject: Subject, pages: int) -> Area:
    if pages < 1:
        not_applicable("no huge page was free for the pool")
    return subject.mmap(pages=subject.pmd_size // subject.page_size, hugetlb=True).touch()


@claim(
    "mprotect.hugetlb.1",
    "mm/hugetlb.c",
    "mprotect() of a part of a huge page is EINVAL, and no entry changes.",
    code="hugetlb_vm_op_split()",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_a_part_of_a_hugetlb_page_is_einval(subject: Subject, witness: Witness) -> None:
    with subject.sysctl("vm/nr_hugepages", 1) as pages:
        area = _hugetlb(subject, pages)
        before = witness.pages(area)
        for part in (area[1:], area[:1], area[3:5]):
            with subject.refuses("EINVAL"):
                subject.mprotect(part, "r")
        after = witness.pages(area)
        subject.munmap(area)
    assert after.entries == before.entries


@claim(
    "mprotect.hugetlb.2",
    PAGE,
    RANGE,
    reading="A whole hugetlb page.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_a_whole_hugetlb_page(subject: Subject, witness: Witness) -> None:
    with subject.sysctl("vm/nr_hugepages", 1) as pages:
        area = _hugetlb(subject, pages)
        before = witness.pages(area)
        subject.mprotect(area, "r")
        after = witness.pages(area)
        with subject.faults("SIGSEGV", "SEGV_ACCERR"):
            subject.store(area.start)
        subject.munmap(area)
    assert (after.huge, after.writable) == (1, 0)
    assert (after.pfns, after.dirty) == (before.pfns, before.dirty)


@claim(
    "mprotect.uffd_wp.3",
    "ioctl_userfaultfd(2)",
    "Write-protect or write-unprotect a userfaultfd-registered memory range registered with mode "
    "UFFDIO_REGISTER_MODE_WP.",
    reading="Of a huge page just the part that was named, and no more of it when that is unprotected again.",
    kernels=">=6.2",
    sabotage=entry_bit("writable", set=False, at=2, page=3),
)
def test_userfaultfd_protects_a_part_of_a_huge_page(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    fd = uffd_wp(subject, area)
    part = area[:4]
    subject.uffd_write_protect(fd, part[1:3])
    after = witness.pages(part)
    assert (after.huge, after.uffd_wp, after.writable) == (0, (0, 1, 1, 0), (1, 0, 0, 1))
    subject.uffd_write_protect(fd, part[2:3], protect=False)
    assert witness.pages(part).uffd_wp == (0, 1, 0, 0)


@claim(
    "mprotect.uffd_wp.5",
    "mm/huge_memory.c",
    "A huge page that userfaultfd protects as a whole stays protected page by page when its entry is split, and as old "
    "as it was.",
    code="__split_huge_pmd_locked()",
    kernels=">=6.2",
    sabotage=entry_bit("uffd_wp", set=False, at=3, page=3),
)
def test_a_split_huge_page_stays_protected(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness).touch()
    subject.uffd_write_protect(uffd_wp(subject, area), area)
    subject.clear_young()
    whole = witness.pages(area[:4])
    with subject.get_user_pages(area[:1], split_pmd=True):
        pass
    after = witness.pages(area[:4])
    assert (whole.huge, whole.uffd_wp, whole.writable, whole.young) == (1, 1, 0, 0)
    assert (after.huge, after.uffd_wp, after.writable, after.young) == (0, 1, 0, 0)
    assert (after.pfns, after.dirty) == (whole.pfns, 1)
