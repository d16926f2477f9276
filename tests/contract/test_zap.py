"""What goes when mappings, pages or files go: munmap(2), madvise(2), truncation, holes."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable_if
from hostwalk.guest import Area, Subject
from hostwalk.needs import huge_page
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, page_flag, refcount
from hostwalk.witness import NO_PFN, Witness

PAGE = "munmap(2)"
ADVICE = "madvise(2)"
DELETES = "The munmap() system call deletes the mappings for the specified address range"
DONTNEED = (
    "subsequent accesses of pages in the range will succeed, but will result in either repopulating the memory "
    "contents from the up-to-date contents of the underlying mapped file [...] or zero-fill-on-demand pages for "
    "anonymous private mappings."
)


def written_copy(subject: Subject, pages: int) -> tuple[int, Area]:
    """Return a file and a private mapping of it, of which the first page was written and the others were read."""
    fd = subject.memfd(pages)
    subject.mmap(pages=pages, shared=True, fd=fd).touch(0x0F)
    area = subject.mmap(pages=pages, fd=fd).load()
    area[:1].store(0xCC)
    return fd, area


@claim(
    "munmap.young.1",
    "mm/memory.c",
    "A young entry of a file's page marks the page accessed when it goes; an old one does not.",
    code="zap_pte_range(): mark_page_accessed(), folio_mark_accessed()",
    sabotage=page_flag("PG_referenced", set=False, at=2, page=1),
)
def test_what_was_used_is_marked_accessed(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True, fd=subject.memfd(2)).load()
    subject.clear_young()
    subject.mprotect(area, "r")  # flushes what x86-64 leaves in the TLBs, where the next load would find it
    area[1:].load()
    before = witness.pages(area)
    subject.munmap(area)
    after = witness.frames(before.pfns)
    assert (before.young, before.flag("PG_referenced")) == ((0, 1), 0)
    assert after.flag("PG_referenced") == (0, 1)


@claim(
    "munmap.thp.2",
    PAGE,
    DELETES,
    reading="A whole huge page goes, and is free.",
    sabotage=refcount(+1, at=3),
)
def test_a_whole_huge_page_goes(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    before, mm = witness.pages(area), witness.mm(subject)
    subject.munmap(area)
    assert witness.frames(before.pfns).refcounts == 0
    assert witness.mm(subject).rss_anon == mm.rss_anon - area.pages
    with subject.faults("SIGSEGV", "SEGV_MAPERR"):
        subject.load(area.address(-1))


@claim(
    "munmap.batch.1",
    "munmap(2)",
    "All pages containing a part of the indicated range are unmapped",
    reading="Of a huge page that a page table maps: each page in the range is unmapped once, and no other.",
    sabotage=mapcount(+1, at=3, page=3),
)
def test_a_part_of_a_huge_page_in_a_page_table(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness).touch()
    with subject.get_user_pages(area[:1], split_pmd=True):
        pass
    before, rss = witness.pages(area), witness.mm(subject).rss_anon
    subject.munmap(area[2:40])
    subject.munmap(area[60:61])
    gone = [2 <= page < 40 or page == 60 for page in range(area.pages)]
    frames = witness.frames(before.pfns)
    assert frames.mapcounts == [not out for out in gone]
    after = witness.pages(area)
    assert after.present == frames.mapcounts
    assert after.refcounts[0] == before.refcounts[0] - sum(gone)
    assert witness.mm(subject).rss_anon == rss - sum(gone)


@claim(
    "munmap.levels.1",
    PAGE,
    DELETES,
    reading="On both sides of the end of a pmd table and of a pud table.",
    sabotage=entry_bit("present", set=False, at=2, page=0),
)
def test_a_range_over_the_end_of_higher_tables(subject: Subject, witness: Witness) -> None:
    for level in (1, 2):
        with not_applicable_if("ENOMEM", "user space has no second table of that level"):
            area = subject.across_tables(level=level).touch()
        before, rss = witness.pages(area), witness.mm(subject).rss_anon
        subject.munmap(area[1:7])
        after = witness.pages(area)
        assert after.pfns == (before.pfns[0], *[NO_PFN] * 6, before.pfns[7])
        assert witness.frames(before.pfns[1:7]).refcounts == 0
        assert witness.mm(subject).rss_anon == rss - 6


@claim(
    "madvise.dontneed.1",
    ADVICE,
    DONTNEED,
    reading="Anonymous memory: its pages are free, and zero when they are used again; no neighbour goes.",
    sabotage=entry_bit("present", set=True, at=2, page=1),
)
def test_anonymous_memory_is_given_up(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4).touch(0x77)
    before, rss = witness.pages(area), witness.mm(subject).rss_anon
    subject.madvise(area[1:3], "DONTNEED")
    after = witness.pages(area)
    assert (after.present, after.entries[0], after.entries[3]) == (
        (1, 0, 0, 1),
        before.entries[0],
        before.entries[3],
    )
    assert witness.frames(before.pfns[1:3]).refcounts == 0
    assert witness.mm(subject).rss_anon == rss - 2
    assert subject.peek(area.address(1), 1) + subject.peek(area.address(3), 1) == b"\0\x77"


@claim(
    "madvise.dontneed.2",
    ADVICE,
    DONTNEED,
    reading="A private mapping of a file: the copies go too, and the file's pages show again.",
    sabotage=entry_pfn(+1, at=2, page=0),
)
def test_copies_of_a_files_pages_are_given_up(subject: Subject, witness: Witness) -> None:
    fd, area = written_copy(subject, 2)
    file = witness.pages(subject.mmap(pages=2, shared=True, fd=fd).load())
    subject.madvise(area, "DONTNEED")
    area.load()
    after = witness.pages(area)
    assert (after.pfns, after.anon) == (file.pfns, 0)
    assert subject.peek(area.start, 1) == b"\x0f"


@claim(
    "madvise.dontneed.3",
    ADVICE,
    DONTNEED,
    reading="A part of a huge page: the rest keeps its pages and their bytes.",
    sabotage=entry_bit("present", set=False, at=3, page=0),
)
def test_a_part_of_a_huge_page_is_given_up(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness).touch(0x66)
    before, rss = witness.pages(area), witness.mm(subject).rss_anon
    subject.madvise(area[8:24], "DONTNEED")
    after = witness.pages(area)
    assert after.present == [not 8 <= page < 24 for page in range(area.pages)]
    assert (after.pfns[:8], after.pfns[24:]) == (before.pfns[:8], before.pfns[24:])
    assert witness.mm(subject).rss_anon == rss - 16
    assert subject.peek(area.address(7), 1) + subject.peek(area.address(8), 1) == b"\x66\0"


@claim(
    "truncate.private.1",
    "mm/memory.c",
    "A file that shrinks takes along private copies of the pages that it loses.",
    code="unmap_mapping_range(), zap_pte_range()",
    sabotage=entry_bit("present", set=True, at=2, page=1),
)
def test_a_shrinking_file_takes_copies_along(subject: Subject, witness: Witness) -> None:
    fd, area = written_copy(subject, 3)
    area[1:2].store(0xCD)
    before = witness.pages(area)
    subject.ftruncate(fd, 1)
    after = witness.pages(area)
    assert after.pfns == (before.pfns[0], NO_PFN, NO_PFN)
    assert witness.frames(before.pfns[1:2]).refcounts == 0
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        subject.load(area.address(1))


@claim(
    "truncate.hole.1",
    "mm/memory.c",
    "A hole that is punched into a file leaves private copies of its pages, and takes the file's own.",
    code="unmap_mapping_range(), zap_pte_range()",
    sabotage=entry_bit("present", set=False, at=2, page=0),
)
def test_a_hole_leaves_private_copies(subject: Subject, witness: Witness) -> None:
    fd, area = written_copy(subject, 2)
    before = witness.pages(area)
    mode = subject.agent.names.flags("PUNCH_HOLE|KEEP_SIZE", "FALLOC_FL_")
    subject.call("fallocate", fd, mode, 0, 2 * area.page_size)
    after = witness.pages(area)
    assert after.pfns == (before.pfns[0], NO_PFN)
    assert (after.anon[0], after.writable[0], after.refcounts[0]) == (1, 1, 1)
    assert subject.peek(area.start, 1) + subject.peek(area.address(1), 1) == b"\xcc\0"


@claim(
    "mremap.thp.1",
    "mremap(2)",
    "mremap() expands (or shrinks) an existing memory mapping, potentially moving it at the same time",
    reading="A huge page moves as one, dirty and exclusive as it was.",
    sabotage=entry_bit("dirty", set=False, at=3),
)
def test_a_huge_page_moves_as_one(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness).touch(0x2E)
    before, mm = witness.pages(area[:3]), witness.mm(subject)
    room = subject.mmap(pages=area.pages, prot="none", aligned=subject.pmd_size)
    moved = subject.mremap(area, area.pages, fixed_at=room.start)
    after = witness.pages(moved[:3])
    assert (after.huge, after.pfns, after.dirty) == (1, before.pfns, before.dirty)
    assert (after.writable, after.exclusive, after.mapcounts) == (1, before.exclusive, before.mapcounts)
    assert witness.mm(subject).rss_anon == mm.rss_anon
    assert subject.peek(moved.address(-1), 1) == b"\x2e"


@claim(
    "mremap.table.1",
    "mremap(2)",
    "mremap() expands (or shrinks) an existing memory mapping, potentially moving it at the same time",
    reading="Two whole page tables' worth of pages, and some on either side: each entry moves to its place.",
    sabotage=entry_pfn(+1, at=2, page=2),
)
def test_whole_page_tables_move(subject: Subject, witness: Witness) -> None:
    per_table = subject.pmd_size // subject.page_size
    room = subject.mmap(pages=4 * per_table, prot="none", aligned=subject.pmd_size)
    there = subject.mmap(pages=4 * per_table, prot="none", aligned=subject.pmd_size)
    first, pages = per_table - 2, 2 * per_table + 4
    with not_applicable_if("ENOMEM", "this machine is too small for what two page tables map"):
        area = subject.mmap(pages=pages, fixed_at=room.address(first), replace=True)
    marks = [area[page : page + 1] for page in (0, 1, 2, per_table + 1, per_table + 2, pages - 3, pages - 1)]
    for number, page in enumerate(marks):
        page.touch(number + 1)
    picked = (0, 1, 2, per_table + 1, per_table + 2, pages - 3, pages - 1)
    before = witness.pages(area)
    moved = subject.mremap(area, pages, fixed_at=there.address(first))
    after = witness.pages(moved)
    assert [after.pfns[page] for page in picked] == [before.pfns[page] for page in picked]
    assert sum(after.present) == len(picked)
    assert [subject.peek(moved.address(page), 1)[0] for page in picked] == [1, 2, 3, 4, 5, 6, 7]
