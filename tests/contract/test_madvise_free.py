"""madvise(2), MADV_FREE: the entries that make pages freeable, and what becomes of the pages."""

from __future__ import annotations

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.needs import huge_page
from hostwalk.sabotage import entry_bit, page_flag
from hostwalk.witness import Witness

PAGE = "madvise(2)"
TRIES = 5
WRITTEN = (
    "subsequent writes to pages in the range will succeed and then kernel cannot free those dirtied pages, so that the "
    "caller can always see just written data. If there is no subsequent write, the kernel can free the pages at any "
    "time. Once pages in the range have been freed, the caller will see zero-fill-on-demand pages upon subsequent page "
    "references."
)
NEEDLESS = "The application no longer requires the pages in the range specified by addr and len."


def reclaimed(area: Area, page: int, witness: Witness) -> None:
    """Have the kernel reclaim what it may of an area; ends the claim where it does not take ``page``."""
    for _ in range(TRIES):
        area.subject.settle()  # a page that waits in a processor's batch cannot be isolated
        area.subject.madvise(area, "PAGEOUT")
        if witness.pages(area[page : page + 1]).present == 0:
            return
    not_applicable("the kernel keeps pages that it was asked to reclaim")


@claim(
    "madvise.free.1",
    PAGE,
    WRITTEN,
    reading="Of four pages those go that were not written again, and are zero then.",
    sabotage=entry_bit("dirty", set=True, page=0),
)
def test_what_is_not_written_again_goes(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4).touch(0x61)
    subject.madvise(area, "FREE")
    marked = witness.pages(area)
    assert (marked.present, marked.dirty, marked.young, marked.writable) == (1, 0, 0, 1)
    area[1:2].store(0x62)
    assert witness.pages(area).dirty == (0, 1, 0, 0)
    reclaimed(area, 0, witness)
    assert witness.pages(area).present == (0, 1, 0, 0)
    seen = b"".join(subject.peek(area.address(page), 1) for page in range(4))
    assert seen == b"\0\x62\0\0"


@claim(
    "madvise.free.2",
    PAGE,
    NEEDLESS,
    reading="Of a huge page as a whole: it is clean and old, and so is its entry, and nothing keeps its data.",
    sabotage=entry_bit("dirty", set=True, at=3),
)
def test_a_huge_page_is_clean_then(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:2].touch(0x61)
    subject.pin_user_pages(area[:1], write=True).unpin_pages(dirty=True)
    subject.settle()
    before = witness.pages(part)
    assert (before.dirty, before.flag("PG_dirty")[0], before.flag("PG_swapbacked")[0]) == (1, 1, 1)
    subject.madvise(area, "FREE")
    subject.settle()
    after = witness.pages(part)
    assert (after.pfns, after.huge, after.writable) == (before.pfns, 1, 1)
    assert (after.dirty, after.young) == (0, 0)
    assert (after.flag("PG_dirty")[0], after.flag("PG_swapbacked")[0]) == (0, 0)
    area[:1].store(0x62)
    assert witness.pages(part).dirty == 1


@claim(
    "madvise.free.3",
    PAGE,
    NEEDLESS,
    reading="A part of a huge page: just that part's entries are clean and old.",
    sabotage=entry_bit("dirty", set=True, at=2, page=3),
    departs=departure(
        "the young bit is lost with 4 KiB pages and 52-bit addresses: in a migration entry it is PTE_CONT",
        cites="arch/arm64/include/asm/pgtable.h, set_ptes(): pte_mknoncont()",
        shows="no migration entry was young",
        kernels=">=6.12",
    ),
)
def test_a_part_of_a_huge_page_is_clean_then(subject: Subject, witness: Witness, young_is_cont: bool) -> None:
    area = huge_page(subject, witness)
    area.touch(0x61)
    subject.settle()
    subject.madvise(area[2:6], "FREE")
    part = witness.pages(area[:8])
    free = [2 <= page < 6 for page in range(8)]
    if part.huge != 0:
        not_applicable("the huge page could not be split")
    assert part.present == 1
    assert part.dirty == [not page for page in free]
    if young_is_cont:
        assert part.young != 0, "no migration entry was young"
    assert part.young == [not page for page in free]


@claim(
    "madvise.free.4",
    PAGE,
    NEEDLESS,
    reading="Pages that are marked dirty besides what their entries say are no more dirty than these.",
    sabotage=page_flag("PG_dirty", set=True, at=2, page=0),
)
def test_the_pages_are_clean_too(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x61)
    subject.pin_user_pages(area, write=True).unpin_pages(dirty=True)
    subject.settle()
    assert witness.pages(area).flag("PG_dirty") == 1
    subject.madvise(area, "FREE")
    subject.settle()
    after = witness.pages(area)
    assert (after.dirty, after.flag("PG_dirty"), after.flag("PG_swapbacked")) == (0, 0, 0)
