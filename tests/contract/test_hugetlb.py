"""Pages of hugetlbfs: private mappings of files, fork, pins, userfaultfd, and sizes that take several entries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Area, Subject, SyscallFailed
from hostwalk.needs import uffd_wp
from hostwalk.sabotage import entry_bit, entry_pfn
from hostwalk.target import Arch
from hostwalk.witness import NO_PFN, Witness

FORK = "fork(2)"
COW = "Under Linux, fork() is implemented using copy-on-write pages."
PRIVATE = (
    "MAP_PRIVATE: Create a private copy-on-write mapping. Updates to the mapping are not visible to other processes "
    "mapping the same file, and are not carried through to the underlying file."
)
CONT, CONT_SIZE = 1 << 52, 64 << 10  # arm64: the contiguous bit, the run of it with 4 KiB pages
POOL = "/sys/kernel/mm/hugepages/hugepages-64kB/nr_hugepages"
MAP_HUGE_SHIFT = 26  # include/uapi/asm-generic/hugetlb_encode.h


@contextmanager
def pool(subject: Subject, pages: int) -> Iterator[int]:
    """Have a pool of huge pages while the block runs; yields the base pages in one. Ends the claim without a pool."""
    with subject.sysctl("vm/nr_hugepages", pages) as there:
        if there < pages:
            not_applicable("not enough huge pages were free for the pool")
        yield subject.pmd_size // subject.page_size


@contextmanager
def runs(subject: Subject, pages: int) -> Iterator[int]:
    """Have a pool of pages of 64 KiB, each of which takes 16 contiguous entries; yields the base pages in one."""
    if subject.arch is not Arch.ARM64 or subject.page_size != CONT_SIZE >> 4:
        not_applicable("no page of hugetlbfs takes 16 entries here")
    with subject.agent.spawn() as root:
        _set_pool(root, pages)
        if int(root.read_file(POOL)) < pages:
            not_applicable("not enough pages of 64 KiB were free for the pool")
        try:
            yield CONT_SIZE // subject.page_size
        finally:
            _set_pool(root, 0)


def _set_pool(root: Subject, pages: int) -> None:
    try:
        fd = root.open(POOL, "O_WRONLY")
    except SyscallFailed:
        not_applicable("this kernel has no pool of pages of 64 KiB")
    root.write(fd, b"%d\n" % pages)
    root.close(fd)


def run_of(subject: Subject, pages: int, fixed_at: int | None = None, more: int = 0) -> Area:
    """Map pages of 64 KiB of the pool."""
    size = (CONT_SIZE.bit_length() - 1) << MAP_HUGE_SHIFT
    return subject.mmap(pages=pages, hugetlb=True, flags=size | more, fixed_at=fixed_at)


@claim(
    "hugetlb.private.1",
    "mmap(2)",
    PRIVATE,
    reading="A page of hugetlbfs that a private mapping has read is copied when it is written, though nobody else maps "
    "it.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_a_private_store_does_not_reach_the_file(subject: Subject, witness: Witness) -> None:
    with pool(subject, 2) as pages:
        fd = subject.memfd(pages, "HUGETLB")
        shared = subject.mmap(pages=pages, shared=True, fd=fd)
        shared[:1].store(0x51)
        subject.munmap(shared)
        area = subject.mmap(pages=pages, fd=fd)
        part = area[:2].load()
        before = witness.pages(part)
        area[:1].store(0x52)
        after = witness.pages(part)
        assert (before.writable, before.anon, before.mapcounts[0]) == (0, 0, 1)
        assert len(after.pfns.differing(before.pfns)) == 2
        assert (after.writable, after.anon) == (1, 1)
        assert (subject.peek(area.start, 1), subject.read(fd, 1, 0)) == (b"\x52", b"\x51")
        subject.munmap(area)
        subject.close(fd)


@claim(
    "hugetlb.fork.1",
    "mm/hugetlb.c",
    "A child that is not watched by userfaultfd has entries of huge pages without its write protection; the parent's "
    "stay.",
    code="copy_hugetlb_page_range(): huge_pte_clear_uffd_wp()",
    sabotage=entry_bit("writable", set=True),
    departs=departure(
        "6.1: the child's entries keep the bit",
        cites="mm/hugetlb.c, copy_hugetlb_page_range() copies entries of pages as they are",
        shows="the child's huge page is protected too",
        kernels="<6.12",
    ),
)
def test_the_child_of_a_watched_process_is_not_watched(subject: Subject, witness: Witness) -> None:
    with pool(subject, 1) as pages:
        area = subject.mmap(pages=pages, hugetlb=True).touch()
        watch(subject, area)
        part = area[:2]
        with subject.fork() as child:
            theirs, ours = witness.pages(part, of=child), witness.pages(part)
        subject.munmap(area)
    assert (theirs.present, theirs.huge, theirs.writable) == (1, 1, 0)
    assert theirs.uffd_wp == 0, "the child's huge page is protected too"
    assert (ours.uffd_wp, ours.writable, ours.pfns) == (1, 0, theirs.pfns)


def watch(subject: Subject, area: Area) -> None:
    """Have userfaultfd write-protect an area; ends the claim where it cannot."""
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area)


@claim(
    "hugetlb.fork.2",
    "proc(5)",
    "HugetlbPages Size of hugetlb memory portions",
    reading="Of the child too, right after fork(): as much as its entries map.",
    sabotage=entry_bit("present", set=False, page=0),
)
def test_huge_pages_are_counted_for_the_child(subject: Subject, witness: Witness) -> None:
    with pool(subject, 1) as pages:
        area = subject.mmap(pages=pages, hugetlb=True).touch()
        with subject.fork() as child:
            theirs = witness.pages(area, of=child)
            said = child.status_fields()["HugetlbPages"]
        subject.munmap(area)
    mapped = sum(theirs.present) * subject.page_size
    assert said == f"{mapped >> 10} kB"
    assert theirs.huge == 1


@claim(
    "hugetlb.unshare.1",
    "mm/hugetlb.c",
    "A page of the pool that fork has shared is unshared for a pin for reading: the copy is exclusive and not "
    "writable, the other process keeps the page.",
    code="hugetlb_wp(): FAULT_FLAG_UNSHARE, make_huge_pte()",
    kernels=">=6.2",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_a_pin_for_reading_takes_a_copy(subject: Subject, witness: Witness) -> None:
    with pool(subject, 2) as pages:
        area = subject.mmap(pages=pages, hugetlb=True).touch(0x61)
        part = area[:2]
        with subject.fork() as child:
            before = witness.pages(part, of=child)
            with subject.pin_user_pages(area[:1]) as pins:
                held, theirs = witness.pages(part), witness.pages(part, of=child)
                area[1:2].store(0x62)
                after = witness.pages(part)
        subject.munmap(area)
    assert held.pfns[:1] == pins.pfns
    assert (held.writable, held.exclusive[0], theirs.pfns) == (0, 1, before.pfns)
    assert held.pfns[0] != before.pfns[0]
    assert (after.pfns, after.writable) == (held.pfns, 1)


@claim(
    "hugetlb.unshare.2",
    "mm/hugetlb.c",
    "A page of the pool that nobody else has any more is exclusive with a pin for reading, neither copied nor made "
    "writable.",
    code="hugetlb_wp(): FAULT_FLAG_UNSHARE, folio_move_anon_rmap()",
    kernels=">=6.2",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_a_pin_for_reading_makes_exclusive(subject: Subject, witness: Witness) -> None:
    with pool(subject, 1) as pages:
        area = subject.mmap(pages=pages, hugetlb=True).touch(0x61)
        part = area[:2]
        with subject.fork():
            pass
        before = witness.pages(part)
        with subject.pin_user_pages(area[:1]) as pins:
            held = witness.pages(part)
        subject.munmap(area)
    assert (before.writable, before.exclusive[0]) == (0, 0)
    assert held.pfns[:1] == pins.pfns
    assert (held.pfns, held.writable, held.exclusive[0]) == (before.pfns, 0, 1)


@claim(
    "hugetlb.run.1",
    "arch/arm64/mm/hugetlbpage.c",
    "A page of 64 KiB is 16 contiguous entries with one right, which change together; what one of them notes of "
    "stores and accesses is true of all.",
    code="arch_make_huge_pte(), set_huge_pte_at(), huge_ptep_get(), get_clear_contig()",
    sabotage=entry_bit("dirty", set=False, at=2),
)
def test_a_page_of_many_entries_changes_as_a_whole(subject: Subject, witness: Witness) -> None:
    with runs(subject, 2) as size:
        area = run_of(subject, 2 * size)
        for page in (0, size + 5):
            area[page : page + 1].store(0x31)
        before = witness.pages(area)
        seen = []
        for prot in ("r", "none", "rw"):
            subject.mprotect(area, prot)
            seen.append(witness.pages(area))
        area[3:4].store(0x32)
        after = witness.pages(area)
        subject.munmap(area)
        gone = witness.pages(area)
    assert all(entry & CONT for entry in before.entries)
    assert before.pfns == [first + page for first in before.pfns[::size] for page in range(size)]
    for pages, user in zip(seen, (1, 0, 1), strict=True):  # valid without: pte_mkcont() of 6.1 and 6.12
        assert (pages.pfns, pages.dirty, pages.young) == (before.pfns, 1, 1)
        assert (pages.user, pages.writable) == (user, 0)
    assert (after.pfns, after.writable) == (before.pfns, [1] * size + [0] * size)
    assert gone.pfns == NO_PFN


@claim(
    "hugetlb.run.2",
    FORK,
    COW,
    reading="A page of hugetlbfs of 16 entries: none is writable on either side, and a store copies all.",
    sabotage=entry_bit("writable", set=True, at=2, page=15),
)
def test_a_page_of_many_entries_is_shared(subject: Subject, witness: Witness) -> None:
    with runs(subject, 2) as size:
        area = run_of(subject, size)
        area[:1].store(0x31)
        before = witness.pages(area)
        with subject.fork() as child:
            theirs, ours = witness.pages(area, of=child), witness.pages(area)
            area[2:3].store(0x32)
            after = witness.pages(area)
            seen = child.peek(area.start, 1) + child.peek(area.address(2), 1)
        subject.munmap(area)
    assert (theirs.pfns, ours.pfns) == (before.pfns, before.pfns)
    assert (theirs.writable, ours.writable, ours.dirty) == (0, 0, 1)
    assert (after.writable, len(after.pfns.differing(before.pfns))) == (1, size)
    assert seen == b"\x31\0"


@claim(
    "hugetlb.run.3",
    FORK,
    "At the time of fork() both memory spaces have the same content.",
    reading="Pages of hugetlbfs of 64 KiB in two page tables, with a page table's worth of nothing between them.",
    sabotage=entry_pfn(+1, at=2),
)
def test_pages_behind_an_empty_page_table_are_copied(subject: Subject, witness: Witness) -> None:
    with runs(subject, 2) as size:
        table = subject.pmd_size // subject.page_size
        room = subject.mmap(pages=4 * table, prot="none", aligned=subject.pmd_size)
        subject.munmap(room)
        area = run_of(subject, 3 * table, fixed_at=room.start, more=subject.agent.abi["MAP_NORESERVE"])
        ends = [area[:size], area[2 * table : 2 * table + size]]
        for end in ends:
            end[:1].store(0x31)
        before = [witness.pages(end) for end in ends]
        with subject.fork() as child:
            theirs = [witness.pages(end, of=child) for end in ends]
        subject.munmap(area)
        gone = [witness.pages(end) for end in ends]
    for mine, childs, left in zip(before, theirs, gone, strict=True):
        assert (mine.present, childs.pfns, left.pfns) == (1, mine.pfns, NO_PFN)
