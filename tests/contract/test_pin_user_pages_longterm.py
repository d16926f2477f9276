"""pin_user_pages with FOLL_LONGTERM of pages that must be able to move: they move before they are pinned."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_pfn, refcount
from hostwalk.witness import Pages, Witness

GUP = "mm/gup.c"
MIGRATE = "if any folios in the range are not allowed to be pinned, then this routine will migrate those folios away"


def movable(subject: Subject, witness: Witness) -> tuple[Area, Pages]:
    """Return touched pages of ZONE_MOVABLE; ends the claim where none come from there."""
    area = subject.mmap(pages=8).touch(0x4D)
    subject.settle()  # a page that waits in a processor's batch cannot be isolated
    before = witness.pages(area)
    if set(before.zones) != {witness.layout["ZONE_MOVABLE"]}:
        not_applicable("no page came from ZONE_MOVABLE")
    return area, before


@claim("pin.longterm.5", GUP, MIGRATE, reading="From ZONE_MOVABLE.", sabotage=entry_pfn(+1, at=3))
def test_longterm_pins_leave_the_movable_zone(subject: Subject, witness: Witness) -> None:
    area, _ = movable(subject, witness)
    data = witness.contents(area)
    with subject.pin_user_pages(area, write=True, longterm=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert witness.layout["ZONE_MOVABLE"] not in held.zones
        assert (held.exclusive, held.mapcounts) == (1, 1)
        assert held.refcounts == 1 + witness.layout["GUP_PIN_COUNTING_BIAS"]
        assert witness.contents(area) == data
    assert witness.pages(area).refcounts == 1


@claim(
    "pin.longterm.6",
    GUP,
    "Can't do FOLL_LONGTERM + FOLL_PIN gup fast path if not in a right zone, so fail and let the caller fall back to "
    "the slow path.",
    reading="The fast call moves pages out of ZONE_MOVABLE too.",
    sabotage=refcount(+1, at=2, page=3),
)
def test_fast_longterm_pins_leave_the_movable_zone(subject: Subject, witness: Witness) -> None:
    area, before = movable(subject, witness)
    with subject.pin_user_pages_fast(area, write=True, longterm=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert len(held.pfns.differing(before.pfns)) == area.pages
        assert witness.layout["ZONE_MOVABLE"] not in held.zones
        assert held.refcounts == 1 + witness.layout["GUP_PIN_COUNTING_BIAS"]


@claim(
    "pin.longterm.7",
    GUP,
    MIGRATE,
    reading="Of a range just the pages that may not be pinned: those that may stay where they are.",
    sabotage=entry_pfn(+1, at=3, page=1),
)
def test_longterm_pins_move_only_what_has_to(subject: Subject, witness: Witness) -> None:
    area, _ = movable(subject, witness)
    subject.pin_user_pages(area[:4], write=True, longterm=True).unpin()
    mixed = witness.pages(area)
    with subject.pin_user_pages(area, write=True, longterm=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.pfns.differing(mixed.pfns) == tuple(range(4, area.pages))
        assert held.refcounts == 1 + witness.layout["GUP_PIN_COUNTING_BIAS"]


@claim(
    "pin.longterm.8",
    GUP,
    MIGRATE,
    reading="Without FOLL_LONGTERM nothing moves.",
    sabotage=entry_pfn(+1, at=2),
)
def test_short_pins_move_nothing(subject: Subject, witness: Witness) -> None:
    area, before = movable(subject, witness)
    with subject.pin_user_pages(area[:4], write=True), subject.pin_user_pages_fast(area[4:], write=True):
        held = witness.pages(area)
        assert held.pfns == before.pfns
        assert held.refcounts == before.refcounts + witness.layout["GUP_PIN_COUNTING_BIAS"]
