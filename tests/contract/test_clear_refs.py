"""/proc/PID/clear_refs: the kernel forgets which pages were accessed, and which were written."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Area, Subject
from hostwalk.needs import huge_page, soft_dirty
from hostwalk.sabotage import entry_bit
from hostwalk.witness import Witness

PAGE = "proc(5)"
RESET = "Reset the PG_Referenced and ACCESSED/YOUNG bits for all the pages associated with the process."
SOFT_DIRTY = "Documentation/admin-guide/mm/soft-dirty.rst"


@claim(
    "refs.young.1",
    PAGE,
    RESET,
    reading="Small pages: anonymous ones, and those of a file; nothing else of their entries changes.",
    sabotage=entry_bit("young", set=True, at=3, page=1),
)
def test_no_page_is_young_any_more(subject: Subject, witness: Witness) -> None:
    anon = subject.mmap(pages=2).touch()
    shared = subject.mmap(pages=2, shared=True, fd=subject.memfd(2)).touch()
    before = [witness.pages(area) for area in (anon, shared)]
    subject.clear_young()
    for area, old in zip((anon, shared), before, strict=True):
        after = witness.pages(area)
        assert (old.young, after.young, after.flag("PG_referenced")) == (1, 0, 0)
        assert (after.pfns, after.writable, after.dirty) == (old.pfns, old.writable, old.dirty)


@claim(
    "refs.young.2",
    PAGE,
    RESET,
    reading="A huge page.",
    sabotage=entry_bit("young", set=True, at=3),
)
def test_a_huge_page_is_not_young_any_more(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:2].touch()
    before = witness.pages(part)
    subject.clear_young()
    after = witness.pages(part)
    assert (before.young, after.young, after.huge) == (1, 0, 1)
    assert (after.pfns, after.writable, after.dirty) == (before.pfns, before.writable, before.dirty)


@claim(
    "refs.young.3",
    PAGE,
    "Reset the PG_Referenced and ACCESSED/YOUNG bits for all anonymous pages associated with the process. [...] "
    "Reset the PG_Referenced and ACCESSED/YOUNG bits for all file-mapped pages associated with the process.",
    reading="2 is for anonymous pages, 3 for those of files: the others stay young.",
    sabotage=entry_bit("young", set=True, at=2, page=0),
)
def test_of_one_kind_only(subject: Subject, witness: Witness) -> None:
    anon = subject.mmap(pages=2).touch()
    shared = subject.mmap(pages=2, shared=True, fd=subject.memfd(2)).touch()
    fd = subject.open("/proc/self/clear_refs", "O_WRONLY")
    subject.write(fd, b"3\n")
    assert (witness.pages(anon).young, witness.pages(shared).young) == (1, 0)
    subject.write(fd, b"2\n")
    assert witness.pages(anon).young == 0


@claim(
    "refs.soft_dirty.1",
    SOFT_DIRTY,
    "the writable bit is cleared from PTEs when the soft-dirty bit is cleared. So, after this, when the task tries to "
    "modify a page at some virtual address the #PF occurs and the kernel sets the soft-dirty bit on the respective "
    "PTE.",
    reading="Small pages.",
    sabotage=entry_bit("writable", set=True, page=0),
)
def test_a_store_sets_the_soft_dirty_bit_again(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    _tracked(subject.mmap(pages=2).touch(), subject, witness)


@claim(
    "refs.soft_dirty.2",
    SOFT_DIRTY,
    "the writable bit is cleared from PTEs when the soft-dirty bit is cleared. So, after this, when the task tries to "
    "modify a page at some virtual address the #PF occurs and the kernel sets the soft-dirty bit on the respective "
    "PTE.",
    reading="A huge page: as a whole.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_a_store_sets_the_soft_dirty_bit_of_a_huge_page_again(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area = huge_page(subject, witness)
    _tracked(area[:2].touch(), subject, witness, whole=1)


def _tracked(area: Area, subject: Subject, witness: Witness, whole: int = 0) -> None:
    """Judge two pages, of which the second is written after the bits were cleared; with ``whole``, both are one."""
    subject.clear_soft_dirty()
    cleared = witness.pages(area)
    assert (cleared.writable, cleared.soft_dirty, cleared.dirty, cleared.huge) == (0, 0, 1, whole)
    area[1:].load()
    assert witness.pages(area).soft_dirty == 0
    area[1:].store()
    after = witness.pages(area)
    assert (after.writable, after.soft_dirty) == ((whole, 1), (whole, 1))
    assert (after.pfns, after.huge) == (cleared.pfns, whole)
