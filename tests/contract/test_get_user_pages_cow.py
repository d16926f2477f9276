"""get_user_pages and copy-on-write: huge pages, force, files whose file system wants to know of writes."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable_if
from hostwalk.guest import Subject
from hostwalk.needs import huge_page, soft_dirty
from hostwalk.sabotage import entry_bit, entry_pfn, refcount
from hostwalk.witness import Witness

OLD_PAGE = "__get_user_pages(9)"
FAST_PAGE = "get_user_pages_fast(9)"
FLAGS = "include/linux/mm_types.h"
INTERNAL = "mm/internal.h"
GUP = "mm/gup.c"
UNSHARE = (
    "GUP has to trigger unsharing via FAULT_FLAG_UNSHARE such that the GUP pin will remain consistent with the pages "
    "mapped into the page tables of the MM."
)
FORCE = "FOLL_FORCE can write to even unwritable PTEs in COW mappings."
FALL_BACK = "If not successful, it will fall back to taking the lock and calling get_user_pages()."
INSTANT = "takes the page that would be accessed if a user thread accesses the given user virtual address"


@claim(
    "huge.unshare.1",
    INTERNAL,
    UNSHARE,
    reading="A page of a huge page that fork has shared: what is pinned is what the process goes on using.",
    sabotage=entry_pfn(+1, at=2, page=0),
)
def test_a_read_pin_unshares_a_page_of_a_huge_page(subject: Subject, witness: Witness) -> None:
    for call in (subject.pin_user_pages, subject.pin_user_pages_fast):
        area = huge_page(subject, witness)
        part = area[:2].touch(0x1B)
        with subject.fork() as child, call(area[:1]) as pins:
            mine = witness.pages(part)
            assert mine.pfns[:1] == pins.pfns
            assert mine.exclusive[0] == 1
            area[:1].store(0x1C)
            assert witness.pages(area[:1]).pfns == pins.pfns
            assert child.peek(area.start, 1) == b"\x1b"


@claim(
    "huge.force.1",
    GUP,
    FORCE,
    reading="An exclusive huge page is written where it is; its entry stays read-only.",
    sabotage=entry_bit("writable", set=True, at=3),
)
def test_force_writes_an_exclusive_huge_page_where_it_is(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    subject.mprotect(area, "r")
    part = area[:2]
    before = witness.pages(part)
    with subject.get_user_pages(part, write=True, force=True) as pins:
        held = witness.pages(part)
        assert (held.pfns, held.huge, held.writable) == (before.pfns, 1, 0)
        assert held.pfns == pins.pfns


@claim(
    "huge.force.2",
    GUP,
    FORCE,
    reading="A huge page that fork has shared is copied first, and the child's stays.",
    sabotage=entry_pfn(+1, at=3, page=0),
)
def test_force_copies_a_shared_huge_page(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:2].touch(0x1B)
    subject.mprotect(area, "r")
    before = witness.pages(part)
    with subject.fork() as child, subject.get_user_pages(area[:1], write=True, force=True) as pins:
        mine, theirs = witness.pages(part), witness.pages(part, of=child)
        assert mine.pfns[:1] == pins.pfns
        assert mine.pfns[0] != before.pfns[0]
        assert (mine.writable, theirs.pfns) == (0, before.pfns)
        assert child.peek(area.start, 1) == b"\x1b"


@claim(
    "huge.touch.1",
    GUP,
    "FOLL_TOUCH: mark page accessed",
    reading="For writing, of a huge page: in its entry.",
    code="follow_huge_pmd(), follow_trans_huge_pmd(): touch_pmd()",
    sabotage=entry_bit("young", set=False, at=3),
)
def test_a_huge_page_is_marked_accessed_in_its_entry(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    subject.clear_young()
    part = area[:2]
    before = witness.pages(part)
    assert (before.huge, before.young) == (1, 0)
    with subject.get_user_pages(area[:1], write=True):
        after = witness.pages(part)
        assert (after.huge, after.young, after.pfns) == (1, 1, before.pfns)


@claim(
    "gup.force.6",
    GUP,
    FORCE,
    reading="A page that fork has shared is copied first: the child's is not the one that is held.",
    sabotage=entry_pfn(+1, at=3, page=0),
)
def test_force_copies_a_page_that_fork_shared(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x1B)
    subject.mprotect(area, "r")
    before = witness.pages(area)
    with subject.fork() as child:
        theirs = witness.pages(area, of=child)
        with subject.get_user_pages(area[:1], write=True, force=True) as pins:
            mine = witness.pages(area)
            assert mine.pfns[:1] == pins.pfns
            assert mine.pfns.differing(before.pfns) == (0,)
            assert (mine.writable, mine.exclusive[0], mine.anon) == (0, 1, 1)
        assert theirs.pfns == before.pfns
        assert child.peek(area.start, 1) == b"\x1b"


@claim(
    "fast.cow.1",
    FAST_PAGE,
    FALL_BACK,
    reading="For writing, a page that fork has shared is copied first, and the child keeps what was there.",
    sabotage=entry_pfn(+1, at=2, page=0),
)
def test_a_fast_write_copies_what_fork_shared(subject: Subject, witness: Witness) -> None:
    for call in (subject.get_user_pages_fast, subject.pin_user_pages_fast):
        area = subject.mmap(pages=2).touch(0x1B)
        before = witness.pages(area)
        with subject.fork() as child, call(area[:1], write=True) as pins:
            mine, theirs = witness.pages(area), witness.pages(area, of=child)
            assert mine.pfns[:1] == pins.pfns
            assert mine.pfns.differing(before.pfns) == (0,)
            assert (mine.writable, mine.exclusive[0]) == ((1, 0), 1)
            assert theirs.pfns == before.pfns


@claim(
    "fast.cow.2",
    FAST_PAGE,
    FALL_BACK,
    reading="For writing, a page of a file that is mapped privately is copied first.",
    sabotage=entry_pfn(+1, at=2, page=0),
)
def test_a_fast_write_copies_a_page_of_a_private_file(subject: Subject, witness: Witness) -> None:
    for call in (subject.get_user_pages_fast, subject.pin_user_pages_fast):
        area = subject.mmap(pages=2, fd=subject.memfd(2)).load()
        before = witness.pages(area)
        with call(area[:1], write=True) as pins:
            held = witness.pages(area)
            assert held.pfns[:1] == pins.pfns
            assert held.pfns.differing(before.pfns) == (0,)
            assert (held.anon, held.writable) == ((1, 0), (1, 0))


@claim(
    "fast.cow.3",
    FAST_PAGE,
    FALL_BACK,
    reading="For writing, of a huge page that fork has shared the page that is asked for is copied first.",
    sabotage=entry_pfn(+1, at=3, page=0),
)
def test_a_fast_write_copies_a_page_of_a_huge_page(subject: Subject, witness: Witness) -> None:
    for call in (subject.get_user_pages_fast, subject.pin_user_pages_fast):
        area = huge_page(subject, witness)
        part = area[:2].touch(0x1B)
        before = witness.pages(part)
        with subject.fork() as child, call(area[:1], write=True) as pins:
            mine, theirs = witness.pages(part), witness.pages(part, of=child)
            assert mine.pfns[:1] == pins.pfns
            assert mine.pfns.differing(before.pfns) == (0,)
            assert (mine.writable, theirs.pfns) == ((1, 0), before.pfns)


@claim(
    "fast.shared.1",
    FAST_PAGE,
    FALL_BACK,
    reading="For writing, a file system that wants to know of writes is told of the first one.",
    sabotage=entry_bit("writable", set=False, at=2, page=0),
)
def test_a_fast_write_tells_the_file_system(subject: Subject, witness: Witness) -> None:
    assert_told(subject, witness, fast=True)


def assert_told(subject: Subject, witness: Witness, *, fast: bool) -> None:
    """Take a clean page of a shared file for writing: just its entry becomes writable and dirty."""
    call = subject.get_user_pages_fast if fast else subject.get_user_pages
    with subject.file_system("ramfs") as where:
        fd = subject.open(f"{where}/file", "O_RDWR|O_CREAT")
        subject.ftruncate(fd, 2)
        area = subject.mmap(pages=2, shared=True, fd=fd).load()
        before = witness.pages(area)
        with call(area[:1], write=True) as pins:
            held = witness.pages(area)
        subject.munmap(area)
        subject.close(fd)
    assert (before.writable, before.dirty) == (0, 0)
    assert held.pfns[:1] == pins.pfns
    assert (held.pfns, held.writable, held.dirty) == (before.pfns, (1, 0), (1, 0))


@claim(
    "gup.shared.1",
    FLAGS,
    "check pte is writable",
    reading="FOLL_WRITE of a clean page whose file system wants to know of writes: the entry is writable and dirty.",
    sabotage=entry_bit("writable", set=False, at=2, page=0),
)
def test_write_tells_the_file_system(subject: Subject, witness: Witness) -> None:
    assert_told(subject, witness, fast=False)


@claim(
    "gup.levels.1",
    OLD_PAGE,
    INSTANT,
    reading="On both sides of the end of a pmd table and of a pud table.",
    sabotage=refcount(-1, at=2, page=7),
)
def test_a_range_over_the_end_of_higher_tables(subject: Subject, witness: Witness) -> None:
    for level in (1, 2):
        with not_applicable_if("ENOMEM", "user space has no second table of that level"):
            area = subject.across_tables(level=level).touch()
        before = witness.pages(area)
        for call in (subject.get_user_pages, subject.get_user_pages_fast, subject.get_user_pages_unlocked):
            with call(area, write=True) as pins:
                held = witness.pages(area)
                assert held.pfns == pins.pfns
                assert held.refcounts == before.refcounts + 1
                assert held.entries == before.entries
        assert witness.pages(area).refcounts == before.refcounts


@claim(
    "pin.soft_dirty.1",
    "mm/memory.c",
    "A page that is unshared for a pin is as soft-dirty as it was: nobody has written it.",
    code="wp_page_copy(): pte_soft_dirty()",
    sabotage=entry_bit("soft_dirty", set=True, at=1, page=0),
)
def test_unsharing_is_no_write(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area = subject.mmap(pages=2).touch()
    subject.clear_soft_dirty()
    area[1:].touch()
    with subject.fork(), subject.pin_user_pages(area) as pins:
        mine = witness.pages(area)
        assert mine.pfns == pins.pfns
        assert (mine.exclusive, mine.soft_dirty, mine.writable) == (1, (0, 1), 0)


@claim(
    "gup.partial.2",
    OLD_PAGE,
    "This may be fewer than the number requested.",
    reading="Each call, wherever the hole is: what it says it took is held, and nothing else.",
    sabotage=refcount(+1, at=2, page=5),
)
def test_a_hole_anywhere_ends_every_call(subject: Subject, witness: Witness) -> None:
    for hole in (1, 4, 7):
        area = subject.across_tables(pages=8).touch()
        subject.munmap(area[hole : hole + 1])
        before = witness.pages(area)
        calls = (
            subject.get_user_pages,
            subject.get_user_pages_fast,
            subject.get_user_pages_unlocked,
            subject.pin_user_pages,
            subject.pin_user_pages_fast,
        )
        for call in calls:
            with call(area, write=True) as pins:
                held = witness.pages(area)
                bias = witness.layout["GUP_PIN_COUNTING_BIAS"] if "pin" in call.__name__ else 1
                taken = [bias if page < hole else 0 for page in range(8)]
                assert (pins.returned, pins.filled) == (hole, hole)
                assert held.refcounts == before.refcounts + taken
            assert witness.pages(area).refcounts == before.refcounts
