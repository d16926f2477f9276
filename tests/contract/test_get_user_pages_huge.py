"""Huge pages: the right subpage, one reference for each, and nothing more of the folio than was asked for."""

from __future__ import annotations

from hostwalk.claim import claim, departure, not_applicable, not_applicable_if
from hostwalk.guest import Area, Subject, SyscallFailed
from hostwalk.sabotage import entry_bit, entry_pfn, node_counter, refcount
from hostwalk.witness import Witness

DOC = "get_user_pages_remote(9)"
OLD_PAGE = "__get_user_pages(9)"
RST = "core-api/pin_user_pages.rst"
FLAGS = "include/linux/mm_types.h"
GUP = "mm/gup.c"
INSTANT = "takes the page that would be accessed if a user thread accesses the given user virtual address"
THP = "/sys/kernel/mm/transparent_hugepage/enabled"
POOL = "/proc/sys/vm/nr_hugepages"
ACQUIRED, RELEASED = "NR_FOLL_PIN_ACQUIRED", "NR_FOLL_PIN_RELEASED"


def enable_thp(subject: Subject) -> None:
    """Have madvise(2) give huge pages: with little memory the kernel starts without them."""
    try:
        fd = subject.open(THP, "O_WRONLY")
    except SyscallFailed as failed:
        not_applicable(f"this kernel has no transparent huge pages: {failed.errno}")
        raise
    subject.write(fd, b"madvise")
    subject.close(fd)


def room_for_huge(subject: Subject, pages: int, more: int = 0) -> Area:
    """Map what one pmd entry can map, and ``more`` pages; 512 MiB of 64 KiB pages may be more than there is."""
    with not_applicable_if("ENOMEM", "this machine is too small for a huge page"):
        return subject.mmap(pages=pages + more, prot="rw", aligned=pages * subject.page_size)


def thp(subject: Subject, witness: Witness, *, more: int = 0) -> Area:
    """Return memory of one transparent huge page, and ``more`` pages mapped singly behind it."""
    enable_thp(subject)
    pages = witness.layout["PTRS_PER_PTE"]
    area = room_for_huge(subject, pages, more)
    subject.madvise(area, "HUGEPAGE")
    area[0].touch()
    for page in range(pages, pages + more):
        area[page].touch()
    if not witness.pages(area[0]).huge.all:
        not_applicable("the kernel had no transparent huge page to give")
    return area


def hugetlb(subject: Subject, witness: Witness) -> Area:
    """Return memory of one page of the hugetlb pool, touched; ends the claim where there is none to be had."""
    pages = witness.layout["PTRS_PER_PTE"]
    fd = subject.open(POOL, "O_RDWR")
    subject.write(fd, b"1\n")
    subject.close(fd)
    try:
        return subject.mmap(pages=pages, prot="rw", hugetlb=True).touch()
    except SyscallFailed as failed:
        not_applicable(f"the kernel has no hugetlb page to give: {failed.errno}")
        raise


@claim(
    "huge.get.1",
    OLD_PAGE,
    INSTANT,
    reading="Each subpage of a huge page.",
    sabotage=refcount(+1, at=3),
)
def test_subpages_of_a_huge_page(subject: Subject, witness: Witness) -> None:
    part = thp(subject, witness)[5:8]
    before = witness.pages(part)
    for call in (subject.get_user_pages, subject.get_user_pages_fast, subject.get_user_pages_unlocked):
        with call(part) as pins:
            held = witness.pages(part)
            assert held.pfns == pins.pfns
            assert held.entries == before.entries
            assert held.refcounts == before.refcounts + 3
        assert witness.pages(part).refcounts == before.refcounts


@claim(
    "huge.get.2", RST, "the head page is refcounted once for each tail or head page in the huge page, when "
    "get_user_pages() is applied to a huge page.",
    sabotage=refcount(-1, at=3),
)  # fmt: skip
def test_a_whole_huge_page(subject: Subject, witness: Witness) -> None:
    area = thp(subject, witness)
    head = witness.pages(area[0])
    for call in (subject.get_user_pages, subject.get_user_pages_fast):
        with call(area, write=True) as pins:
            held = witness.pages(area[0])
            assert pins.pfns == tuple(range(head.pfns[0], head.pfns[0] + area.pages))
            assert held.refcounts == head.refcounts + area.pages
            pins.put(first=1, count=area.pages - 2)
            assert witness.pages(area[0]).refcounts == head.refcounts + 2
    assert witness.pages(area[0]).refcounts == head.refcounts


@claim(
    "huge.get.3",
    OLD_PAGE,
    INSTANT,
    reading="From a huge page on to small ones.",
    sabotage=entry_pfn(+1, at=2, page=2),
)
def test_from_a_huge_page_on_to_small_ones(subject: Subject, witness: Witness) -> None:
    area = thp(subject, witness, more=2)
    part = area[-4:]
    for call in (subject.get_user_pages, subject.get_user_pages_fast, subject.pin_user_pages):
        with call(part, write=True) as pins:
            held = witness.pages(part)
            assert pins.returned == 4
            assert held.pfns == pins.pfns
            assert held.huge == (1, 1, 0, 0)


@claim(
    "huge.get.4",
    DOC,
    "start: starting user address",
    reading="An address within the last subpage.",
    sabotage=refcount(-1, at=3),
)
def test_an_offset_in_the_last_subpage(subject: Subject, witness: Witness) -> None:
    area = thp(subject, witness)
    last = witness.pages(area[-1:])
    for call in (subject.get_user_pages, subject.get_user_pages_fast):
        with call(area.address(-1, area.page_size - 1), 1) as pins:
            held = witness.pages(area[-1:])
            assert held.pfns == pins.pfns
            assert held.refcounts == last.refcounts + 1


@claim(
    "huge.split.1",
    FLAGS,
    "split huge pmd before returning",
    reading=(
        "FOLL_SPLIT_PMD: the huge page is mapped by a page table afterwards, and the page that was asked "
        "for is held."
    ),
    sabotage=entry_pfn(+1, at=3),
)
def test_split_pmd_maps_the_same_pages_singly(subject: Subject, witness: Witness) -> None:
    area = thp(subject, witness)
    before = witness.pages(area[:4])
    with subject.get_user_pages(area[1:3], split_pmd=True) as pins:
        held = witness.pages(area[:4])
        assert (before.huge, held.huge) == (1, 0)
        assert held.pfns == before.pfns
        assert held.pfns[1:3] == pins.pfns
    assert witness.pages(area[:4]).orders == before.orders


@claim(
    "huge.pte.1",
    OLD_PAGE,
    INSTANT,
    reading="A huge page that is mapped by a page table.",
    sabotage=refcount(+1, at=4),
)
def test_a_huge_page_that_is_mapped_singly(subject: Subject, witness: Witness) -> None:
    area = thp(subject, witness)
    with subject.get_user_pages(area[:1], split_pmd=True):
        pass
    part = area[6:10]
    before = witness.pages(part)
    assert (before.huge.any, before.orders.all) == (False, True)
    for call in (subject.get_user_pages, subject.get_user_pages_fast):
        with call(part, write=True) as pins:
            held = witness.pages(part)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 4


@claim(
    "huge.pin.1",
    RST,
    "the GUP_PIN_COUNTING_BIAS scheme is not used. Instead,",
    reading="For a huge page the head's own pin count is one up for each page.",
    sabotage=refcount(+1, at=3),
)
def test_pins_of_a_huge_page_are_counted_exactly(subject: Subject, witness: Witness) -> None:
    part = thp(subject, witness)[3:6]
    before = witness.pages(part)
    for call in (subject.pin_user_pages, subject.pin_user_pages_fast, subject.pin_user_pages_unlocked):
        with call(part, write=True) as pins:
            held = witness.pages(part)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 3
            assert held.pincounts == before.pincounts + 3
            pins.unpin(count=1)
            assert witness.pages(part).pincounts == before.pincounts + 2
        after = witness.pages(part)
        assert (after.refcounts, after.pincounts) == (before.refcounts, before.pincounts)


@claim(
    "huge.pin.2", RST, "For huge pages, the head page is pinned once for each page (head page and each tail page) "
    "within the huge page.",
    sabotage=node_counter(ACQUIRED, +1, at=2),
)  # fmt: skip
def test_each_subpage_counts_as_a_pin(subject: Subject, witness: Witness) -> None:
    area = thp(subject, witness)
    before = witness.counters()
    with subject.pin_user_pages(area, write=True) as pins:
        held = witness.counters()
        assert held[ACQUIRED] == before[ACQUIRED] + area.pages
        assert held[RELEASED] == before[RELEASED]
        pins.unpin_range_dirty_lock()
        assert witness.counters()[RELEASED] == before[RELEASED] + area.pages
    assert witness.pages(area[0]).pincounts == 0


@claim(
    "huge.zero.1",
    OLD_PAGE,
    INSTANT,
    reading="The huge zero page.",
    sabotage=entry_bit("writable", set=False, at=3),
)
def test_the_huge_zero_page(subject: Subject, witness: Witness) -> None:
    enable_thp(subject)
    fd = subject.open(f"{THP.rpartition('/')[0]}/use_zero_page", "O_WRONLY")
    subject.write(fd, b"1")
    subject.close(fd)
    pages = witness.layout["PTRS_PER_PTE"]
    area = room_for_huge(subject, pages)
    subject.madvise(area, "HUGEPAGE")
    area[0].load()
    part = area[2:5]
    before = witness.pages(part)
    if not before.huge.all or before.anon.any:
        not_applicable("a read mapped no huge zero page")
    with subject.get_user_pages(part) as pins:
        assert witness.pages(part).pfns == pins.pfns
    with subject.get_user_pages(part, write=True) as pins:
        written = witness.pages(part)
        assert written.pfns == pins.pfns
        assert (written.writable, written.anon) == (1, 1)


@claim(
    "huge.fork.1",
    "mm/gup.c",
    "FOLL_WRITE takes a copy of a huge page that fork has shared, no other process's page changes.",
    code="can_follow_write_pmd()",
    sabotage=entry_pfn(+1, at=3),
)
def test_write_breaks_copy_on_write_of_a_huge_page(subject: Subject, witness: Witness) -> None:
    area = thp(subject, witness)
    part = area[4:6]
    before = witness.pages(part)
    with subject.fork() as child, subject.get_user_pages(part, write=True) as pins:
        mine, childs = witness.pages(part), witness.pages(part, of=child)
        assert mine.pfns == pins.pfns
        assert childs.pfns == before.pfns
        assert len(mine.pfns.differing(before.pfns)) == 2
        assert (mine.writable, mine.exclusive) == (1, 1)


@claim(
    "hugetlb.get.1",
    OLD_PAGE,
    INSTANT,
    reading="Subpages of a hugetlb page.",
    sabotage=refcount(+1, at=2),
)
def test_subpages_of_a_hugetlb_page(subject: Subject, witness: Witness) -> None:
    part = hugetlb(subject, witness)[3:7]
    before = witness.pages(part)
    assert before.huge == 1
    for call in (subject.get_user_pages, subject.get_user_pages_fast):
        with call(part, write=True) as pins:
            held = witness.pages(part)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 4
        assert witness.pages(part).refcounts == before.refcounts


@claim("hugetlb.pin.1", RST, "an exact form of pin counting is achieved", sabotage=refcount(-1, at=2))
def test_pins_of_a_hugetlb_page(subject: Subject, witness: Witness) -> None:
    part = hugetlb(subject, witness)[1:4]
    before = witness.pages(part)
    for call in (subject.pin_user_pages, subject.pin_user_pages_fast):
        with call(part, write=True) as pins:
            held = witness.pages(part)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 3
            assert held.pincounts == before.pincounts + 3
        after = witness.pages(part)
        assert (after.refcounts, after.pincounts) == (before.refcounts, before.pincounts)


@claim(
    "hugetlb.longterm.1", GUP, "-ENOMEM, or any other -errno: [...] this indicates a migration failure. [...] The "
    "caller does not need to unpin any folios in that case, because this routine will do the unpinning.",
    sabotage=refcount(+1, at=2),
    departs=departure(
        "a page of the pool in ZONE_MOVABLE is not migrated for a long-term pin: the kernel warns",
        cites="mm/hugetlb.c, follow_hugetlb_page(), until 6.6: takes them by try_grab_folio(), as the fast path does",
        shows="follow_hugetlb_page",
        kernels="<6.6",
    ),
)  # fmt: skip
def test_a_longterm_pin_holds_all_or_nothing(subject: Subject, witness: Witness) -> None:
    part = hugetlb(subject, witness)[1:4]
    before = witness.pages(part)
    with subject.pin_user_pages(part, write=True, longterm=True) as pins:
        after = witness.pages(part)
        taken = 3 if pins.errno is None else 0
        assert pins.errno in (None, "ENOMEM")
        assert pins.errno == "ENOMEM" or after.pfns == pins.pfns
        assert after.refcounts == before.refcounts + taken
        assert after.pincounts == before.pincounts + taken
    assert witness.pages(part).pincounts == before.pincounts


@claim(
    "hugetlb.force.1", GUP, "hugetlb does not support FOLL_FORCE|FOLL_WRITE.", kernels="<6.14",
    sabotage=entry_bit("writable", set=True, at=2),
)  # fmt: skip
def test_force_does_not_write_to_hugetlb(subject: Subject, witness: Witness) -> None:
    area = hugetlb(subject, witness)
    subject.mprotect(area, "r")
    before = witness.pages(area[:2])
    with subject.get_user_pages(area[:2], write=True, force=True) as pins:
        after = witness.pages(area[:2])
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts


@claim(
    "hugetlb.force.2", GUP, "FOLL_FORCE can write to even unwritable PMDs in COW mappings.", kernels=">=6.14",
    sabotage=entry_bit("writable", set=True, at=2),
)  # fmt: skip
def test_force_writes_an_exclusive_hugetlb_page_where_it_is(subject: Subject, witness: Witness) -> None:
    area = hugetlb(subject, witness)
    subject.mprotect(area, "r")
    before = witness.pages(area[:2])
    with subject.get_user_pages(area[:2], write=True, force=True) as pins:
        after = witness.pages(area[:2])
        assert (pins.errno, pins.pfns) == (None, before.pfns)
        assert (after.pfns, after.writable) == (before.pfns, 0)
        assert after.refcounts == before.refcounts + 2


@claim(
    "hugetlb.split.1", GUP, "if ((gup_flags & FOLL_SPLIT_PMD) && is_vm_hugetlb_page(vma)) return -EOPNOTSUPP;",
    kernels=">=6.12", sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_hugetlb_is_not_split(subject: Subject, witness: Witness) -> None:
    area = hugetlb(subject, witness)
    before = witness.pages(area[:2])
    with subject.get_user_pages(area[:2], split_pmd=True) as pins:
        after = witness.pages(area[:2])
        assert (pins.errno, pins.filled) == ("EOPNOTSUPP", 0)
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts
