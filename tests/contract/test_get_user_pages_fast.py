"""get_user_pages_fast: the same pages without the lock."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit, entry_pfn, refcount
from hostwalk.witness import Witness

PAGE = "get_user_pages_fast(9)"


@claim(
    "fast.same.1", PAGE, "Attempt to pin user pages in memory without taking mm->mmap_lock.",
    sabotage=entry_pfn(+1, at=2),
)  # fmt: skip
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
    "fast.entry.1", PAGE, "The walk without the lock changes no page-table entry.",
    sabotage=entry_bit("dirty", set=True, at=2),
)  # fmt: skip
def test_fast_leaves_entries_alone(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).load()
    before = witness.pages(area)
    with subject.get_user_pages_fast(area) as pins:
        after = witness.pages(area)
        assert pins.returned == 2
        assert after.entries == before.entries


@claim(
    "fast.zero.1", PAGE, "If nr_pages is 0 or negative, returns 0.",
    sabotage=refcount(+1, at=2),
    departs=departure(
        "nr_pages 0 pins the page at start and writes past the end of pages[]",
        cites="mm/gup.c: the end <= start guard was lost with c28b1fc70390, 5.11",
        shows=r"returned|refcount",
        kernels=">=5.11",
    ),
)  # fmt: skip
def test_no_pages_asked_for(subject: Subject, witness: Witness) -> None:
    area = lone_page(subject).touch()
    before = witness.pages(area)
    with subject.get_user_pages_fast(area, nr_pages=0) as pins:
        after = witness.pages(area)
        assert pins.returned == 0, f"get_user_pages_fast(nr_pages=0) returned {pins.returned}"
        assert after.refcounts == before.refcounts


@claim(
    "fast.zero.2", PAGE, "If nr_pages is 0 and the page at start is not populated, returns 0 and populates nothing.",
    sabotage=entry_bit("present", set=True),
)  # fmt: skip
def test_no_pages_asked_for_of_an_empty_mapping(subject: Subject, witness: Witness) -> None:
    area = lone_page(subject)
    with subject.get_user_pages_fast(area, nr_pages=0) as pins:
        assert (pins.returned, pins.filled) == (0, 0)
        assert witness.pages(area).present == 0


@claim(
    "fast.write.1", PAGE, "A read-only entry is never followed for FOLL_WRITE: copy-on-write is broken first.",
    sabotage=entry_bit("writable", set=False, at=2),
)  # fmt: skip
def test_fast_write_breaks_copy_on_write(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").load()
    assert witness.pages(area).pfns == witness.zero_pfn
    with subject.get_user_pages_fast(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.writable == 1
        assert held.exclusive == 1


def lone_page(subject: Subject) -> Area:
    """Return a page between PROT_NONE neighbours, so that a walk that runs on stops there."""
    around = subject.mmap(pages=3, prot="none")
    subject.mprotect(around[1:2], "rw")
    return around[1:2]
