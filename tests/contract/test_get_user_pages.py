"""get_user_pages and __get_user_pages: what is returned, and what is held until it is put."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mm_counter, page_flag, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

DOC = "get_user_pages_remote(9)"
FLAGS = "include/linux/mm_types.h"
OLD_PAGE = "__get_user_pages(9)"


@claim("gup.count.1", OLD_PAGE, "Returns number of pages pinned.", sabotage=refcount(-1, at=2))
def test_returns_the_number_of_pages_pinned(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert pins.returned == (held.refcounts - before.refcounts).count(1) == area.pages


@claim(
    "gup.ref.1",
    OLD_PAGE,
    "Each page returned must be released with a put_page call when it is finished with.",
    reading="One reference for each page, until put_page().",
    sabotage=refcount(+1, at=3),
)
def test_each_page_holds_one_reference_until_put_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert held.refcounts == before.refcounts + 1
        pins.put(first=1, count=2)
        some = witness.pages(area)
        assert some.refcounts == before.refcounts + (1, 0, 0, 1)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.instant.1",
    OLD_PAGE,
    "It takes the page that would be accessed if a user thread accesses the given user virtual address at that "
    "instant.",
    reading="The pages are those that the page tables map.",
    sabotage=entry_pfn(+1),
)
def test_pages_are_those_the_page_tables_map(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=8, prot="rw").touch()
    with subject.get_user_pages(area) as pins:
        assert witness.pages(area).pfns == pins.pfns


@claim(
    "gup.zero.1",
    OLD_PAGE,
    "If nr_pages is 0 or negative, returns 0.",
    reading="nr_pages 0: nothing is taken, no entry changes.",
    sabotage=refcount(+1, at=2),
)
def test_no_pages_asked_for(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, nr_pages=0) as pins:
        after = witness.pages(area)
        assert (pins.returned, pins.filled) == (0, 0)
        assert after.refcounts == before.refcounts
        assert after.entries == before.entries


@claim(
    "gup.partial.1",
    OLD_PAGE,
    "This may be fewer than the number requested.",
    reading="A hole ends the walk, and what was taken before it is kept.",
    sabotage=refcount(-1, at=2),
)
def test_a_hole_ends_the_walk_and_keeps_what_was_pinned(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=6, prot="rw").touch()
    subject.munmap(area[4:])
    mapped = area[:4]
    before = witness.pages(mapped)
    with subject.get_user_pages(area) as pins:
        held = witness.pages(mapped)
        assert (pins.returned, pins.filled) == (4, 4)
        assert held.refcounts == before.refcounts + 1
        assert held.pfns == pins.pfns


@claim(
    "gup.errno.1",
    OLD_PAGE,
    "If no pages were pinned, returns -errno.",
    reading="An unmapped address is -EFAULT, and nothing is mapped there.",
    sabotage=entry_bit("present", set=True),
)
def test_an_unmapped_address_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    hole = area[1:2]
    subject.munmap(hole)
    with subject.get_user_pages(hole) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(hole).pfns == NO_PFN


@claim(
    "gup.write.1",
    FLAGS,
    "check pte is writable",
    reading=(
        "FOLL_WRITE breaks copy-on-write of the zero page: what is held is a writable page of the "
        "process's own."
    ),
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_write_breaks_copy_on_write(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").load()
    before = witness.pages(area)
    assert before.pfns == witness.zero_pfn
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.writable == 1
        assert held.anon == 1
        assert held.exclusive == 1
        assert witness.zero_pfn not in held.pfns


@claim(
    "gup.read.1",
    OLD_PAGE,
    "It takes the page that would be accessed if a user thread accesses the given user virtual address at that "
    "instant.",
    reading="A read of memory that was never touched takes the zero page.",
    sabotage=entry_pfn(+1, at=1),
)
def test_read_maps_the_zero_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.get_user_pages(area) as pins:
        held = witness.pages(area)
        assert pins.returned == 2
        assert held.pfns == witness.zero_pfn
        assert held.writable == 0


@claim(
    "gup.dirty.1", OLD_PAGE,
    "If the page is written to, set_page_dirty (or set_page_dirty_lock, as appropriate) must be called after the "
    "page is finished with, and before put_page is called.",
    sabotage=page_flag("PG_dirty", set=False, at=2),
)  # fmt: skip
def test_set_page_dirty_lock_leaves_the_page_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).load()
    before = witness.pages(area)
    with subject.get_user_pages(area) as pins:
        assert before.flag("PG_dirty") == 0
        pins.set_page_dirty_lock(first=0, count=1)
        after = witness.pages(area)
        assert after.flag("PG_dirty") == (1, 0)
        assert after.refcounts == before.refcounts + (0, 1)


@claim(
    "gup.unmapped.1",
    OLD_PAGE,
    "This does not guarantee that the page exists in the user mappings when __get_user_pages returns [...] However it "
    "does guarantee that the page won't be freed completely.",
    reading="A page that is held outlives its mapping.",
    sabotage=refcount(-1, at=2),
)
def test_a_held_page_outlives_its_mapping(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area) as pins:
        subject.munmap(area)
        orphans = witness.frames(pins.pfns)
        assert orphans.pfns == before.pfns
        assert orphans.refcounts == 1
        assert orphans.mapcounts == 0
    assert witness.frames(before.pfns).refcounts == 0


@claim(
    "gup.vma.1",
    OLD_PAGE,
    "__get_user_pages walks a process's page tables and takes a reference to each struct page",
    reading="The mapping stays as it was.",
    sabotage=vm_flag("VM_LOCKED", at=2),
)
def test_the_vma_stays_as_it_was(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.vma(area)
    with subject.get_user_pages(area, write=True):
        assert witness.vma(area) == before


@claim(
    "gup.negative.1",
    OLD_PAGE,
    "If nr_pages is 0 or negative, returns 0.",
    reading="nr_pages -1.",
    sabotage=refcount(+1, at=2),
    departs=departure(
        "nr_pages is unsigned long: a negative number is a huge one, and every page up to the next hole is taken",
        cites="mm/gup.c, __get_user_pages(): unsigned long nr_pages, and only if (!nr_pages) return 0",
        shows="nr_pages -1 took 3 pages",
        kernels=">=3.9",
    ),
)
def test_a_negative_number_of_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    subject.munmap(area[3:])
    before = witness.pages(area[:3])
    with subject.get_user_pages(area, nr_pages=-1) as pins:
        after = witness.pages(area[:3])
        assert pins.returned == 0, f"nr_pages -1 took {pins.returned} pages"
        assert after.refcounts == before.refcounts


@claim(
    "gup.negative.2",
    "mm/gup.c",
    "A negative number of pages is a huge one: as many are taken as there are.",
    code="__get_user_pages(): unsigned long nr_pages",
    sabotage=refcount(+1, at=2),
)
def test_a_negative_number_is_as_many_as_there_are(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    subject.munmap(area[3:])
    before = witness.pages(area[:3])
    with subject.get_user_pages(area, nr_pages=-1) as pins:
        held = witness.pages(area[:3])
        assert pins.returned == 3
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1
    assert witness.pages(area[:3]).refcounts == before.refcounts


@claim(
    "gup.null.1",
    DOC,
    "Or NULL, if caller only intends to ensure the pages are faulted in.",
    reading="The pages are mapped and nobody holds them.",
    sabotage=refcount(+1),
)
def test_without_pages_they_are_only_faulted_in(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    with subject.get_user_pages(area, write=True, no_pages=True) as pins:
        after = witness.pages(area)
        assert (pins.returned, pins.filled) == (3, 0)
        assert (after.present, after.writable, after.anon) == (1, 1, 1)
        assert after.refcounts == 1
        assert after.mapcounts == 1


@claim(
    "gup.rss.1",
    DOC,
    "Or NULL, if caller only intends to ensure the pages are faulted in.",
    reading="What is faulted in is resident, and nothing else is counted.",
    sabotage=mm_counter("pinned_vm", +1, at=2),
)
def test_what_is_faulted_in_is_resident_and_nothing_else_is_counted(
    subject: Subject, witness: Witness
) -> None:
    area = subject.mmap(pages=5, prot="rw")
    subject.exerciser  # noqa: B018 (open it before the first reading)
    before = witness.mm(subject)
    with subject.get_user_pages(area, write=True):
        held = witness.mm(subject)
        assert held.rss_anon == before.rss_anon + 5
        assert (held.rss_file, held.rss_shmem) == (before.rss_file, before.rss_shmem)
        assert (held.total_vm, held.locked_vm, held.pinned_vm) == (
            before.total_vm,
            before.locked_vm,
            before.pinned_vm,
        )
    assert witness.mm(subject).rss_anon == held.rss_anon


@claim(
    "gup.ref.2",
    OLD_PAGE,
    "Each page returned must be released with a put_page call when it is finished with.",
    reading="Every call takes a reference of its own.",
    sabotage=refcount(-1, at=2),
)
def test_every_call_takes_a_reference_of_its_own(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with (
        subject.get_user_pages(area),
        subject.get_user_pages_fast(area),
        subject.get_user_pages_unlocked(area),
    ):
        assert witness.pages(area).refcounts == before.refcounts + 3
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.ref.3",
    OLD_PAGE,
    "takes a reference to each struct page that each user address corresponds to",
    reading="A page at two addresses is taken twice.",
    sabotage=refcount(-1, at=2),
)
def test_a_page_at_two_addresses_is_taken_twice(subject: Subject, witness: Witness) -> None:
    around, fd = subject.mmap(pages=2, prot="none"), subject.memfd(1)
    for page in (around[0], around[1]):
        subject.mmap(pages=1, prot="rw", shared=True, fd=fd, fixed_at=page.start, replace=True)
    before = witness.pages(around.touch())
    assert before.pfns[0] == before.pfns[1]
    with subject.get_user_pages(around) as pins:
        held = witness.pages(around)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 2


@claim(
    "gup.cow.1",
    FLAGS,
    "check pte is writable",
    reading="FOLL_WRITE of a page that fork has shared takes a copy, as a store would.",
    sabotage=entry_pfn(+1, at=2),
)
def test_write_takes_a_copy_of_a_page_shared_by_fork(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch(7)
    before = witness.pages(area)
    with subject.fork() as child, subject.get_user_pages(area[:1], write=True) as pins:
        mine, childs = witness.pages(area), witness.pages(area, of=child)
        assert mine.pfns[:1] == pins.pfns
        assert mine.pfns.differing(before.pfns) == (0,)
        assert childs.pfns == before.pfns
        assert (mine.writable, mine.exclusive) == ((1, 0), (1, 0))
        assert witness.contents(area)[0] == 7


@claim(
    "gup.dirty.2", OLD_PAGE, "set_page_dirty (or set_page_dirty_lock, as appropriate) must be called after the page is "
    "finished with, and before put_page is called.",
    sabotage=page_flag("PG_dirty", set=False, at=2, page=1),
)  # fmt: skip
def test_set_page_dirty_leaves_the_page_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).load()
    before = witness.pages(area)
    with subject.get_user_pages(area) as pins:
        assert before.flag("PG_dirty") == 0
        pins.set_page_dirty(first=1)
        after = witness.pages(area)
        assert after.flag("PG_dirty") == (0, 1)
        assert after.refcounts == before.refcounts + (1, 0)


@claim(
    "gup.exit.1",
    OLD_PAGE,
    "However it does guarantee that the page won't be freed completely.",
    reading="A page that is held outlives its process.",
    sabotage=refcount(-1, at=2),
)
def test_a_held_page_outlives_its_process(subject: Subject, witness: Witness) -> None:
    with subject.agent.spawn() as other:
        area = other.mmap(pages=2, prot="rw").touch()
        before = witness.pages(area)
        with subject.get_user_pages_remote(other, area) as pins:
            other.reap()
            orphans = witness.frames(pins.pfns)
            assert orphans.pfns == before.pfns
            assert (orphans.refcounts, orphans.mapcounts) == (1, 0)
