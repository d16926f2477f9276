"""Pages that move in memory: what of their entries moves along. Long-term pins have pages moved."""

from __future__ import annotations

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.needs import huge_page, soft_dirty, uffd_wp
from hostwalk.sabotage import entry_bit
from hostwalk.witness import Pages, Witness

CODE = "mm/migrate.c"
PMD = "mm/huge_memory.c"


def need_movable(subject: Subject, witness: Witness, pages: Pages) -> None:
    """End the claim unless all pages are of ZONE_MOVABLE, from where long-term pins move them."""
    if set(pages.zones) != {witness.layout["ZONE_MOVABLE"]}:
        not_applicable("not all pages came from ZONE_MOVABLE")


def moved(subject: Subject, witness: Witness, area: Area, *, by: Area | None = None) -> tuple[Pages, Pages]:
    """Return the pages of an area before they move and afterwards; ``by`` is what is pinned for reading."""
    subject.settle()  # a page that waits in a processor's batch cannot be isolated
    before = witness.pages(area)
    need_movable(subject, witness, before)
    with subject.pin_user_pages(by or area, longterm=True):
        pass
    after = witness.pages(area)
    if len(after.pfns.differing(before.pfns)) != area.pages:
        not_applicable("not all pages were moved")
    return before, after


@claim(
    "migrate.young.1",
    CODE,
    "A page that moves is as young and as dirty as it was, and as writable.",
    code="remove_migration_pte(): pte_mkold(), pte_mkdirty()",
    sabotage=entry_bit("young", set=True, at=2, page=1),
    departs=departure(
        "the young bit is lost with 4 KiB pages and 52-bit addresses: in a migration entry it is PTE_CONT",
        cites="arch/arm64/include/asm/pgtable.h, set_ptes(): pte_mknoncont()",
        shows="no migration entry was young",
        kernels=">=6.12",
    ),
)
def test_what_moves_is_as_young_and_dirty(subject: Subject, witness: Witness, young_is_cont: bool) -> None:
    area = subject.mmap(pages=6).touch()
    subject.madvise(area[4:], "FREE")
    subject.clear_young()
    subject.mprotect(area, "r")  # flushes what x86-64 leaves in the TLBs, where the next load would find it
    subject.mprotect(area, "rw")
    area[:1].load()
    area[4:5].load()
    before, after = moved(subject, witness, area)
    assert (before.young, before.dirty) == ((1, 0, 0, 0, 1, 0), (1, 1, 1, 1, 0, 0))
    assert (after.dirty, after.writable) == (before.dirty, before.writable)
    if young_is_cont:
        assert after.young != 0, "no migration entry was young"
    assert after.young == before.young


@claim(
    "migrate.soft_dirty.1",
    CODE,
    "A page that moves is as soft-dirty as it was: only stores make it so.",
    code="remove_migration_pte()",
    sabotage=entry_bit("soft_dirty", set=False, at=2, page=1),
    departs=departure(
        "6.1: what is dirty is soft-dirty, too, once it has moved",
        cites="mm/migrate.c, remove_migration_pte(): pte_mkdirty() sets both bits, and neither is cleared again",
        shows="pages that nobody wrote are soft-dirty",
        kernels="<6.12",
    ),
)
def test_what_moves_is_as_soft_dirty(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area = subject.mmap(pages=3).touch()
    subject.clear_soft_dirty()
    area[1:2].store()
    before, after = moved(subject, witness, area)
    assert (before.soft_dirty, after.writable, after.soft_dirty[1]) == ((0, 1, 0), before.writable, 1)
    assert (after.soft_dirty[0], after.soft_dirty[2]) == (0, 0), "pages that nobody wrote are soft-dirty"


@claim(
    "migrate.uffd_wp.1",
    CODE,
    "A page that moves stays protected by userfaultfd.",
    code="remove_migration_pte()",
    sabotage=entry_bit("uffd_wp", set=False, at=2, page=0),
)
def test_what_moves_stays_protected(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3).touch()
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area[:2])
    before, after = moved(subject, witness, area)
    assert (before.uffd_wp, before.writable) == ((1, 1, 0), (0, 0, 1))
    assert (after.uffd_wp, after.writable) == (before.uffd_wp, before.writable)


@claim(
    "migrate.exclusive.1",
    CODE,
    "A page that moves stays exclusive, read-only or not, and is written where it is.",
    code="remove_migration_pte(): RMAP_EXCLUSIVE",
    sabotage=entry_bit("writable", set=True, at=2, page=0),
)
def test_what_moves_stays_exclusive(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4).touch(0x41)
    subject.mprotect(area[:2], "r")
    before, after = moved(subject, witness, area)
    assert (before.exclusive, before.writable) == (1, (0, 0, 1, 1))
    assert (after.exclusive, after.writable, after.mapcounts) == (1, before.writable, 1)
    subject.mprotect(area, "rw")
    area.store(0x42)
    assert witness.pages(area).pfns == after.pfns


@claim(
    "migrate.thp.1",
    PMD,
    "A huge page that moves as a whole is as old, dirty, writable and exclusive as it was.",
    code="set_pmd_migration_entry(), remove_migration_pmd()",
    sabotage=entry_bit("young", set=True, at=3),
)
def test_a_huge_page_moves_as_it_is(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    area[:1].touch()
    subject.clear_young()
    before, after = moved(subject, witness, area[:2], by=area[:1])
    if after.huge != 1:
        not_applicable("this kernel splits a huge page to move it")
    assert (before.young, before.dirty, before.huge) == (0, 1, 1)
    assert (after.young, after.dirty, after.writable) == (before.young, before.dirty, before.writable)
    assert (after.exclusive[0], before.exclusive[0]) == (1, 1)


@claim(
    "migrate.thp.2",
    PMD,
    "A huge page that moves as a whole stays young, clean and soft-dirty.",
    code="set_pmd_migration_entry(), remove_migration_pmd()",
    sabotage=entry_bit("young", set=False, at=3),
)
def test_a_clean_huge_page_moves_as_it_is(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    subject.madvise(area, "FREE")
    area[:1].load()
    before, after = moved(subject, witness, area[:2], by=area[:1])
    if after.huge != 1:
        not_applicable("this kernel splits a huge page to move it")
    assert (before.young, before.dirty) == (1, 0)
    assert (after.young, after.dirty, after.writable) == (1, 0, 1)
    assert after.soft_dirty == before.soft_dirty
