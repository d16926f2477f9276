"""munmap(2)."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Subject
from hostwalk.needs import huge_page
from hostwalk.sabotage import committed, entry_bit, mm_counter, page_flag, refcount, vm_edge
from hostwalk.witness import NO_PFN, Witness

PAGE = "munmap(2)"
DELETES = (
    "The munmap() system call deletes the mappings for the specified address range, and causes further references to "
    "addresses within the range to generate invalid memory references."
)
ALL_PAGES = (
    "All pages containing a part of the indicated range are unmapped, and subsequent references to these pages will "
    "generate SIGSEGV."
)
TOO_MANY = (
    "ENOMEM: The process's maximum number of mappings would have been exceeded. This error can also occur for "
    "munmap(), when unmapping a region in the middle of an existing mapping."
)
SPARE_MAPPINGS = 40


@claim(
    "munmap.gone.1",
    PAGE,
    DELETES,
    reading="No entry is left.",
    sabotage=entry_bit("present", set=True, at=2),
)
def test_munmap_leaves_no_entry(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    subject.munmap(area[1:2])
    after = witness.pages(area)
    assert after.pfns == (before.pfns[0], NO_PFN, before.pfns[2])
    assert not witness.vma(area[1]).mapped
    for access in (subject.load, subject.store, subject.execute):
        with subject.faults("SIGSEGV", "SEGV_MAPERR"):
            access(area.address(1))


@claim(
    "munmap.part.1",
    PAGE,
    ALL_PAGES,
    reading="Every page with a part of the range goes, no other.",
    sabotage=entry_bit("present", set=True, at=2, page=2),
)
def test_every_page_with_a_part_of_the_range_goes(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4).touch()
    before = witness.pages(area)
    subject.munmap((area.address(1), area.page_size + 1))
    after = witness.pages(area)
    assert after.present == (1, 0, 0, 1)
    assert (after.entries[0], after.entries[3]) == (before.entries[0], before.entries[3])


@claim(
    "munmap.tables.1",
    PAGE,
    DELETES,
    reading="A range over two page tables.",
    sabotage=entry_bit("present", set=False, at=2, page=7),
)
def test_a_range_over_two_page_tables(subject: Subject, witness: Witness) -> None:
    area = subject.across_tables(pages=8).touch()
    before, rss = witness.pages(area), witness.mm(subject).rss_anon
    subject.munmap(area[1:7])
    after = witness.pages(area)
    assert after.present == (1, 0, 0, 0, 0, 0, 0, 1)
    assert (after.entries[0], after.entries[7]) == (before.entries[0], before.entries[7])
    assert witness.mm(subject).rss_anon == rss - 6
    assert witness.frames(before.pfns[1:7]).refcounts == 0


@claim(
    "munmap.free.1",
    "mm/memory.c",
    "The pages of a private mapping are given back.",
    code="zap_pte_range()",
    sabotage=refcount(+1, at=2),
)
def test_munmap_frees_private_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    rss, pfns = witness.mm(subject).rss_anon, witness.pages(area).pfns
    subject.munmap(area)
    assert witness.frames(pfns).refcounts == 0
    assert witness.mm(subject).rss_anon == rss - 2


@claim(
    "munmap.dirty.1",
    "mm/memory.c",
    "A dirty entry makes its page dirty when it goes: what was written is not lost.",
    code="zap_pte_range()",
    sabotage=page_flag("PG_dirty", set=False, at=2, page=1),
)
def test_what_was_written_stays_in_the_file(subject: Subject, witness: Witness) -> None:
    with subject.file_system("ramfs") as where:
        fd = subject.open(f"{where}/file", "O_RDWR|O_CREAT")
        subject.ftruncate(fd, 2)
        area = subject.mmap(pages=2, shared=True, fd=fd)
        area[1:].store(0x5A)
        area[:1].load()
        pages = witness.pages(area)
        subject.munmap(area)
        after = witness.frames(pages.pfns)
        data = subject.read(fd, 2 * area.page_size, 0)
        subject.close(fd)
    assert pages.dirty == (0, 1)
    assert after.flag("PG_dirty")[1] == 1
    assert (after.mapcounts, after.refcounts) == (0, pages.refcounts - 1)
    assert (data[0], data[area.page_size]) == (0, 0x5A)


@claim(
    "munmap.align.1",
    PAGE,
    "The address addr must be a multiple of the page size (but length need not be).",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_an_unaligned_address_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    before = witness.pages(area)
    for offset in (1, area.page_size // 2):
        with subject.refuses("EINVAL"):
            subject.munmap((area.start + offset, area.page_size))
    assert witness.pages(area).entries == before.entries


@claim(
    "munmap.einval.1",
    "mmap(2)",
    "EINVAL: We don't like addr, length, or offset (e.g., they are too large, or not aligned on a page boundary).",
    reading="munmap() of a range that is too large: nothing is unmapped.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_a_range_that_is_too_large_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    before = witness.pages(area)
    for length in (0, 1 << 63, (1 << 64) - 1):
        with subject.refuses("EINVAL"):
            subject.munmap((area.start, length))
    assert witness.pages(area).entries == before.entries


@claim(
    "munmap.nothing.1",
    PAGE,
    "It is not an error if the indicated range does not contain any mapped pages.",
    sabotage=mm_counter("total_vm", -1, at=2),
)
def test_an_empty_range_is_no_error(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=5).touch()
    subject.munmap(area[1:4])
    before = witness.mm(subject)
    subject.munmap(area[1:4])
    subject.munmap(area[2:3])
    after = witness.mm(subject)
    assert (after.total_vm, after.map_count) == (before.total_vm, before.map_count)
    subject.munmap(area)
    assert witness.mm(subject).total_vm == before.total_vm - 2


@claim(
    "munmap.split.1",
    PAGE,
    DELETES,
    reading="A hole splits the mapping.",
    sabotage=vm_edge("vm_end", +1),
)
def test_a_hole_splits_the_mapping(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=5).touch()
    count = witness.mm(subject).map_count
    subject.munmap(area[2:3])
    first, last = witness.vma(area), witness.vma(area[3])
    assert (first.start, first.end) == (area.start, area.address(2))
    assert (last.start, last.end) == (area.address(3), area.end)
    assert witness.mm(subject).map_count == count + 1


@claim("munmap.enomem.1", PAGE, TOO_MANY, sabotage=mm_counter("map_count", +1, at=2))
def test_too_many_mappings_is_enomem(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=3).touch()
    room = subject.mmap(pages=SPARE_MAPPINGS)
    for page in range(1, SPARE_MAPPINGS, 2):
        subject.mprotect(room[page], "none")
    count, before = witness.mm(subject).map_count, witness.pages(area)
    with subject.sysctl("vm/max_map_count", count):
        with subject.refuses("ENOMEM"):
            subject.munmap(area[1:2])
        assert witness.pages(area).entries == before.entries
        assert witness.mm(subject).map_count == count
        subject.munmap(area[2:])
    assert witness.pages(area).present == (1, 1, 0)


@claim(
    "munmap.charge.1",
    "mm/mmap.c",
    "What was charged for private writable memory is given back.",
    code="vm_unacct_memory()",
    sabotage=committed(+1, at=2),
)
def test_the_charge_is_given_back(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=6).touch()
    before, mm = witness.committed().pages, witness.mm(subject)
    subject.munmap(area[1:4])
    assert witness.committed().pages == before - 3
    after = witness.mm(subject)
    assert (after.total_vm, after.data_vm) == (mm.total_vm - 3, mm.data_vm - 3)
    subject.munmap(area)
    assert witness.committed().pages == before - 6


@claim(
    "munmap.tables.2",
    "mm/memory.c",
    "Page tables that map nothing any more are freed, and counted in pgtables_bytes.",
    code="free_pgtables()",
    sabotage=mm_counter("pgtables_bytes", 1 << 12, at=3),
)
def test_empty_page_tables_are_freed(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(
        pages=4 * subject.pmd_size // subject.page_size, prot="none", aligned=subject.pmd_size
    )
    before = witness.mm(subject).pgtables_bytes
    places = [
        subject.mmap(pages=1, fixed_at=room.start + at * subject.pmd_size, replace=True) for at in (1, 2)
    ]
    for place in places:
        place.touch()
    grown = witness.mm(subject).pgtables_bytes
    assert grown >= before + 2 * subject.page_size
    subject.munmap(room)
    assert witness.mm(subject).pgtables_bytes <= grown - 2 * subject.page_size


@claim(
    "munmap.close.1",
    PAGE,
    "On the other hand, closing the file descriptor does not unmap the region.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_close_does_not_unmap(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    area = subject.mmap(pages=2, shared=True, fd=fd).touch(4)
    before = witness.pages(area)
    subject.close(fd)
    assert witness.pages(area).entries == before.entries
    area.store(5).load()


@claim(
    "munmap.exit.1",
    PAGE,
    "The region is also automatically unmapped when the process is terminated.",
    sabotage=refcount(+1, at=3),
)
def test_the_end_of_a_process_unmaps(subject: Subject, witness: Witness) -> None:
    shared = subject.mmap(pages=1, shared=True).touch()
    before = witness.pages(shared)
    with subject.fork() as child:
        own = child.mmap(pages=2).touch()
        pfns = witness.pages(own).pfns
    frames, after = witness.frames(pfns), witness.pages(shared)
    assert frames.refcounts == 0
    assert (after.mapcounts, after.refcounts) == (before.mapcounts, before.refcounts)


@claim(
    "munmap.thp.1",
    PAGE,
    ALL_PAGES,
    reading="A part of a huge page.",
    sabotage=entry_bit("present", set=True, at=3, page=3),
)
def test_a_part_of_a_huge_page_is_unmapped(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    pfns, rss = witness.pages(area).pfns, witness.mm(subject).rss_anon
    subject.munmap(area[3:5])
    after = witness.pages(area)
    assert after.pfns == [NO_PFN if page in (3, 4) else pfn for page, pfn in enumerate(pfns)]
    assert after.huge == 0
    assert witness.mm(subject).rss_anon == rss - 2


@claim(
    "munmap.hugetlb.1",
    "mmap(2)",
    "For munmap(), addr, and length must both be a multiple of the underlying huge page size.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_a_part_of_a_hugetlb_page_is_einval(subject: Subject, witness: Witness) -> None:
    with subject.sysctl("vm/nr_hugepages", 1) as pages:
        if pages < 1:
            not_applicable("no huge page was free for the pool")
        area = subject.mmap(pages=subject.pmd_size // subject.page_size, hugetlb=True).touch()
        before = witness.pages(area)
        for part in (area[:1], area[1:], area[3:4]):
            with subject.refuses("EINVAL"):
                subject.munmap(part)
        after = witness.pages(area)
        subject.munmap(area)
    assert after.entries == before.entries
    assert not witness.vma(area).mapped


@claim(
    "munmap.mseal.1",
    "Documentation/userspace-api/mseal.rst",
    "munmap: munmap is atomic. If one of VMAs in the given range is sealed, none of VMAs are updated.",
    kernels=">=6.10",
    sabotage=entry_bit("present", set=False, page=0),
)
def test_a_sealed_mapping_keeps_the_whole_range(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=6).touch()
    subject.mprotect(area[:2], "r")
    subject.mseal(area[4:])
    with subject.refuses("EPERM"):
        subject.munmap(area)
    assert "VM_WRITE" not in witness.vma(area).flags
    pages = witness.pages(area)
    assert pages.present == 1
    assert pages.writable == (0, 0, 1, 1, 1, 1)
