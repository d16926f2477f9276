"""Ways to give pins back: one by one, all at once, dirty, by mistake, after the process or its mapping is gone."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import page_flag, refcount
from hostwalk.witness import Witness

UNPIN = "unpin_user_pages(9)"
DIRTY = "unpin_user_pages_dirty_lock(9)"
RST = "core-api/pin_user_pages.rst"
GUP = "mm/gup.c"


@claim(
    "unpin.one.1", UNPIN, "For each page in the @pages array, release the page using unpin_user_page().",
    sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_unpin_user_pages_releases_each_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as pins:
        pins.unpin_pages(first=1, count=2)
        bias = witness.layout["GUP_PIN_COUNTING_BIAS"]
        assert witness.pages(area).refcounts == before.refcounts + (bias, 0, 0, bias)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "unpin.order.1", "unpin_user_page(9)", "Pages that were pinned via pin_user_pages*() must be released via either "
    "unpin_user_page(), or one of the unpin_user_pages*() routines.",
    sabotage=refcount(+1, at=5),
)  # fmt: skip
def test_any_order_will_do(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    bias = witness.layout["GUP_PIN_COUNTING_BIAS"]
    with subject.pin_user_pages(area, write=True) as pins:
        left = [bias, bias, bias]
        for page in (2, 0, 1):
            assert witness.pages(area).refcounts == before.refcounts + left
            pins.unpin(first=page, count=1)
            left[page] = 0
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "unpin.null.1",
    "mm/gup.c",
    "NULL entries are skipped.",
    code="gup_folio_next(), unpin_user_pages(): if (!pages[i])",
    kernels=">=6.12.5",
    sabotage=refcount(-1, at=2),
)
def test_null_entries_before_the_first_page_are_skipped(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as pins:
        pins.unpin(first=0, count=2)
        pins.unpin_pages()
        assert witness.pages(area).refcounts == before.refcounts


@claim(
    "unpin.errno.1", GUP, "More likely, gup/pup returned a hard -ERRNO error to the caller, who erroneously passed it "
    "here.", warns=r"unpin_user_pages", sabotage=refcount(-1, at=2),
)  # fmt: skip
def test_an_errno_for_a_count_releases_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as pins:
        pins.unpin_error()
        assert witness.pages(area).refcounts == before.refcounts + witness.layout["GUP_PIN_COUNTING_BIAS"]
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "unpin.dirty.1", DIRTY, "In any case, releases all pages using unpin_user_page()", sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_dirty_and_clean_pages_are_released_alike(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw", shared=True, fd=subject.memfd(3)).load()
    before = witness.pages(area)
    with subject.get_user_pages(area) as got:
        got.set_page_dirty_lock(first=1, count=1)
    with subject.pin_user_pages(area) as pins:
        pins.unpin_pages(dirty=True)
        after = witness.pages(area)
        assert after.refcounts == before.refcounts
        assert after.flag("PG_dirty") == 1


@claim(
    "unpin.dirty.2", DIRTY, "make that page (or its head page, if a compound page) dirty, if @make_dirty is true",
    sabotage=page_flag("PG_dirty", set=False, at=2, page=1),
)  # fmt: skip
def test_only_the_pages_of_the_call_get_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw", shared=True, fd=subject.memfd(3)).load()
    assert witness.pages(area).flag("PG_dirty") == 0
    with subject.pin_user_pages(area) as pins:
        pins.unpin_pages(first=1, count=1, dirty=True)
        pins.unpin_pages(first=0, count=1)
        assert witness.pages(area).flag("PG_dirty") == (0, 1, 0)


@claim(
    "unpin.range.1", "unpin_user_page_range_dirty_lock(9)", "make that range (or its head pages, if a compound page) "
    "dirty, if @make_dirty is true",
    sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_a_range_of_frames(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw", shared=True, fd=subject.memfd(1)).load()
    before = witness.pages(area)
    with subject.pin_user_pages(area) as pins:
        pins.unpin_range_dirty_lock()
        after = witness.pages(area)
        assert after.refcounts == before.refcounts
        assert after.flag("PG_dirty") == 1


@claim(
    "unpin.unmapped.1", RST, "An actual reference count, per struct page, is required.", sabotage=refcount(-1, at=2),
)  # fmt: skip
def test_a_pinned_page_outlives_its_mapping(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as pins:
        subject.munmap(area)
        orphans = witness.frames(pins.pfns)
        assert orphans.pfns == before.pfns
        assert orphans.refcounts == witness.layout["GUP_PIN_COUNTING_BIAS"]
        assert orphans.mapcounts == 0


@claim(
    "unpin.exit.1", RST, "multiple processes may pin and unpin a page.", sabotage=refcount(-1, at=2),
)  # fmt: skip
def test_a_pinned_page_outlives_its_process(subject: Subject, witness: Witness) -> None:
    with subject.agent.spawn() as other:
        area = other.mmap(pages=2, prot="rw").touch()
        before = witness.pages(area)
        with subject.pin_user_pages_remote(other, area, write=True) as pins:
            other.reap()
            orphans = witness.frames(pins.pfns)
            assert orphans.pfns == before.pfns
            assert orphans.refcounts == witness.layout["GUP_PIN_COUNTING_BIAS"]
            assert orphans.mapcounts == 0


@claim("unpin.mapped.1", RST, "a *replacement* for FOLL_GET", sabotage=refcount(-1, at=3))
def test_pages_keep_their_place_while_pinned(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.pin_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        subject.madvise(area, "DONTNEED")
        area.touch()
        fresh = witness.pages(area)
        assert len(fresh.pfns.differing(pins.pfns)) == 2
        assert witness.frames(pins.pfns).refcounts == held.refcounts - 1
