"""Page faults: what the first access to a page makes of its entry."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable_if
from hostwalk.guest import Area, Subject
from hostwalk.guest.code import load_call_load
from hostwalk.needs import huge_page
from hostwalk.sabotage import entry_bit, entry_pfn, page_flag, refcount
from hostwalk.witness import Witness

MAP = "mmap(2)"
ADVICE = "madvise(2)"
PRIVATE = (
    "MAP_PRIVATE Create a private copy-on-write mapping. Updates to the mapping are not visible to other processes "
    "mapping the same file"
)


@claim(
    "fault.anon.1",
    "mm/memory.c",
    "A store gives a page of zeros of the process's own: writable, dirty, young, exclusive, counted once.",
    code="do_anonymous_page()",
    sabotage=entry_bit("dirty", set=False),
)
def test_a_store_gives_a_page_of_zeros(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3)
    rss = witness.mm(subject).rss_anon
    area[1:2].store(0x12)
    pages = witness.pages(area)
    assert pages.present == (0, 1, 0)
    assert (pages.writable[1], pages.dirty[1], pages.young[1], pages.exclusive[1]) == (1, 1, 1, 1)
    assert (pages.refcounts[1], pages.mapcounts[1], pages.special[1]) == (1, 1, 0)
    assert witness.mm(subject).rss_anon == rss + 1
    assert witness.contents(area[1:2]) == b"\x12" + bytes(area.page_size - 1)


@claim(
    "fault.cow.1",
    MAP,
    PRIVATE,
    reading="The first access is a store: a copy of the file's page, with that byte changed, is mapped.",
    sabotage=entry_bit("writable", set=False, at=2, page=0),
)
def test_a_store_first_copies_the_files_page(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    shared = subject.mmap(pages=2, shared=True, fd=fd).touch(0x5C)
    subject.poke(shared.start, b"of the file")
    file, mm = witness.pages(shared), witness.mm(subject)
    area = subject.mmap(pages=2, fd=fd)
    area[:1].store(0x5D)
    pages, after = witness.pages(area[:1]), witness.frames(file.pfns)
    assert pages.pfns.differing(file.pfns[:1]) == (0,)
    assert (pages.anon, pages.exclusive, pages.writable, pages.dirty) == (1, 1, 1, 1)
    assert after.mapcounts == file.mapcounts
    assert witness.mm(subject).rss_anon == mm.rss_anon + 1
    assert subject.peek(area.start, 11) == b"\x5df the file"
    assert subject.peek(shared.start, 11) == b"of the file"


@claim(
    "fault.cow.2",
    "mm/memory.c",
    "A store to a page of a file that was read before copies it: the process has one page of the file less, and one of "
    "its own more.",
    code="wp_page_copy()",
    sabotage=refcount(+1, at=3),
)
def test_a_store_replaces_the_files_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, fd=subject.memfd(2)).load()
    before, mm = witness.pages(area), witness.mm(subject)
    area[:1].store(0x5D)
    pages, file = witness.pages(area), witness.frames(before.pfns)
    assert pages.pfns.differing(before.pfns) == (0,)
    assert (pages.anon, pages.writable, pages.dirty) == ((1, 0), (1, 0), (1, 0))
    assert file.refcounts == before.refcounts - (1, 0)
    assert file.mapcounts == before.mapcounts - (1, 0)
    after = witness.mm(subject)
    assert (after.rss_anon, after.rss_shmem) == (mm.rss_anon + 1, mm.rss_shmem - 1)


@claim(
    "fault.around.1",
    "mm/memory.c",
    "Pages of a file that a read maps beside the one that was asked for are the file's, clean, and counted; none lies "
    "outside the mapping.",
    code="do_fault_around()",
    sabotage=entry_bit("dirty", set=True, at=2, page=9),
)
def test_pages_around_a_fault_are_the_files(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(40)
    whole = witness.pages(subject.mmap(pages=40, shared=True, fd=fd).touch())
    # Since 4e92030c05dc (6.16) an entry that may be written is dirty where its page is.
    area = subject.apart(pages=24, prot="r", shared=True, fd=fd)
    rss = witness.mm(subject).rss_shmem
    area[9:10].load()
    pages = witness.pages(area)
    there = [page for page, present in enumerate(pages.present) if present]
    assert 9 in there
    assert there == list(range(there[0], there[0] + len(there)))
    assert [pages.pfns[page] for page in there] == [whole.pfns[page] for page in there]
    assert (pages.dirty, pages.special) == (0, 0)
    assert witness.mm(subject).rss_shmem == rss + len(there)
    assert witness.frames(whole.pfns).mapcounts == [1 + (page in there) for page in range(40)]


@claim(
    "fault.shared.1",
    "mm/memory.c",
    "The first store to a clean page of a file whose file system wants to know makes entry and page dirty, and the "
    "same page stays.",
    code="do_wp_page(), wp_page_shared()",
    sabotage=page_flag("PG_dirty", set=False, at=2, page=0),
)
def test_the_first_store_makes_a_files_page_dirty(subject: Subject, witness: Witness) -> None:
    with subject.file_system("ramfs") as where:
        fd = subject.open(f"{where}/file", "O_RDWR|O_CREAT")
        subject.ftruncate(fd, 2)
        area = subject.mmap(pages=2, shared=True, fd=fd).load()
        before = witness.pages(area)
        area[:1].store(0x21)
        after = witness.pages(area)
        subject.munmap(area)
        subject.close(fd)
    assert (before.writable, before.dirty) == (0, 0)
    assert (after.pfns, after.writable, after.dirty) == (before.pfns, (1, 0), (1, 0))
    assert after.flag("PG_dirty")[0] == 1
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)


@claim(
    "fault.shared.2",
    "mm/memory.c",
    "When the first access to a page of such a file is a store, entry and page are dirty at once.",
    code="do_shared_fault(), fault_dirty_shared_page()",
    sabotage=page_flag("PG_dirty", set=False, page=1),
)
def test_a_store_first_makes_a_files_page_dirty(subject: Subject, witness: Witness) -> None:
    with subject.file_system("ramfs") as where:
        fd = subject.open(f"{where}/file", "O_RDWR|O_CREAT")
        subject.ftruncate(fd, 2)
        area = subject.mmap(pages=2, shared=True, fd=fd)
        area[1:].store(0x21)
        after = witness.pages(area)
        subject.munmap(area)
        data = subject.read(fd, 1, area.page_size)
        subject.close(fd)
    assert (after.present[1], after.writable[1], after.dirty[1], after.anon[1]) == (1, 1, 1, 0)
    assert after.flag("PG_dirty")[1] == 1
    assert data == b"\x21"


@claim(
    "fault.shared.3",
    "mm/memory.c",
    "A store to a shared mapping of a file marks the page dirty at once, not when its entry goes.",
    code="fault_dirty_shared_page()",
    sabotage=page_flag("PG_dirty", set=False, at=2, page=1),
)
def test_a_store_to_a_shared_file_marks_the_page(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(3)
    read = subject.mmap(pages=3, prot="r", shared=True, fd=fd).load()
    assert witness.pages(read).flag("PG_dirty") == 0
    subject.mmap(pages=3, shared=True, fd=fd)[1:2].store(0x66)
    after = witness.pages(read)
    assert (after.flag("PG_dirty"), after.dirty) == ((0, 1, 0), 0)


@claim(
    "madvise.populate.1",
    ADVICE,
    "Populate (prefault) page tables readable, faulting in all pages in the range just as if manually reading from "
    "each page",
    sabotage=entry_bit("dirty", set=True, page=0),
)
def test_populate_read_is_as_a_read(subject: Subject, witness: Witness) -> None:
    file = subject.mmap(pages=3, shared=True, fd=subject.memfd(3))
    anon = subject.mmap(pages=3)
    for area in (file, anon):
        subject.madvise(area, "POPULATE_READ")
    seen = witness.pages(file)
    assert (seen.present, seen.dirty) == (1, 0)
    assert witness.pages(anon).pfns == witness.zero_pfn


@claim(
    "madvise.populate.2",
    ADVICE,
    "Populate (prefault) page tables writable, faulting in all pages in the range just as if manually writing to each "
    "each page",
    sabotage=entry_bit("writable", set=False, page=2),
)
def test_populate_write_is_as_a_write(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(3)
    subject.mmap(pages=3, shared=True, fd=fd).touch(0x6D)
    for area in (subject.mmap(pages=3, fd=fd), subject.mmap(pages=3).load(), subject.mmap(pages=3)):
        subject.madvise(area, "POPULATE_WRITE")
        pages = witness.pages(area)
        assert (pages.writable, pages.dirty, pages.anon, pages.exclusive) == (1, 1, 1, 1)
        if area.start:
            data = subject.peek(area.address(2), 1)
            assert data in (b"\x6d", b"\0")


@claim(
    "mlock.thp.1",
    "mlock(2)",
    "mlock() locks pages in the address range starting at addr and continuing for len bytes.",
    reading="A huge page is locked as one, and unlocked.",
    sabotage=page_flag("PG_mlocked", set=False, at=2),
)
def test_a_huge_page_is_locked(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    subject.mlock(area)
    locked = witness.pages(area[:1])
    assert (locked.huge, locked.flag("PG_mlocked"), locked.flag("PG_unevictable")) == (1, 1, 1)
    assert witness.mm(subject).locked_vm == area.pages
    subject.munlock(area)
    free = witness.pages(area[:1])
    assert (free.huge, free.flag("PG_mlocked"), free.flag("PG_unevictable")) == (1, 0, 0)


LOCKED = (
    "All pages that contain a part of the specified address range are guaranteed to be resident in RAM when the call "
    "returns successfully"
)


def assert_locked(area: Area, witness: Witness) -> None:
    area.subject.mlock(area)
    pages = witness.pages(area)
    assert (pages.present, pages.writable, pages.exclusive) == (1, 1, 1)
    with area.subject.get_user_pages(area, write=True) as pins:
        assert pins.pfns == pages.pfns


@claim(
    "mlock.levels.1",
    "mlock(2)",
    LOCKED,
    reading="On both sides of the end of a pmd table.",
    sabotage=entry_pfn(+1, at=1, page=7),
)
def test_a_range_over_the_end_of_a_pmd_table(subject: Subject, witness: Witness) -> None:
    with not_applicable_if("ENOMEM", "user space is one pmd table"):
        area = subject.across_tables(level=1)
    assert_locked(area, witness)


@claim(
    "mlock.levels.2",
    "mlock(2)",
    LOCKED,
    reading="On both sides of the end of a pud table.",
    sabotage=entry_pfn(+1, at=1, page=7),
)
def test_a_range_over_the_end_of_a_pud_table(subject: Subject, witness: Witness) -> None:
    with not_applicable_if("ENOMEM", "user space is too small for two pud tables"):
        area = subject.across_tables(level=2)
    assert_locked(area, witness)


@claim(
    "fault.tlb.1",
    "proc(5)",
    "This file can be used to access the pages of a process's memory through open(2), read(2), and lseek(2).",
    reading="/proc/self/mem: the very next load sees what was written there, where that took a copy of the page.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_the_very_next_load_sees_the_copy(subject: Subject, witness: Witness) -> None:
    area, seen = subject.mmap(pages=1).touch(0x11), subject.mmap(pages=2).touch(0x22)
    mem = subject.open("/proc/self/mem", "O_RDWR")
    subject.call("lseek", mem, area.start, 0)
    number = subject.agent.abi["__NR_write"]
    code = subject.code(
        load_call_load(subject.arch, area.start, number, (mem, seen.start, 1), seen.address(1))
    )
    with subject.fork() as child:
        before = witness.pages(area)
        subject.execute(code.start)
        after = witness.pages(area)
        assert (before.writable, after.writable) == (0, 1)
        assert after.pfns != before.pfns
        assert subject.peek(seen.address(1), 1) == b"\x22"
        assert child.peek(area.start, 1) == b"\x11"
