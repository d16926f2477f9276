"""mremap(2): mappings that move, grow and shrink."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import committed, entry_bit, entry_pfn, refcount
from hostwalk.witness import NO_PFN, Witness

PAGE = "mremap(2)"
MOVES = "mremap() expands (or shrinks) an existing memory mapping, potentially moving it at the same time."


@claim(
    "mremap.move.1",
    PAGE,
    MOVES,
    reading="The pages move with the mapping.",
    sabotage=entry_pfn(+1, at=2),
)
def test_the_pages_move_with_the_mapping(subject: Subject, witness: Witness) -> None:
    area, room = subject.apart(pages=4).touch(), subject.mmap(pages=6, prot="none")
    subject.munmap(area[3:])
    area = area[:3]
    before, rss = witness.pages(area), witness.mm(subject).rss_anon
    moved = subject.mremap(area, 3, fixed_at=room.address(1))
    after = witness.pages(moved)
    assert after.pfns == before.pfns
    assert (after.writable, after.dirty, after.young) == (before.writable, before.dirty, before.young)
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.pages(area).pfns == NO_PFN
    assert witness.mm(subject).rss_anon == rss
    with subject.faults("SIGSEGV", "SEGV_MAPERR"):
        subject.load(area.start)


@claim(
    "mremap.tables.1",
    PAGE,
    MOVES,
    reading="Over the end of a page table.",
    sabotage=entry_pfn(+1, at=2, page=4),
)
def test_entries_move_over_the_border_of_page_tables(subject: Subject, witness: Witness) -> None:
    area = subject.across_tables(pages=8).touch()
    area[3:4].store(0x70)
    before, room = witness.pages(area), subject.mmap(pages=10, prot="none")
    moved = subject.mremap(area, 8, fixed_at=room.address(1))
    assert witness.pages(moved).pfns == before.pfns
    assert witness.pages(area).pfns == NO_PFN
    assert subject.peek(moved.address(3), 1) == b"\x70"


@claim(
    "mremap.keep.1",
    PAGE,
    MOVES,
    reading="Clean and dirty pages move as they are.",
    sabotage=entry_bit("dirty", set=True, page=0),
)
def test_clean_and_dirty_move_as_they_are(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=2, shared=True, fd=subject.memfd(2)).load()
    area[1:].store()
    room = subject.mmap(pages=4, prot="none")
    moved = subject.mremap(area, 2, fixed_at=room.address(1))
    pages = witness.pages(moved)
    assert (pages.present, pages.dirty) == (1, (0, 1))
    assert pages.mapcounts == 1


@claim(
    "mremap.shrink.1",
    PAGE,
    MOVES,
    reading="Shrinking unmaps the end.",
    sabotage=refcount(+1, at=2),
)
def test_shrinking_unmaps_the_end(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4).touch()
    before = witness.pages(area)
    subject.mremap(area, 2)
    assert witness.frames(before.pfns[2:]).refcounts == 0
    after = witness.pages(area)
    assert after.present == (1, 1, 0, 0)
    assert after.entries[:2] == before.entries[:2]


@claim(
    "mremap.grow.1",
    PAGE,
    MOVES,
    reading="What is new is empty, and charged.",
    sabotage=committed(+1, at=2),
)
def test_growing_is_charged_and_empty(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4).touch()
    subject.munmap(area[2:])
    charged = witness.committed().pages
    grown = subject.mremap(area[:2], 4, may_move=False)
    assert grown.start == area.start
    assert witness.committed().pages == charged + 2
    assert witness.pages(grown).present == (1, 1, 0, 0)
    assert subject.peek(grown.address(3), 1) == b"\0"


@claim(
    "mremap.grow.2",
    PAGE,
    "By default, if there is not sufficient space to expand a mapping at its current location, then mremap() fails.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_growing_into_another_mapping_fails(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=2).touch()
    before = witness.pages(area)
    with subject.refuses("ENOMEM"):
        subject.mremap(area, 3, may_move=False)
    assert witness.pages(area).entries == before.entries


@claim(
    "mremap.dontunmap.1",
    PAGE,
    "remaps a mapping to a new address but does not unmap the mapping at old_address. [...] After "
    "completion, any access to the range specified by old_address and old_size will result in a page "
    "fault. [...] Otherwise, the kernel allocates a zero-filled page to handle the fault.",
    reading="MREMAP_DONTUNMAP: the pages are at the new address, and none at the old.",
    sabotage=entry_pfn(+1, at=2),
)
def test_the_old_mapping_stays_empty(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=3).touch(0x19)
    before = witness.pages(area)
    moved = subject.mremap(area, 3, dont_unmap=True)
    assert witness.pages(moved).pfns == before.pfns
    assert witness.pages(area).pfns == NO_PFN
    assert witness.vma(area).mapped
    assert subject.peek(area.start, 1) == b"\0"
    assert subject.peek(moved.start, 1) == b"\x19"
    area.touch()


@claim(
    "mremap.fixed.1",
    PAGE,
    "MREMAP_FIXED [...] Any previous mapping at the address range specified by new_address and "
    "new_size is unmapped.",
    sabotage=refcount(+1, at=3),
)
def test_what_was_at_the_new_place_goes(subject: Subject, witness: Witness) -> None:
    area, target = subject.apart(pages=2).touch(1), subject.apart(pages=4).touch(2)
    before, old = witness.pages(area), witness.pages(target)
    subject.mremap(area, 2, fixed_at=target.address(1))
    assert witness.frames(old.pfns[1:3]).refcounts == 0
    assert witness.pages(target).pfns == (old.pfns[0], *before.pfns, old.pfns[3])
