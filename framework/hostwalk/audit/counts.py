"""What page frames count: mappings, references, pins."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hostwalk.audit.evidence import KINDS, NOWHERE, Evidence, Ints
from hostwalk.audit.invariant import Breach, at, invariant
from hostwalk.paging.format import Mask

BUDDY, HUGETLB = KINDS.index("buddy"), KINDS.index("hugetlb")
# A page with fewer mappings than this and more references than the bias looks pinned (folio_maybe_dma_pinned).
FEW_MAPS = 512
ANON_OR_MOVABLE = 3


@invariant(
    "12.mapcount", "_mapcount is the number of entries that point to the page, special ones aside",
    "mm/rmap.c; include/linux/mm.h, page_mapcount",
)  # fmt: skip
def mapcount_is_what_entries_add_up_to(seen: Evidence) -> Iterator[Breach]:
    """Entries of the last level, of all processes."""
    expected = seen.own_maps + _doubled(seen)
    wrong = (seen.frames.maps != expected) & _counts_its_maps(seen)
    yield from _differ(seen, wrong[seen.frame], "_mapcount + 1", seen.frames.maps, expected)


def _doubled(seen: Evidence) -> Ints:
    """6.1 counts the pages of a huge page that is mapped both ways once more (PG_double_map)."""
    return np.append(seen.folios.doubled, False)[seen.frames.folio].astype(np.int64)


def _counts_its_maps(seen: Evidence) -> Mask:
    """Return which frames keep a count of their own: CONFIG_NO_PAGE_MAPCOUNT takes it from pages of large folios."""
    kept = seen.layout.get("CONFIG_PAGE_MAPCOUNT") or "offsetof(struct folio, _nr_pages)" not in seen.layout
    real = np.ones(len(seen.frames.pfn), dtype=bool)
    real[NOWHERE] = False
    own: Mask = real & (seen.frames.kind == 0)
    return own if kept else own & (seen.frames.folio == NOWHERE)


@invariant(
    "12.entire", "_entire_mapcount is the number of entries that map a large folio as a whole",
    "mm/rmap.c, folio_add_anon_rmap_pmd",
)  # fmt: skip
def entire_mapcount_is_what_entries_add_up_to(seen: Evidence) -> Iterator[Breach]:
    """Count a run of contiguous entries for one huge page of the pool once."""
    wrong = seen.folios.entire != seen.whole_maps
    folio = np.append(wrong, False)[seen.frames.folio[seen.frame]]
    yield from _differ(
        seen, folio, "_entire_mapcount + 1", *_by_frame(seen, seen.folios.entire, seen.whole_maps)
    )


@invariant(
    "12.large", "_large_mapcount is the number of entries that map some of a large folio",
    "mm/rmap.c, folio_add_return_large_mapcount", needs=("sizeof(struct folio._large_mapcount)",),
)  # fmt: skip
def large_mapcount_is_what_entries_add_up_to(seen: Evidence) -> Iterator[Breach]:
    """Whole mappings and those of single pages."""
    wrong = seen.folios.total != seen.folio_maps
    folio = np.append(wrong, False)[seen.frames.folio[seen.frame]]
    yield from _differ(
        seen, folio, "_large_mapcount + 1", *_by_frame(seen, seen.folios.total, seen.folio_maps)
    )


def _by_frame(seen: Evidence, *columns: Ints) -> tuple[Ints, ...]:
    """Return columns about folios as columns about frames; 0 for frames of no large folio."""
    return tuple(np.append(column, 0)[seen.frames.folio] for column in columns)


def _differ(seen: Evidence, where: Mask, name: str, said: Ints, counted: Ints) -> Iterator[Breach]:
    """Yield a breach for leaves whose page says one number while the entries add up to another."""
    first = seen.frame[where.argmax()]
    yield from at(where, f"{name} is {said[first]}, but the entries add up to {counted[first]}")


@invariant(
    "14.pins", "Pages look pinned only while the node counts pins that are held, and never more of them",
    "mm/gup.c, NR_FOLL_PIN_ACQUIRED and NR_FOLL_PIN_RELEASED", needs=("NR_FOLL_PIN_ACQUIRED",),
)  # fmt: skip
def pins_are_counted(seen: Evidence) -> Iterator[Breach]:
    """Exact for large folios; a small page with very many references only looks pinned, so it must stand alone."""
    if seen.held < 0:
        yield Breach(f"{-seen.held} more pins were released than acquired", space=0)
    pinned = np.append(seen.folios.pins > max(seen.held, 0), False)[seen.frames.folio[seen.frame]]
    if seen.held == 0:
        pinned |= _looks_pinned(seen)[seen.frame]
    yield from at(pinned & seen.normal, f"it looks pinned, but the node counts {seen.held} pins held")


def _looks_pinned(seen: Evidence) -> Mask:
    bias = seen.layout["GUP_PIN_COUNTING_BIAS"]
    few = (seen.own_maps < FEW_MAPS) & (seen.frames.folio == NOWHERE)
    looks: Mask = few & (seen.frames.refcount >= bias) & (seen.frames.pfn != np.uint64(seen.zero_pfn))
    return looks


@invariant(
    "15.free", "A page that is mapped is neither free nor in other use", "mm/page_alloc.c, free_pages_prepare"
)
def mapped_pages_are_in_use(seen: Evidence) -> Iterator[Breach]:
    """Look at what special entries point to as well, where there is a ``struct page`` to tell."""
    kind = seen.frames.kind[seen.frame]
    there = seen.leaves.linux_present & (seen.frame != NOWHERE)
    yield from at(there & (kind == BUDDY), "its page is in the free lists")
    yield from at(seen.normal & (kind != BUDDY) & _other_use(seen), "its page is in other use")
    free = seen.normal & (kind != BUDDY) & (seen.frames.refcount[seen.frame] <= 0)
    yield from at(free, "its page has no references")


def _other_use(seen: Evidence) -> Mask:
    kind = seen.frames.kind[seen.frame]
    other: Mask = (kind != 0) & ~(seen.hugetlb & (kind == HUGETLB))
    return other


@invariant(
    "15.references", "A page has at least the references of its mappings, of the caches it is in, and of its pins",
    "include/linux/mm.h, folio_ref_count; mm/filemap.c; mm/swap_state.c",
)  # fmt: skip
def references_cover_mappings(seen: Evidence) -> Iterator[Breach]:
    """Of small pages the pins are not known; a huge page of the pool is in its cache once or with all its pages."""
    expected = _maps(seen) + _cached(seen)
    wrong = (seen.frames.refcount < expected) & (seen.frames.pfn != np.uint64(seen.zero_pfn))
    first = seen.frame[(wrong[seen.frame] & seen.normal).argmax()]
    what = f"{seen.frames.refcount[first]} references, but mappings, caches and pins hold {expected[first]}"
    yield from at(wrong[seen.frame] & seen.normal, what)


def _maps(seen: Evidence) -> Ints:
    maps, pins = _by_frame(seen, seen.folio_maps, seen.folios.pins)
    return np.where(seen.frames.folio >= 0, maps + pins, seen.own_maps)


def _cached(seen: Evidence) -> Ints:
    """Return what the page cache and the swap cache hold of each folio: one reference per base page."""
    low = seen.frames.mapping & np.uint64(ANON_OR_MOVABLE)
    cached = (seen.frames.mapping != 0) & (low == 0) | seen.frame_flag("PG_swapcache") & (low == 1)
    (order,) = _by_frame(seen, seen.folios.order)
    pooled = np.zeros(len(seen.frames.pfn), dtype=bool)
    pooled[seen.frame[seen.hugetlb & seen.normal]] = True
    return np.where(cached, np.where(pooled, 1, 1 << order), 0)
