"""What becomes of inserted pages: unmapped, moved, protected, copied by fork and by a write, locked, held."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, mm_counter, page_flag, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "vm_insert_page(9)"
MEMORY = "mm/memory.c"


def inserted(subject: Subject, nr: int, *, shared: bool = True) -> Area:
    """Map fresh pages of the exerciser's."""
    return subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=nr), shared=shared).area


@claim(
    "insert.munmap.1",
    "munmap(2)",
    "The munmap() system call deletes the mappings for the specified address range",
    reading="References, map counts and RSS of inserted pages are given back.",
    sabotage=refcount(+1, at=2),
)
def test_munmap_gives_everything_back(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=3)
    before, rss = witness.frames(pages.pfns), witness.mm(subject).rss_file
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    subject.munmap(area)
    after = witness.frames(pages.pfns)
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.pages(area).pfns == NO_PFN
    assert witness.mm(subject).rss_file == rss


@claim(
    "insert.munmap.2",
    "munmap(2)",
    "All pages containing a part of the indicated range are unmapped",
    reading="The rest keeps its inserted pages.",
    sabotage=mapcount(-1, at=2, page=2),
)
def test_munmap_of_a_part_keeps_the_rest(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 3)
    before, maps = witness.pages(area), witness.mm(subject).map_count
    subject.munmap(area[1])
    after = witness.frames(before.pfns)
    assert (after.refcounts, after.mapcounts) == ((2, 1, 2), (1, 0, 1))
    assert witness.pages(area).entries == (before.entries[0], 0, before.entries[2])
    assert witness.mm(subject).map_count == maps + 1
    assert "VM_MIXEDMAP" in witness.vma(area[2]).flags


@claim(
    "insert.munmap.3",
    "mm/memory.c",
    "What was written through a mapping makes its page dirty when it is unmapped, and only that page.",
    code="zap_pte_range(): folio_mark_dirty()",
    sabotage=page_flag("PG_dirty", set=False, at=2, page=1),
)
def test_a_written_page_is_dirty_when_it_is_unmapped(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=3)
    area = subject.insert("vm_insert_page", pages).area
    assert witness.frames(pages.pfns).flag("PG_dirty") == 0
    area[1].store()
    area[2].load()
    subject.munmap(area)
    assert witness.frames(pages.pfns).flag("PG_dirty") == (0, 1, 0)


@claim(
    "insert.exit.1",
    "_exit(2)",
    "terminates the calling process",
    reading="What it had mapped is given back, and others keep what they map.",
    sabotage=refcount(+1, at=2),
)
def test_a_process_that_ends_gives_back_its_pages(subject: Subject, witness: Witness) -> None:
    with subject.agent.spawn() as owner:
        pages = owner.alloc_pages("order0", nr=3)
        area = owner.insert("vm_insert_page", pages).area
        with owner.fork() as child:
            before = witness.frames(pages.pfns)
            owner.reap()
            after = witness.frames(pages.pfns)
            assert (before.refcounts, before.mapcounts) == (3, 2)
            assert (after.refcounts, after.mapcounts) == (2, 1)
            assert witness.pages(area, of=child).pfns == pages.pfns


@claim(
    "insert.mremap.1",
    "mremap(2)",
    "mremap() expands (or shrinks) an existing memory mapping, potentially moving it at the same time",
    reading="Inserted pages go along, dirty where they were, and are counted as before.",
    sabotage=entry_bit("dirty", set=False, at=2),
)
def test_mremap_moves_the_pages(subject: Subject, witness: Witness) -> None:
    area, room = inserted(subject, 2), subject.mmap(2, "none")
    area[0].store()
    before = witness.pages(area)
    moved = subject.mremap(area, 2, fixed_at=room.start)
    after = witness.pages(moved)
    assert (moved.start, after.pfns, after.dirty) == (room.start, before.pfns, (1, 0))
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert (after.writable, after.special) == (1, 0)
    assert witness.pages(area).entries == 0


@claim(
    "insert.mremap.2",
    "mremap(2)",
    "mremap() expands (or shrinks) an existing memory mapping",
    reading="A mixed map too, and what is new of it has no page.",
    sabotage=entry_bit("present", set=True, at=2),
)
def test_mremap_expands_a_mixed_map(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 2)
    before = witness.pages(area)
    larger = subject.mremap(area, 3)
    assert witness.pages(larger).pfns == (*before.pfns, NO_PFN)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        larger[2].load()
    smaller = subject.mremap(larger, 1)
    assert witness.pages(smaller).pfns == before.pfns[:1]
    assert witness.frames(before.pfns).refcounts == (2, 1)


@claim(
    "insert.mprotect.1",
    "mprotect(2)",
    "changes the access protections for the calling process's memory pages",
    reading="Of a part of a mixed map too.",
    sabotage=entry_bit("writable", set=True, at=2, page=1),
)
def test_mprotect_of_a_part(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 3).store()
    before = witness.pages(area)
    subject.mprotect(area[1], "r")
    after = witness.pages(area)
    assert (after.pfns, after.writable, after.dirty) == (before.pfns, (1, 0, 1), 1)
    assert after.refcounts == before.refcounts
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area[1].store()
    subject.mprotect(area[1], "rw")
    assert witness.pages(area).writable == 1


@claim(
    "insert.mprotect.2",
    "mprotect(2)",
    "PROT_NONE: The memory cannot be accessed at all.",
    reading="Inserted pages stay mapped and counted meanwhile.",
    sabotage=entry_pfn(+1, at=2),
)
def test_mprotect_none_keeps_the_pages(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 2)
    before = witness.pages(area)
    subject.mprotect(area, "none")
    closed = witness.pages(area)
    assert (closed.pfns, closed.prot_none, closed.user) == (before.pfns, 1, 0)
    assert (closed.refcounts, closed.mapcounts) == (before.refcounts, before.mapcounts)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area.load()
    subject.mprotect(area, "rw")
    area.store()
    assert witness.pages(area).pfns == before.pfns


@claim(
    "insert.madvise.1",
    "madvise(2)",
    "MADV_DONTNEED Do not expect access in the near future. [...] so the kernel can free resources "
    "associated with it.",
    reading="The pages of a mixed map are given back.",
    sabotage=refcount(+1, at=2),
)
def test_dontneed_gives_the_pages_back(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 3)
    before, rss = witness.pages(area), witness.mm(subject).rss_file
    subject.madvise(area[1:], "DONTNEED")
    after = witness.frames(before.pfns)
    assert (after.refcounts, after.mapcounts) == ((2, 1, 1), (1, 0, 0))
    assert witness.pages(area).present == (1, 0, 0)
    assert witness.mm(subject).rss_file == rss - 2
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        area[1].load()


@claim(
    "insert.fork.1",
    "fork(2)",
    "The child process is an exact duplicate of the parent process",
    reading="It maps the same pages, counted once more.",
    sabotage=mapcount(-1, at=2),
)
def test_fork_copies_inserted_pages(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 2)
    before, rss = witness.pages(area), witness.mm(subject).rss_file
    with subject.fork() as child:
        copied = witness.pages(area, of=child)
        assert (copied.pfns, copied.writable) == (before.pfns, 1)
        assert copied.mapcounts == before.mapcounts + 1
        assert copied.refcounts == before.refcounts + 1
        assert "VM_MIXEDMAP" in witness.vma(area, of=child).flags
        child.store(area.address(1), byte=0x3C)
        assert subject.peek(area.address(1), 1) == b"\x3c"
    after = witness.pages(area)
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.mm(subject).rss_file == rss


@claim(
    "insert.fork.2",
    "mmap(2)",
    "MAP_PRIVATE Create a private copy-on-write mapping. Updates to the mapping are not visible to "
    "other processes mapping the same file",
    reading="A store into an inserted page after fork() is seen neither by the parent nor by the driver.",
    sabotage=entry_bit("writable", set=True, at=1),
)
def test_fork_of_a_private_mapping(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vm_insert_page", pages, shared=False).area
    with subject.fork() as child:
        for who in (subject, child):
            seen = witness.pages(area, of=who)
            assert (seen.pfns, seen.writable, seen.refcounts) == (pages.pfns, 0, 3)
        child.store(area.start, byte=7)
        written, kept = witness.pages(area, of=child), witness.pages(area)
        assert (written.anon, kept.anon) == ((1, 0), 0)
        assert (kept.pfns, kept.refcounts, kept.mapcounts) == (pages.pfns, (2, 3), (1, 2))
        assert subject.peek(area.start, 1) == b"\0"


@claim(
    "insert.cow.1",
    "mmap(2)",
    "MAP_PRIVATE Create a private copy-on-write mapping.",
    reading="The first store copies the inserted page and lets go of it.",
    sabotage=entry_pfn(+1, at=2, page=1),
)
def test_a_store_to_a_private_page_copies_it(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    shared = subject.insert("vm_insert_page", pages).area.store(5)
    private = subject.insert("vm_insert_page", pages, shared=False).area
    before, rss = witness.pages(private), witness.mm(subject)
    subject.must(subject.store(private.address(0, 1), byte=9))
    after, counted = witness.pages(private), witness.mm(subject)
    assert (before.pfns, before.writable, before.refcounts) == (pages.pfns, 0, 3)
    assert after.pfns[0] not in pages.pfns
    assert after.pfns[1] == pages.pfns[1]
    assert (after.anon, after.writable) == ((1, 0), (1, 0))
    frames = witness.frames(pages.pfns)
    assert (frames.refcounts, frames.mapcounts) == ((2, 3), (1, 2))
    assert (counted.rss_anon, counted.rss_file) == (rss.rss_anon + 1, rss.rss_file - 1)
    assert witness.contents(private[0])[:2] == b"\x05\x09"
    assert witness.contents(shared[0])[:2] == b"\x05\x00"


@claim(
    "insert.mlock.1",
    "mm/mlock.c",
    "mlock() skips mappings that the kernel treats specially, mixed maps among them: it succeeds and "
    "locks nothing.",
    code="mlock_fixup()",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_mlock_does_not_lock_a_mixed_map(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 2)
    before = witness.mm(subject).locked_vm
    subject.mlock(area)
    assert not witness.vma(area).flags & {"VM_LOCKED", "VM_LOCKONFAULT"}
    assert witness.mm(subject).locked_vm == before
    assert witness.pages(area).flag("PG_mlocked") == 0


@claim(
    "insert.mlock.2",
    "mm/mlock.c",
    "Where no page was inserted, mlock() cannot bring one into memory: ENOMEM.",
    code="__mlock_posix_error_return()",
    sabotage=entry_bit("present", set=True),
)
def test_mlock_cannot_fill_a_hole(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vm_insert_page", pages, map_pages=3).area
    with subject.refuses("ENOMEM"):
        subject.mlock(area)
    assert witness.pages(area).pfns == (*pages.pfns, NO_PFN)


@claim(
    "insert.mlock.3",
    "mm/mmap.c",
    "mlockall(MCL_FUTURE) locks the mappings to come, but none that the kernel treats specially.",
    code="mmap_region()",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_a_mixed_map_to_come_is_not_locked(subject: Subject, witness: Witness) -> None:
    subject.mlockall("future")
    pages = subject.alloc_pages("order0", nr=2)
    before = witness.mm(subject).locked_vm
    area = subject.insert("vm_insert_page", pages).area
    assert witness.mm(subject).locked_vm == before
    assert "VM_LOCKED" not in witness.vma(area).flags


@claim(
    "insert.gup.1",
    "mm/gup.c",
    "An inserted page is a normal one: get_user_pages() can hold it, and gives it back.",
    code="follow_page_pte()",
    sabotage=refcount(-1, at=2),
)
def test_get_user_pages_can_hold_an_inserted_page(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 2)
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert (held.pfns, before.pfns) == (pins.pfns, pins.pfns)
        assert held.refcounts == before.refcounts + 1
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "insert.gup.2",
    "mm/gup.c",
    "An inserted page is a normal one: pin_user_pages() can pin it for long, and unpins it.",
    code="follow_page_pte()",
    sabotage=refcount(-1, at=2),
)
def test_pin_user_pages_can_pin_an_inserted_page(subject: Subject, witness: Witness) -> None:
    area = inserted(subject, 2)
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True, longterm=True) as pins:
        held = witness.pages(area)
        assert (held.pfns, before.pfns) == (pins.pfns, pins.pfns)
        assert held.pincounts == 1
        assert held.refcounts == before.refcounts + subject.layout("GUP_PIN_COUNTING_BIAS")
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "insert.gup.3",
    "mm/gup.c",
    "get_user_pages() for writing breaks copy-on-write as a store would: the driver's page is not the "
    "one it holds.",
    code="can_follow_write_pte()",
    sabotage=mapcount(+1, at=2),
)
def test_get_user_pages_for_writing_copies_a_private_page(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert("vm_insert_page", pages, shared=False).area
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert (held.pfns, held.anon, held.refcounts) == (pins.pfns, 1, 2)
        driver = witness.frames(pages.pfns)
        assert (driver.refcounts, driver.mapcounts) == (1, 0)
