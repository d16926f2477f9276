"""Pages that were swapped out: their entries in mprotect, fork, mremap, munmap and get_user_pages."""

from __future__ import annotations

import pytest

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.needs import soft_dirty, uffd_wp
from hostwalk.sabotage import entry_bit, entry_pfn, page_flag, refcount
from hostwalk.witness import NO_PFN, Witness

pytestmark = pytest.mark.usefixtures("swap")
TRIES = 5
PM_SWAP = 1 << 62  # Documentation/admin-guide/mm/pagemap.rst
EACH = "takes the page that would be accessed if a user thread accesses the given user virtual address"


def swapped_out(area: Area) -> Area:
    """Have the kernel swap out an area, as pagemap tells; ends the claim where it keeps some of it."""
    for _ in range(TRIES):
        area.subject.settle()  # a page that waits in a processor's batch cannot be isolated
        area.subject.madvise(area, "PAGEOUT")
        if all(entry & PM_SWAP for entry in area.subject.pagemap(area)):
            break
    else:
        not_applicable("the kernel keeps pages that it was asked to swap out")
    return area


@claim(
    "swap.out.1",
    "mm/rmap.c",
    "A page that is swapped out leaves an entry that says where it is, exclusive as the page was, and is counted as "
    "swapped and no longer as resident.",
    code="try_to_unmap_one()",
    sabotage=entry_bit("present", set=False, page=1),
)
def test_what_is_swapped_out_is_counted_so(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4).touch()
    before = witness.mm(subject)
    out = witness.pages(swapped_out(area))
    after = witness.mm(subject)
    assert (out.pfns, out.swap_exclusive) == (NO_PFN, 1)
    assert len(set(out.swap_offsets)) == 4
    assert (after.rss_swap, after.rss_anon) == (before.rss_swap + 4, before.rss_anon - 4)


@claim(
    "swap.in.1",
    "mm/memory.c",
    "A page that is read comes back with its bytes, as exclusive as it was, and is resident again.",
    code="do_swap_page()",
    sabotage=page_flag("PG_anon_exclusive", set=False, at=2),
)
def test_what_is_read_comes_back(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x3C)
    data, before = witness.contents(area), witness.mm(subject)
    swapped_out(area).load()
    back = witness.pages(area)
    assert (back.present, back.mapcounts) == (1, 1)
    assert (back.exclusive, back.anon) == (1, 1)
    assert witness.contents(area) == data
    after = witness.mm(subject)
    assert (after.rss_swap, after.rss_anon) == (before.rss_swap, before.rss_anon)


@claim(
    "swap.in.2",
    "mm/memory.c",
    "A page that is written comes back writable and dirty, and has no copy in the swap area's cache.",
    code="do_swap_page()",
    sabotage=refcount(+1),
)
def test_what_is_written_comes_back_writable(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x3C)
    swapped_out(area).store(0x3D)
    back = witness.pages(area)
    assert (back.writable, back.dirty, back.exclusive) == (1, 1, 1)
    assert (back.refcounts, back.mapcounts) == (1, 1)
    assert back.flag("PG_swapcache") == 0
    assert subject.peek(area.start, 1) == b"\x3d"


@claim(
    "swap.fork.1",
    "fork(2)",
    "At the time of fork() both memory spaces have the same content.",
    reading="What is swapped out, too: both have the entry, exclusive to neither, and each counts it.",
    sabotage=entry_bit("present", set=False, at=3, page=1),
)
def test_fork_shares_what_is_swapped_out(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3).touch(0x41)
    before = witness.pages(swapped_out(area))
    with subject.fork() as child:
        theirs, ours = witness.pages(area, of=child), witness.pages(area)
        assert theirs.swaps == ours.swaps == before.swaps
        assert theirs.swap_offsets == ours.swap_offsets == before.swap_offsets
        assert (theirs.swap_exclusive, ours.swap_exclusive) == (0, 0)
        assert witness.mm(child).rss_swap == witness.mm(subject).rss_swap >= 3
        child.must(child.store(area.start, byte=0x42))
        assert subject.peek(area.start, 1) + child.peek(area.address(1), 1) == b"\x41\x41"


@claim(
    "swap.fork.2",
    "fork(2)",
    "Memory writes, file mappings (mmap(2)), and unmappings (munmap(2)) performed by one of the processes do not "
    "affect the other.",
    reading="A write to what was swapped out when fork() came is the writer's own.",
    sabotage=entry_pfn(+1, at=2, page=1),
)
def test_a_write_after_fork_is_the_writers_own(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x41)
    swapped_out(area)
    with subject.fork() as child:
        child.must(child.load(area.start, stride=area.page_size, count=2))
        area.load()
        area[:1].store(0x55)
        ours, theirs = witness.pages(area), witness.pages(area, of=child)
        assert ours.pfns[0] != theirs.pfns[0]
        assert ours.pfns[1] == theirs.pfns[1]
        assert (ours.writable, theirs.writable) == ((1, 0), 0)
        assert child.peek(area.start, 1) == b"\x41"


@claim(
    "swap.mprotect.1",
    "mm/mprotect.c",
    "mprotect() leaves the entries of pages that are swapped out as they are; the pages come back with the new "
    "protection.",
    code="change_pte_range()",
    sabotage=entry_bit("present", set=False, at=2, page=1),
)
def test_mprotect_leaves_swap_entries(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3).touch(0x2A)
    before = witness.pages(swapped_out(area))
    for prot in ("none", "rw", "r"):
        subject.mprotect(area, prot)
        assert witness.pages(area).entries == before.entries
    area.load()
    back = witness.pages(area)
    assert (back.present, back.writable, back.exclusive) == (1, 0, 1)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.store(area.start)
    subject.mprotect(area, "rw")
    area[:1].store(0x2B)
    assert subject.peek(area.start, 1) + subject.peek(area.address(1), 1) == b"\x2b\x2a"


@claim(
    "swap.munmap.1",
    "munmap(2)",
    "The munmap() system call deletes the mappings for the specified address range",
    reading="What is swapped out goes, and is counted no more; the rest stays.",
    sabotage=entry_bit("present", set=False, at=2, page=0),
)
def test_munmap_of_what_is_swapped_out(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4).touch(0x2A)
    before = witness.pages(swapped_out(area))
    rss = witness.mm(subject).rss_swap
    subject.munmap(area[1:3])
    after = witness.pages(area)
    assert after.entries == (before.entries[0], 0, 0, before.entries[3])
    assert witness.mm(subject).rss_swap == rss - 2
    assert subject.peek(area.start, 1) + subject.peek(area.address(3), 1) == b"\x2a\x2a"


@claim(
    "swap.dontneed.1",
    "madvise(2)",
    "zero-fill-on-demand pages for anonymous private mappings.",
    reading="After MADV_DONTNEED what was swapped out is gone for good.",
    sabotage=entry_bit("present", set=True, page=0),
)
def test_dontneed_of_what_is_swapped_out(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x2A)
    swapped_out(area)
    rss = witness.mm(subject).rss_swap
    subject.madvise(area, "DONTNEED")
    assert witness.mm(subject).rss_swap == rss - 2
    assert witness.pages(area).entries == 0
    assert subject.peek(area.start, 1) == b"\0"


@claim(
    "swap.mremap.1",
    "mremap(2)",
    "mremap() expands (or shrinks) an existing memory mapping, potentially moving it at the same time",
    reading="Entries of pages that are swapped out move along.",
    sabotage=entry_bit("present", set=False, at=2, page=1),
)
def test_mremap_moves_swap_entries(subject: Subject, witness: Witness) -> None:
    area, room = subject.mmap(pages=3).touch(0x2A), subject.mmap(pages=3, prot="none")
    before, mm = witness.pages(swapped_out(area)), witness.mm(subject)
    moved = subject.mremap(area, 3, fixed_at=room.start)
    after = witness.pages(moved)
    assert (after.swaps, after.swap_offsets) == (before.swaps, before.swap_offsets)
    assert after.swap_exclusive == before.swap_exclusive
    assert witness.mm(subject).rss_swap == mm.rss_swap
    assert subject.peek(moved.address(2), 1) == b"\x2a"


@claim(
    "swap.gup.1",
    "__get_user_pages(9)",
    EACH,
    reading="What is swapped out is brought back, and held.",
    sabotage=refcount(-1),
)
def test_get_user_pages_brings_pages_back(subject: Subject, witness: Witness) -> None:
    for call in (subject.get_user_pages, subject.get_user_pages_fast):
        area = swapped_out(subject.mmap(pages=2).touch(0x2A))
        with call(area, write=True) as pins:
            held = witness.pages(area)
            assert held.pfns == pins.pfns
            assert (held.writable, held.exclusive) == (1, 1)
            assert held.refcounts == held.flag("PG_swapcache") + 2
            assert subject.peek(area.start, 1) == b"\x2a"


@claim(
    "swap.mlock.1",
    "mlock(2)",
    "All pages that contain a part of the specified address range are guaranteed to be resident in RAM when the call "
    "returns successfully",
    reading="What was swapped out is brought back.",
    sabotage=entry_bit("present", set=False, page=1),
)
def test_mlock_brings_pages_back(subject: Subject, witness: Witness) -> None:
    area = swapped_out(subject.mmap(pages=2).touch(0x2A))
    subject.mlock(area)
    locked = witness.pages(area)
    assert (locked.present, locked.swaps) == (1, ("", ""))
    assert witness.mm(subject).locked_vm == 2
    assert subject.peek(area.start, 1) == b"\x2a"


@claim(
    "swap.uffd_wp.1",
    "mm/rmap.c",
    "userfaultfd's write protection is kept in the entry while a page is swapped out, and is there again with the "
    "page.",
    code="try_to_unmap_one(): pte_swp_mkuffd_wp()",
    sabotage=entry_bit("uffd_wp", set=False, at=5, page=0),
)
def test_userfault_write_protection_is_swapped_out_too(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area[:1])
    swapped_out(area)
    assert witness.pages(area).uffd_wp == (1, 0)
    for prot in ("r", "rw"):
        subject.mprotect(area, prot)
        assert witness.pages(area).uffd_wp == (1, 0)
    with subject.fork() as child:
        assert witness.pages(area, of=child).uffd_wp == 0
    area.load()
    back = witness.pages(area)
    assert (back.present, back.uffd_wp, back.writable[0]) == (1, (1, 0), 0)


@claim(
    "swap.uffd_wp.2",
    "ioctl_userfaultfd(2)",
    "Write-protect or write-unprotect a userfaultfd-registered memory range registered with mode "
    "UFFDIO_REGISTER_MODE_WP.",
    reading="While its pages are swapped out: they come back as they were said to be.",
    sabotage=entry_bit("uffd_wp", set=True, at=2, page=0),
)
def test_protection_changes_while_pages_are_swapped_out(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3).touch()
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area[:2])
    swapped_out(area)
    subject.uffd_write_protect(fd, area[:1], protect=False)
    subject.uffd_write_protect(fd, area[2:])
    assert witness.pages(area).uffd_wp == (0, 1, 1)
    area.load()
    back = witness.pages(area)
    assert (back.present, back.uffd_wp) == (1, (0, 1, 1))
    assert (back.writable[1], back.writable[2]) == (0, 0)


@claim(
    "swap.soft_dirty.1",
    "Documentation/admin-guide/mm/soft-dirty.rst",
    "The soft-dirty is a bit on a PTE which helps to track which pages a task writes to.",
    reading="It is kept in the entry while a page is swapped out, and is there again with the page.",
    sabotage=entry_bit("soft_dirty", set=True, at=3, page=0),
)
def test_soft_dirty_is_swapped_out_too(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area = subject.mmap(pages=2).touch()
    subject.clear_soft_dirty()
    area[1:].touch()
    swapped_out(area)
    assert witness.pages(area).soft_dirty == (0, 1)
    with subject.fork() as child:
        assert witness.pages(area, of=child).soft_dirty == (0, 1)
    area.load()
    assert witness.pages(area).soft_dirty == (0, 1)


@claim(
    "swap.soft_dirty.2",
    "Documentation/admin-guide/mm/soft-dirty.rst",
    "Clear soft-dirty bits from the task's PTEs.",
    reading="Of pages that are swapped out, too: they come back as ones that nobody has written.",
    sabotage=entry_bit("soft_dirty", set=True, at=3, page=0),
)
def test_soft_dirty_is_cleared_of_what_is_swapped_out(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area = swapped_out(subject.mmap(pages=2).touch())
    assert witness.pages(area).soft_dirty == 1
    subject.clear_soft_dirty()
    assert witness.pages(area).soft_dirty == 0
    area[:1].load()
    area[1:].store()
    assert witness.pages(area).soft_dirty == (0, 1)
