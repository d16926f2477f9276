"""mmap(2)."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "mmap(2)"


@claim(
    "mmap.populate.1",
    PAGE,
    "MAP_POPULATE: populate (prefault) page tables for a mapping.",
    sabotage=entry_bit("present", set=False),
)
def test_populate_prefaults(subject: Subject, witness: Witness) -> None:
    pages = witness.pages(subject.mmap(pages=4, prot="rw", populate=True))
    assert (pages.present, pages.writable, pages.dirty, pages.anon) == (1, 1, 1, 1)


@claim(
    "mmap.lazy.1",
    PAGE,
    "Without MAP_POPULATE no page is there before it is touched.",
    sabotage=entry_bit("present", set=True),
)
def test_nothing_is_there_before_the_first_touch(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    assert witness.pages(area).pfns == NO_PFN
    area[:1].touch()
    assert witness.pages(area).present == (1, 0)


@claim(
    "mmap.none.1",
    PAGE,
    "PROT_NONE: pages may not be accessed; MAP_POPULATE populates none.",
    sabotage=entry_bit("present", set=True),
)
def test_prot_none_is_never_populated(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="none", populate=True)
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mmap.locked.1",
    PAGE,
    "MAP_LOCKED: mark the mapped region to be locked in the same way as mlock(2).",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_map_locked_is_locked_and_populated(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", locked=True)
    assert "VM_LOCKED" in witness.vma(area).flags
    assert witness.pages(area).present == 1
