"""get_user_pages_fast: the same pages without the lock."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit, entry_pfn, page_flag, refcount
from hostwalk.witness import NO_PFN, Witness

PAGE = "get_user_pages_fast(9)"
ONLY = "get_user_pages_fast_only(9)"
GUP = "mm/gup.c"
FLAGS = "include/linux/mm_types.h"


@claim(
    "fast.same.1",
    PAGE,
    "Attempt to pin user pages in memory without taking mm->mmap_lock.",
    reading="The pages are those that the page tables map.",
    sabotage=entry_pfn(+1, at=2),
)
def test_fast_pins_the_mapped_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages_fast(area, write=True) as pins:
        held = witness.pages(area)
        assert pins.returned == 4
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "fast.entry.1",
    PAGE,
    "Attempt to pin user pages in memory without taking mm->mmap_lock.",
    reading="No entry changes.",
    sabotage=entry_bit("dirty", set=True, at=2),
)
def test_fast_leaves_entries_alone(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).load()
    before = witness.pages(area)
    with subject.get_user_pages_fast(area) as pins:
        after = witness.pages(area)
        assert pins.returned == 2
        assert after.entries == before.entries


@claim(
    "fast.zero.1",
    PAGE,
    "If nr_pages is 0 or negative, returns 0.",
    reading="0 pages of a populated mapping.",
    sabotage=refcount(+1, at=2),
    departs=departure(
        "nr_pages 0 pins the page at start and writes past the end of pages[]",
        cites="mm/gup.c: the end <= start guard was lost with c28b1fc70390, 5.11",
        shows=r"nr_pages=0\) returned 1\b",
        kernels=">=5.11",
    ),
)
def test_no_pages_asked_for(subject: Subject, witness: Witness) -> None:
    area = lone_page(subject).touch()
    before = witness.pages(area)
    with subject.get_user_pages_fast(area, nr_pages=0) as pins:
        after = witness.pages(area)
        assert pins.returned == 0, f"get_user_pages_fast(nr_pages=0) returned {pins.returned}"
        assert after.refcounts == before.refcounts


@claim(
    "fast.zero.2",
    PAGE,
    "If nr_pages is 0 or negative, returns 0.",
    reading="0 pages of an empty mapping.",
    sabotage=entry_bit("present", set=True),
)
def test_no_pages_asked_for_of_an_empty_mapping(subject: Subject, witness: Witness) -> None:
    area = lone_page(subject)
    with subject.get_user_pages_fast(area, nr_pages=0) as pins:
        assert (pins.returned, pins.filled) == (0, 0)
        assert witness.pages(area).present == 0


@claim(
    "fast.write.1",
    PAGE,
    "If not successful, it will fall back to taking the lock and calling get_user_pages().",
    reading="For writing, copy-on-write is broken.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_fast_write_breaks_copy_on_write(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").load()
    assert witness.pages(area).pfns == witness.zero_pfn
    with subject.get_user_pages_fast(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.writable == 1
        assert held.exclusive == 1


@claim(
    "fast.zero.3",
    "mm/gup.c",
    "The fast walk takes a page before it looks whether any is left to take: 0 pages of a populated "
    "range are one.",
    code="gup_pte_range(), gup_fast_pte_range(): do { ... } while (addr != end)",
    sabotage=refcount(-1, at=2),
    kernels=">=5.11",
)
def test_no_pages_asked_for_takes_one(subject: Subject, witness: Witness) -> None:
    area = lone_page(subject).touch()
    before = witness.pages(area)
    with subject.get_user_pages_fast(area, nr_pages=0) as pins:
        held = witness.pages(area)
        assert (pins.returned, pins.filled) == (1, 1)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1


@claim(
    "fast.back.1",
    PAGE,
    "If not successful, it will fall back to taking the lock and calling get_user_pages().",
    reading="What is missing is faulted in.",
    sabotage=entry_pfn(+1),
)
def test_fast_faults_in_what_is_missing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    with subject.get_user_pages_fast(area, write=True) as pins:
        held = witness.pages(area)
        assert pins.returned == 3
        assert held.pfns == pins.pfns
        assert held.refcounts == 2


@claim(
    "fast.back.2",
    PAGE,
    "If not successful, it will fall back to taking the lock and calling get_user_pages().",
    reading="The zero page is reached.",
    sabotage=refcount(-1, at=2),
)
def test_fast_reaches_the_zero_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").load()
    before = witness.pages(area)
    with subject.get_user_pages_fast(area) as pins, subject.get_user_pages_fast_only(area) as only:
        held = witness.pages(area)
        assert pins.pfns == (witness.zero_pfn,) * 2
        assert held.entries == before.entries
        assert held.refcounts == before.refcounts + 2
        assert (only.returned, only.filled) == (0, 0)


@claim(
    "fast.back.3",
    PAGE,
    "If not successful, it will fall back to taking the lock and calling get_user_pages().",
    reading="Inserted pages are reached.",
    sabotage=refcount(-1, at=2),
)
def test_fast_reaches_inserted_pages(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=2)).area
    before = witness.pages(area)
    for call in (subject.get_user_pages_fast, subject.get_user_pages):
        with call(area, write=True) as pins:
            held = witness.pages(area)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 1


@claim("fast.partial.1", PAGE, "This may be fewer than the number requested.", sabotage=refcount(+1, at=2))
def test_what_was_pinned_fast_is_kept_when_the_rest_fails(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    subject.munmap(area[2:])
    mapped = area[:2]
    before = witness.pages(mapped)
    with subject.get_user_pages_fast(area, write=True) as pins:
        held = witness.pages(mapped)
        assert (pins.returned, pins.filled) == (2, 2)
        assert held.refcounts == before.refcounts + 1
    assert witness.pages(mapped).refcounts == before.refcounts


@claim(
    "fast.errno.1",
    PAGE,
    "If no pages were pinned, returns -errno.",
    reading="An unmapped address is -EFAULT, and nothing is mapped there.",
    sabotage=entry_bit("present", set=True),
)
def test_fast_of_an_unmapped_address_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    hole = area[1:2]
    subject.munmap(hole)
    with subject.get_user_pages_fast(hole) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(hole).pfns == NO_PFN


@claim(
    "fast.none.1",
    PAGE,
    "If no pages were pinned, returns -errno.",
    reading="PROT_NONE memory is -EFAULT, and its pages are not held.",
    sabotage=refcount(+1, at=2),
)
def test_fast_does_not_follow_prot_none(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.mprotect(area, "none")
    before = witness.pages(area)
    with subject.get_user_pages_fast(area) as pins, subject.get_user_pages_fast_only(area) as only:
        after = witness.pages(area)
        assert (pins.errno, only.returned) == ("EFAULT", 0)
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts


@claim("fast.force.1", PAGE, "gup_flags: flags modifying pin behaviour", sabotage=refcount(-1, at=2))
def test_fast_takes_force_and_nofault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.mprotect(area, "none")
    before = witness.pages(area)
    with subject.get_user_pages_fast(area, force=True, nofault=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1


@claim(
    "fast.nofault.1",
    FLAGS,
    "do not fault in pages",
    reading="FOLL_NOFAULT, fast: what is not there stays away.",
    sabotage=entry_bit("present", set=True),
)
def test_fast_nofault_is_efault_where_nothing_is_mapped(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.get_user_pages_fast(area, nofault=True) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(area).pfns == NO_PFN


@claim(
    "fast.flags.1", GUP, "WARN_ON_ONCE(gup_flags & ~(FOLL_WRITE | FOLL_LONGTERM | FOLL_FORCE | ...)) return -EINVAL;",
    warns=r"gup_fast_fallback|internal_get_user_pages_fast|get_user_pages_fast", sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_fast_refuses_the_other_flags(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for flag in ("FOLL_NOWAIT", "FOLL_ANON", "FOLL_DUMP", "FOLL_SPLIT_PMD", "FOLL_HWPOISON"):
        with subject.get_user_pages_fast(area, flags=witness.layout[flag]) as pins:
            assert (flag, pins.errno, pins.filled) == (flag, "EINVAL", 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "fast.only.1",
    ONLY,
    "it won't fall back to the regular GUP",
    reading="It stops at the first page that is missing.",
    sabotage=refcount(-1, at=2),
)
def test_fast_only_stops_at_the_first_missing_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw")
    mapped = area[:2].touch()
    before = witness.pages(mapped)
    with subject.get_user_pages_fast_only(area, write=True) as pins:
        held = witness.pages(mapped)
        assert (pins.returned, pins.filled) == (2, 2)
        assert held.refcounts == before.refcounts + 1
        assert witness.pages(area[2:]).pfns == NO_PFN


@claim(
    "fast.only.2", ONLY, "this always returns the number of pages pinned, 0 if no pages were pinned.",
    kernels="<6.3", warns=r"get_user_pages_fast", sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_fast_only_is_never_negative(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for asked in (
        subject.get_user_pages_fast_only(area, nowait=True),
        subject.get_user_pages_fast_only(area, -1),
    ):
        assert (asked.returned, asked.filled) == (0, 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "fast.touch.1",
    "mm/gup.c",
    "The fast walk marks the page referenced and leaves the entry alone.",
    code="gup_pte_range(), gup_fast_pte_range(): folio_set_referenced()",
    sabotage=page_flag("PG_referenced", set=False, at=2),
)
def test_fast_marks_the_page_not_the_entry(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).load()
    subject.clear_young()
    before = witness.pages(area)
    assert (before.flag("PG_referenced").any, before.flag("PG_dirty").any) == (False, False)
    with subject.get_user_pages_fast(area, write=True):
        after = witness.pages(area)
        assert after.flag("PG_referenced") == 1
        assert after.flag("PG_dirty") == 0
        assert after.entries == before.entries


def lone_page(subject: Subject) -> Area:
    """Return a page between PROT_NONE neighbours, so that a walk that runs on stops there."""
    around = subject.mmap(pages=3, prot="none")
    subject.mprotect(around[1:2], "rw")
    return around[1:2]
