"""mmap(2): anonymous memory, populated or not, locked or not, and its protections."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Subject
from hostwalk.sabotage import committed, entry_bit, entry_pfn, mm_counter, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "mmap(2)"
POPULATE = "MAP_POPULATE: Populate (prefault) page tables for a mapping."
GROWSDOWN = (
    'MAP_GROWSDOWN: This flag is used for stacks. [...] Touching an address in the "guard" page below the '
    "mapping will "
    "cause the mapping to grow by a page."
)


@claim(
    "mmap.populate.1",
    PAGE,
    "MAP_POPULATE [...] Populate (prefault) page tables for a mapping.",
    reading="Private writable memory is there as if it had been written.",
    sabotage=entry_bit("present", set=False),
)
def test_populate_prefaults(subject: Subject, witness: Witness) -> None:
    pages = witness.pages(subject.mmap(pages=4, prot="rw", populate=True))
    assert (pages.present, pages.writable, pages.dirty, pages.anon) == (1, 1, 1, 1)


@claim(
    "mmap.populate.2",
    PAGE,
    "MAP_POPULATE [...] Populate (prefault) page tables for a mapping.",
    reading=(
        "Of shared and read-only memory the pages are mapped as if they had been read: none becomes dirty."
    ),
    sabotage=entry_bit("writable", set=True),
)
def test_populate_reads_what_may_only_be_read(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="r", populate=True)
    pages = witness.pages(area)
    assert pages.pfns == witness.zero_pfn
    assert (pages.writable, pages.dirty) == (0, 0)


@claim(
    "mmap.populate.3",
    PAGE,
    "Support for MAP_POPULATE in conjunction with private mappings was added in Linux 2.6.23.",
    sabotage=entry_bit("writable", set=False),
)
def test_populate_makes_private_copies_of_a_file(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    seen = subject.mmap(pages=2, shared=True, fd=fd).touch(7)
    area = subject.mmap(pages=2, fd=fd, populate=True)
    pages = witness.pages(area)
    assert (pages.present, pages.writable, pages.anon) == (1, 1, 1)
    assert witness.contents(area) == witness.contents(seen)


@claim(
    "mmap.populate.4",
    PAGE,
    "The mmap() call doesn't fail if the mapping cannot be populated.",
    sabotage=entry_bit("present", set=True),
)
def test_populate_stops_at_the_end_of_a_file(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, shared=True, fd=subject.memfd(2), populate=True)
    assert witness.pages(area).present == (1, 1, 0, 0)


@claim(
    "mmap.nonblock.1",
    PAGE,
    "MAP_NONBLOCK [...] Since Linux 2.6.23, this flag causes MAP_POPULATE to do nothing.",
    sabotage=entry_bit("present", set=True),
)
def test_nonblock_populates_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, populate=True, flags=subject.agent.abi["MAP_NONBLOCK"])
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mmap.lazy.1",
    "mm/memory.c",
    "Without MAP_POPULATE no page is there before it is touched.",
    code="handle_mm_fault()",
    sabotage=entry_bit("present", set=True),
)
def test_nothing_is_there_before_the_first_touch(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    assert witness.pages(area).pfns == NO_PFN
    area[:1].touch()
    assert witness.pages(area).present == (1, 0)


@claim(
    "mmap.none.1",
    PAGE,
    "PROT_NONE: Pages may not be accessed.",
    sabotage=entry_bit("present", set=True),
)
def test_prot_none_is_never_populated(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="none", populate=True)
    assert witness.pages(area).pfns == NO_PFN
    for access in (subject.load, subject.store, subject.execute):
        with subject.faults("SIGSEGV", "SEGV_ACCERR"):
            access(area.start)
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mmap.read.1",
    PAGE,
    "SIGSEGV: Attempted write into a region mapped as read-only.",
    sabotage=entry_bit("writable", set=True),
)
def test_a_write_to_read_only_memory_faults(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="r").load()
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.store(area.start)
    pages = witness.pages(area)
    assert (pages.writable, pages.user) == (0, 1)


@claim("mmap.exec.1", PAGE, "PROT_EXEC: Pages may be executed.", sabotage=entry_bit("executable", set=False))
def test_what_is_mapped_to_be_executed_can_be(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(1)
    subject.poke(subject.mmap(pages=1, shared=True, fd=fd).start, subject.returning())
    area, plain = (subject.mmap(pages=1, prot=prot, shared=True, fd=fd).load() for prot in ("rx", "r"))
    subject.must(subject.execute(area.start))
    assert witness.pages(area).executable == 1
    assert witness.pages(plain).executable == 0
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.execute(plain.start)


@claim(
    "mmap.zero.1",
    PAGE,
    "MAP_ANONYMOUS: The mapping is not backed by any file; its contents are initialized to zero.",
    sabotage=entry_pfn(+1, at=2, page=0),
)
def test_anonymous_memory_is_zero(subject: Subject, witness: Witness) -> None:
    dirty = subject.mmap(pages=8).touch(0xFF)
    subject.munmap(dirty)
    area = subject.mmap(pages=8)
    area[:1].touch(0xAB)
    area[1:4].load()
    for page in (5, 6):
        subject.store(area.address(page, 1), byte=0)
    pages = witness.pages(area)
    assert (pages.anon[0], pages.anon[5], pages.anon[6]) == (1, 1, 1)
    assert witness.contents(area) == b"\xab".ljust(area.length, b"\0")


@claim(
    "mmap.zero.2",
    "mm/memory.c",
    "What is only read of private anonymous memory is the shared zero page, never writable.",
    code="do_anonymous_page()",
    sabotage=entry_bit("writable", set=True),
)
def test_reading_maps_the_zero_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).load()
    rss, pages = witness.mm(subject).rss_anon, witness.pages(area)
    assert pages.pfns == witness.zero_pfn
    assert (pages.special, pages.writable, pages.dirty) == (1, 0, 0)
    area.store()
    own = witness.pages(area)
    assert (own.anon, own.exclusive, own.writable, own.special) == (1, 1, 1, 0)
    assert witness.mm(subject).rss_anon == rss + 2


@claim(
    "mmap.locked.1",
    PAGE,
    "MAP_LOCKED [...] Mark the mapped region to be locked in the same way as mlock(2).",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_map_locked_is_locked_and_populated(subject: Subject, witness: Witness) -> None:
    locked = witness.mm(subject).locked_vm
    area = subject.mmap(pages=2, prot="rw", locked=True)
    assert "VM_LOCKED" in witness.vma(area).flags
    pages = witness.pages(area)
    assert (pages.present, pages.flag("PG_mlocked")) == (1, 1)
    assert witness.mm(subject).locked_vm == locked + 2


@claim(
    "mmap.locked.2",
    PAGE,
    "This implementation will try to populate (prefault) the whole range but the mmap() call doesn't fail with "
    "ENOMEM if this fails. [...] So the semantic is not as strong as mlock(2).",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_map_locked_does_not_fail_when_it_cannot_populate(subject: Subject, witness: Witness) -> None:
    none = subject.mmap(pages=2, prot="none", locked=True)
    assert "VM_LOCKED" in witness.vma(none).flags
    assert witness.pages(none).pfns == NO_PFN
    short = subject.mmap(pages=3, shared=True, fd=subject.memfd(1), locked=True)
    assert witness.pages(short).present == (1, 0, 0)


@claim(
    "mmap.charge.1",
    "mm/mmap.c",
    "Private writable memory is charged when it is mapped, unless with MAP_NORESERVE.",
    code="accountable_mapping()",
    sabotage=committed(-1, at=2),
)
def test_private_writable_memory_is_charged(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(pages=20, prot="none")
    before = witness.committed().pages
    area = subject.mmap(pages=5, fixed_at=room.start, replace=True)
    assert witness.committed().pages == before + 5
    assert "VM_ACCOUNT" in witness.vma(area).flags
    flags = subject.agent.abi["MAP_NORESERVE"]
    subject.mmap(pages=5, fixed_at=room.address(6), replace=True, flags=flags)
    subject.mmap(pages=5, prot="r", fixed_at=room.address(12), replace=True)
    assert witness.committed().pages == before + 5


@claim(
    "mmap.merge.1",
    "mm/mmap.c",
    "A mapping beside an equal one becomes one with it.",
    code="mmap_region()",
    sabotage=mm_counter("map_count", +1, at=2),
)
def test_equal_neighbours_become_one(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=6, prot="r")
    subject.mprotect(area[:2], "rw")
    subject.mprotect(area[4:], "rw")
    count = witness.mm(subject).map_count
    subject.mmap(pages=2, fixed_at=area.address(2), replace=True)
    assert witness.mm(subject).map_count == count - 2
    whole = witness.vma(area)
    assert (whole.start, whole.end) == (area.start, area.end)


@claim("mmap.growsdown.1", PAGE, GROWSDOWN, sabotage=vm_flag("VM_GROWSDOWN"))
def test_a_stack_grows_by_a_page(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(pages=(1 << 30) // subject.page_size, prot="none")
    subject.munmap(room)
    area = subject.mmap(pages=2, growsdown=True, fixed_at=room.address(-2))
    before = witness.mm(subject).total_vm
    subject.must(subject.store(area.start - area.page_size))
    grown = witness.vma(area)
    assert "VM_GROWSDOWN" in grown.flags
    assert (grown.start, grown.end) == (area.start - area.page_size, area.end)
    assert witness.mm(subject).total_vm == before + 1


@claim(
    "mmap.growsdown.2",
    PAGE,
    "This growth can be repeated until the mapping grows to within a page of the high end of the next lower "
    "mapping, at "
    'which point touching the "guard" page will result in a SIGSEGV signal.',
    sabotage=vm_flag("VM_GROWSDOWN"),
)
def test_a_stack_does_not_grow_into_a_mapping(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(pages=8, prot="none")
    subject.mmap(pages=1, prot="rw", fixed_at=room.start, replace=True).touch()
    subject.munmap(room[1:])
    area = subject.mmap(pages=2, growsdown=True, fixed_at=room.address(3))
    with subject.faults("SIGSEGV"):
        subject.store(room.address(1))
    after = witness.vma(area)
    assert "VM_GROWSDOWN" in after.flags
    assert after.start >= room.address(2)


@claim(
    "mmap.hugetlb.1",
    PAGE,
    'Allocate the mapping using "huge" pages.',
    reading="MAP_HUGETLB",
    sabotage=entry_bit("writable", set=False),
)
def test_hugetlb_maps_a_huge_page(subject: Subject, witness: Witness) -> None:
    with subject.sysctl("vm/nr_hugepages", 1) as pages:
        if pages < 1:
            not_applicable("no huge page was free for the pool")
        area = subject.mmap(pages=subject.pmd_size // subject.page_size, hugetlb=True)
        area[5].touch()
        seen, vma = witness.pages(area), witness.vma(area)
        subject.munmap(area)
    assert (seen.huge, seen.writable, seen.present) == (1, 1, 1)
    assert seen.pfns == [seen.pfns[0] + page for page in range(len(area))]
    assert "VM_HUGETLB" in vma.flags
    assert area.start % subject.pmd_size == 0
