"""pin_user_pages and its release."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import mm_flag, node_counter, page_flag, refcount
from hostwalk.witness import Witness

PAGE = "pin_user_pages(9)"
RST = "core-api/pin_user_pages.rst"
ACQUIRED, RELEASED = "NR_FOLL_PIN_ACQUIRED", "NR_FOLL_PIN_RELEASED"


@claim(
    "pin.bias.1", RST, "pins pages by incrementing each by a special value: GUP_PIN_COUNTING_BIAS.",
    sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_a_pin_adds_the_bias(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + witness.layout["GUP_PIN_COUNTING_BIAS"]


@claim(
    "pin.release.1",
    PAGE,
    "FOLL_PIN means that the pages must be released via unpin_user_page().",
    sabotage=refcount(+1, at=2),
)
def test_unpin_gives_back_the_whole_bias(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as pins:
        pins.unpin()
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "pin.fast.1",
    "pin_user_pages_fast(9)",
    "Nearly the same as get_user_pages_fast(), except that FOLL_PIN is set.",
    sabotage=refcount(-1, at=2),
)
def test_a_fast_pin_adds_the_bias(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages_fast(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + witness.layout["GUP_PIN_COUNTING_BIAS"]
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "pin.mm.1",
    "include/linux/sched/coredump.h",
    "FOLL_PIN has run, never cleared",
    reading="MMF_HAS_PINNED is set in the mm whose pages are pinned.",
    sabotage=mm_flag("MMF_HAS_PINNED", at=2),
)
def test_the_mm_is_marked(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    assert not witness.mm(subject).has_flag("MMF_HAS_PINNED")
    with subject.pin_user_pages(area, write=True):
        assert witness.mm(subject).has_flag("MMF_HAS_PINNED")


@claim(
    "pin.dirty.1",
    "unpin_user_pages_dirty_lock(9)",
    "make that page [...] dirty, if @make_dirty is true, and if the page was previously listed as clean.",
    sabotage=page_flag("PG_dirty", set=False, at=2),
)
def test_unpin_dirty_lock_leaves_the_page_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw", shared=True, fd=subject.memfd(1)).load()
    before = witness.pages(area)
    with subject.pin_user_pages(area) as pins:
        assert before.flag("PG_dirty") == 0
        pins.unpin_dirty_lock()
        after = witness.pages(area)
        assert after.flag("PG_dirty") == 1
        assert after.refcounts == before.refcounts


@claim(
    "pin.ref.1",
    RST,
    "pins pages by incrementing each by a special value",
    reading="Pins of one page add up.",
    sabotage=refcount(-1, at=3),
)
def test_pins_of_one_page_add_up(subject: Subject, witness: Witness) -> None:
    bias = witness.layout["GUP_PIN_COUNTING_BIAS"]
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True) as first:
        with subject.pin_user_pages_fast(area[1:], write=True):
            assert witness.pages(area).refcounts == before.refcounts + (bias, 2 * bias)
        assert witness.pages(area).refcounts == before.refcounts + bias
        first.unpin(first=1)
        assert witness.pages(area).refcounts == before.refcounts + (bias, 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "pin.ref.2", RST, "multiple threads and call sites are free to pin the same struct pages, via both FOLL_PIN and "
    "FOLL_GET.", sabotage=refcount(-1, at=2),
)  # fmt: skip
def test_pins_and_references_of_one_page(subject: Subject, witness: Witness) -> None:
    bias = witness.layout["GUP_PIN_COUNTING_BIAS"]
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True), subject.get_user_pages(area[:1]) as got:
        assert witness.pages(area).refcounts == before.refcounts + (bias + 1, bias)
        got.put()
        assert witness.pages(area).refcounts == before.refcounts + bias


@claim(
    "pin.ref.3",
    RST,
    "pins pages by incrementing each by a special value",
    reading="A page at two addresses is pinned twice.",
    sabotage=refcount(-1, at=2),
)
def test_a_page_at_two_addresses_is_pinned_twice(subject: Subject, witness: Witness) -> None:
    around, fd = subject.mmap(pages=2, prot="none"), subject.memfd(1)
    for page in (around[0], around[1]):
        subject.mmap(pages=1, prot="rw", shared=True, fd=fd, fixed_at=page.start, replace=True)
    before = witness.pages(around.touch())
    with subject.pin_user_pages(around, write=True) as pins:
        held = witness.pages(around)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 2 * witness.layout["GUP_PIN_COUNTING_BIAS"]
        pins.unpin_pages()
    assert witness.pages(around).refcounts == before.refcounts


@claim(
    "pin.partial.1",
    "get_user_pages_fast(9)",
    "This may be fewer than the number requested.",
    reading="pin_user_pages_fast(), which is nearly the same.",
    sabotage=refcount(+1, at=2),
)
def test_a_hole_keeps_the_pins_before_it(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    subject.munmap(area[2:3])
    before = witness.pages(area)
    for call in (subject.pin_user_pages, subject.pin_user_pages_fast, subject.pin_user_pages_unlocked):
        with call(area, write=True) as pins:
            held = witness.pages(area[:2])
            assert (pins.returned, pins.filled) == (2, 2)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts[:2] + witness.layout["GUP_PIN_COUNTING_BIAS"]
        assert witness.pages(area).refcounts == before.refcounts


@claim(
    "pin.stat.1", RST, "nr_foll_pin_acquired: This is the number of logical pins that have been acquired since the "
    "system was powered on.", sabotage=node_counter(ACQUIRED, +1, at=2),
)  # fmt: skip
def test_pins_are_counted_as_acquired_and_released(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.counters()
    with (
        subject.pin_user_pages(area, write=True) as slow, subject.pin_user_pages_fast(area, write=True),
        subject.pin_user_pages_remote(subject, area),
    ):  # fmt: skip
        held = witness.counters()
        assert (held[ACQUIRED], held[RELEASED]) == (before[ACQUIRED] + 9, before[RELEASED])
        slow.unpin(count=2)
        assert witness.counters()[RELEASED] == before[RELEASED] + 2
    after = witness.counters()
    assert after[ACQUIRED] - after[RELEASED] == before[ACQUIRED] - before[RELEASED]


@claim(
    "pin.stat.2", RST, "Under normal conditions, these two values will be equal",
    sabotage=node_counter(RELEASED, -1),
)  # fmt: skip
def test_with_no_pin_held_the_counts_are_equal(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    with subject.pin_user_pages(area, write=True):
        pass
    counters = witness.counters()
    assert counters[ACQUIRED] == counters[RELEASED]


@claim(
    "pin.stat.3", RST, "just calling get_user_pages() will not suffice", sabotage=node_counter(ACQUIRED, +1, at=2),
)  # fmt: skip
def test_references_are_no_pins_in_the_statistics(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.counters()
    with subject.get_user_pages(area), subject.get_user_pages_fast(area):
        assert witness.counters()[ACQUIRED] == before[ACQUIRED]


@claim(
    "pin.touch.1",
    PAGE,
    "Nearly the same as get_user_pages(), except that FOLL_TOUCH is not set",
    reading="Nothing is marked accessed.",
    sabotage=page_flag("PG_referenced", set=True, at=2),
)
def test_pin_user_pages_marks_nothing_accessed(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.clear_young()
    before = witness.pages(area)
    assert before.flag("PG_referenced") == 0
    with subject.pin_user_pages(area, write=True):
        after = witness.pages(area)
        assert after.flag("PG_referenced") == 0
        assert after.flag("PG_dirty") == before.flag("PG_dirty")


@claim(
    "pin.touch.2",
    "pin_user_pages_remote(9)",
    "Nearly the same as get_user_pages_remote(), except that FOLL_PIN is set.",
    reading="The remote and unlocked calls mark the page accessed.",
    sabotage=page_flag("PG_referenced", set=False, at=2),
)
def test_the_remote_and_unlocked_calls_mark_it_accessed(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.clear_young()
    assert witness.pages(area).flag("PG_referenced") == 0
    with subject.pin_user_pages_remote(subject, area[0]), subject.pin_user_pages_unlocked(area[1]):
        assert witness.pages(area).flag("PG_referenced") == 1


@claim(
    "pin.touch.3",
    PAGE,
    "Nearly the same as get_user_pages(), except that FOLL_TOUCH is not set",
    reading="A pin for writing leaves a clean page clean.",
    sabotage=page_flag("PG_dirty", set=True, at=2),
)
def test_a_pin_for_writing_leaves_a_clean_page_clean(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).load()
    assert witness.pages(area).flag("PG_dirty") == 0
    with subject.pin_user_pages(area[0], write=True), subject.pin_user_pages_fast(area[1], write=True):
        assert witness.pages(area).flag("PG_dirty") == 0
