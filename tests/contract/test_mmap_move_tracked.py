"""mremap(2) of memory that is tracked: userfaultfd, and translations that the processor remembers."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.guest.code import store_call_store
from hostwalk.needs import huge_page, uffd_wp
from hostwalk.sabotage import entry_bit
from hostwalk.witness import NO_PFN, Witness

MREMAP = "mm/mremap.c"
PAGE = "mremap(2)"
MOVES = "mremap() expands (or shrinks) an existing memory mapping, potentially moving it at the same time."


def watched(subject: Subject, area: Area) -> int:
    """Have userfaultfd write-protect an area; return its file. Ends the claim where it cannot."""
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area)
    return fd


@claim(
    "mremap.uffd_wp.1",
    MREMAP,
    "What moves away from memory that userfaultfd watches, without its having asked to be told of moves, is protected "
    "no more.",
    code="move_ptes(): vma_has_uffd_without_event_remap()",
    sabotage=entry_bit("uffd_wp", set=True, at=2, page=1),
)
def test_what_moves_is_no_longer_protected(subject: Subject, witness: Witness) -> None:
    area, room = subject.apart(pages=3).touch(0x21), subject.mmap(pages=5, prot="none")
    watched(subject, area)
    before = witness.pages(area)
    moved = subject.mremap(area, 3, fixed_at=room.address(1))
    after = witness.pages(moved)
    assert (before.uffd_wp, before.writable) == (1, 0)
    assert (after.pfns, after.uffd_wp) == (before.pfns, 0)
    assert "VM_UFFD_WP" not in witness.vma(moved).flags
    moved.store(0x22)
    assert witness.pages(moved).pfns == before.pfns


@claim(
    "mremap.uffd_wp.2",
    "mm/huge_memory.c",
    "A huge page that moves away from memory that userfaultfd watches, without its having asked to be told of moves, "
    "is protected no more.",
    code="move_huge_pmd()",
    sabotage=entry_bit("uffd_wp", set=True, at=3),
)
def test_a_huge_page_that_moves_is_no_longer_protected(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(pages=subject.pmd_size // subject.page_size, prot="none", aligned=subject.pmd_size)
    area = huge_page(subject, witness)
    watched(subject, area)
    before = witness.pages(area[:2])
    moved = subject.mremap(area, area.pages, fixed_at=room.start)
    after = witness.pages(moved[:2])
    assert (before.uffd_wp, before.writable) == (1, 0)
    assert (after.pfns, after.uffd_wp) == (before.pfns, 0)


@claim(
    "mremap.uffd_wp.3",
    "mm/hugetlb.c",
    "A page of the pool that moves away from memory that userfaultfd watches, without its having asked to be told of "
    "moves, is protected no more.",
    code="move_huge_pte()",
    sabotage=entry_bit("uffd_wp", set=True, at=2),
)
def test_a_hugetlb_page_that_moves_is_no_longer_protected(subject: Subject, witness: Witness) -> None:
    size = subject.pmd_size // subject.page_size
    with subject.sysctl("vm/nr_hugepages", 1) as pool:
        if pool < 1:
            not_applicable("no huge page was free for the pool")
        room = subject.mmap(pages=size, prot="none", aligned=subject.pmd_size)
        area = subject.mmap(pages=size, hugetlb=True).touch()
        watched(subject, area)
        before = witness.pages(area[:2])
        moved = subject.mremap(area, size, fixed_at=room.start)
        after = witness.pages(moved[:2])
        subject.munmap(moved)
    assert (before.uffd_wp, before.writable) == (1, 0)
    assert (after.pfns, after.uffd_wp, after.huge) == (before.pfns, 0, 1)


def assert_gone_at_once(subject: Subject, witness: Witness, area: Area, target: Area, page: int) -> None:
    """Have one run of code store to a page, move the area to where ``target`` is, and store at the old place again."""
    number, flags = subject.agent.abi["__NR_mremap"], subject.agent.names.flags("MAYMOVE|FIXED", "MREMAP_")
    args = (area.start, area.length, area.length, flags, target.start)
    code = subject.code(store_call_store(subject.arch, area.address(page), number, args))
    with subject.faults("SIGSEGV", "SEGV_MAPERR"):
        subject.execute(code.start)
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mremap.tlb.1",
    PAGE,
    MOVES,
    reading="The very next store to where it was finds nothing.",
    sabotage=entry_bit("present", set=True),
)
def test_the_very_next_store_to_the_old_place_faults(subject: Subject, witness: Witness) -> None:
    room, area = subject.mmap(pages=5, prot="none"), subject.apart(pages=3).touch()
    assert_gone_at_once(subject, witness, area, room[1:4], page=2)


@claim(
    "mremap.tlb.2",
    PAGE,
    MOVES,
    reading="A page table's worth of pages: the very next store to where one was finds nothing.",
    sabotage=entry_bit("present", set=True),
)
def test_the_very_next_store_to_a_page_table_that_moved_faults(subject: Subject, witness: Witness) -> None:
    size = subject.pmd_size // subject.page_size
    room = subject.mmap(pages=size, prot="none", aligned=subject.pmd_size)
    whole = subject.mmap(pages=3 * size, prot="none", aligned=subject.pmd_size)
    area = subject.mmap(pages=size, fixed_at=whole.address(size), replace=True)
    area[size // 2 :][:1].touch()
    assert_gone_at_once(subject, witness, area, room, page=size // 2)
