"""pin_user_pages and its release."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_pfn, mm_flag, page_flag, refcount
from hostwalk.witness import Witness

PAGE = "pin_user_pages(9)"
RST = "core-api/pin_user_pages.rst"


@claim(
    "pin.bias.1", RST, "Each pin of an order-0 page adds GUP_PIN_COUNTING_BIAS to its reference count.",
    sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_a_pin_adds_the_bias(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + witness.layout["GUP_PIN_COUNTING_BIAS"]


@claim("pin.release.1", PAGE, "Pages are released with unpin_user_page.", sabotage=refcount(+1, at=2))
def test_unpin_gives_back_the_whole_bias(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as pins:
        pins.unpin()
    assert witness.pages(area).refcounts == before.refcounts


@claim("pin.fast.1", "pin_user_pages_fast(9)", "Pins like pin_user_pages.", sabotage=refcount(-1, at=2))
def test_a_fast_pin_adds_the_bias(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages_fast(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + witness.layout["GUP_PIN_COUNTING_BIAS"]
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "pin.zero.1", RST, "Pinning the zero page does not change its reference count.", sabotage=refcount(+1024, at=2),
    kernels=">=6.1",
)  # fmt: skip
def test_the_zero_page_is_not_counted(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").load()
    before = witness.pages(area)
    assert before.pfns == witness.zero_pfn
    with subject.pin_user_pages(area) as pins:
        held = witness.pages(area)
        assert pins.returned == 1
        assert held.pfns == witness.zero_pfn
        assert held.refcounts == before.refcounts


@claim(
    "pin.mm.1", "include/linux/sched/coredump.h", "MMF_HAS_PINNED: FOLL_PIN has run, never cleared",
    sabotage=mm_flag("MMF_HAS_PINNED", at=2),
)  # fmt: skip
def test_the_mm_is_marked(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    assert not witness.mm(subject).has_flag("MMF_HAS_PINNED")
    with subject.pin_user_pages(area, write=True):
        assert witness.mm(subject).has_flag("MMF_HAS_PINNED")


@claim(
    "pin.fork.1", RST, "A pinned anonymous page stays with the parent: fork copies it for the child at once.",
    sabotage=entry_pfn(+1),
)  # fmt: skip
def test_fork_copies_a_pinned_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.pin_user_pages(area[:1], write=True) as pins, subject.fork() as child:
        parents, childs = witness.pages(area), witness.pages(area, of=child)
        assert parents.pfns[:1] == pins.pfns
        assert parents.writable == (1, 0)
        assert parents.exclusive == (1, 0)
        assert childs.pfns.differing(parents.pfns) == (0,)
        assert childs.exclusive == (1, 0)


@claim(
    "pin.dirty.1", "unpin_user_pages_dirty_lock(9)", "The pages are marked dirty, then unpinned.",
    sabotage=page_flag("PG_dirty", set=False, at=2),
)  # fmt: skip
def test_unpin_dirty_lock_leaves_the_page_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw", shared=True, fd=subject.memfd(1)).load()
    before = witness.pages(area)
    with subject.pin_user_pages(area) as pins:
        assert before.flag("PG_dirty") == 0
        pins.unpin_dirty_lock()
        after = witness.pages(area)
        assert after.flag("PG_dirty") == 1
        assert after.refcounts == before.refcounts
