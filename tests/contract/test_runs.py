"""Large folios in page tables, part by part: contiguous runs (arm64) that are cut, batches that are merged."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Area, Subject
from hostwalk.needs import huge_page
from hostwalk.sabotage import entry_bit, page_flag
from hostwalk.witness import Witness

ARM64_CONT = 1 << 52
CONT_PTES = {4096: 16, 16384: 128, 65536: 32}  # arch/arm64/Kconfig: ARM64_CONT_PTE_SHIFT
COW = "Under Linux, fork() is implemented using copy-on-write pages."
RANGE = (
    "mprotect() changes the access protections for the calling process's memory pages containing any part of the "
    "address range in the interval [addr, addr+len-1]."
)


def mapped_singly(subject: Subject, witness: Witness) -> Area:
    """Return a huge page that a page table maps."""
    area = huge_page(subject, witness)
    with subject.get_user_pages(area[:1], split_pmd=True):
        pass
    return area


@claim(
    "fork.batch.3",
    "fork(2)",
    COW,
    reading="A huge page that a page table maps, a part of which is kept from the child: just the rest is shared.",
    sabotage=entry_bit("writable", set=True, at=3, page=9),
)
def test_a_part_of_a_huge_page_is_kept_from_the_child(subject: Subject, witness: Witness) -> None:
    area = mapped_singly(subject, witness)
    part = area[:32].touch()
    subject.madvise(area[:5], "DONTFORK")
    before = witness.pages(part)
    kept = [page < 5 for page in range(32)]
    with subject.fork() as child:
        ours, theirs = witness.pages(part), witness.pages(part, of=child)
        assert (ours.pfns, ours.writable, ours.exclusive) == (before.pfns, kept, kept)
        assert (theirs.present, theirs.writable) == ([not mine for mine in kept], 0)
        assert ours.contiguous[:16] == [False] * 16
        child.must(child.store(part.address(9), byte=0x22))
        assert witness.pages(part).pfns == before.pfns


@claim(
    "mprotect.thp.8",
    "mprotect(2)",
    RANGE,
    reading="A huge page that a page table maps, from its start into the midst of a run of contiguous entries.",
    sabotage=entry_bit("writable", set=True, at=3, page=17),
)
def test_from_the_start_into_the_midst_of_a_run(subject: Subject, witness: Witness) -> None:
    area, size = mapped_singly(subject, witness), CONT_PTES[subject.page_size]
    part, end = area[: 3 * size], size + 4
    before = witness.pages(part)
    subject.mprotect(area[:end], "r")
    after = witness.pages(part)
    assert (after.pfns, after.writable) == (before.pfns, [page >= end for page in range(part.pages)])
    run, was = after.contiguous, before.contiguous
    assert (run[:size], run[size : 2 * size]) == (was[:size], [False] * size)
    assert run[2 * size :] == was[2 * size :]


@claim(
    "insert.cont.1",
    "arch/arm64/mm/contpte.c",
    "Pages that lie side by side, but are of no one folio, get no contiguous entries.",
    code="__contpte_try_fold()",
    sabotage=entry_bit("writable", set=False, page=20),
)
def test_pages_of_many_folios_are_no_run(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=5)
    place = subject.mmap(pages=64, prot="none", aligned=64 * subject.page_size)
    skew = pages.pfns[0] % 32
    area = subject.insert("vm_insert_page", pages, fixed_at=place.address(skew)).area
    seen = witness.pages(area)
    assert (seen.pfns, seen.writable, seen.orders) == (pages.pfns, 1, 0)
    assert seen.contiguous == [False] * len(pages)


@claim(
    "insert.munmap.4",
    "include/linux/pgtable.h",
    "Of a large folio that page tables map, one page that was written makes it dirty when all are unmapped, whichever "
    "page it was.",
    code="get_and_clear_full_ptes()",
    sabotage=page_flag("PG_dirty", set=False, at=3, page=0),
)
def test_a_written_page_of_a_compound_page_makes_it_dirty(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("compound", order=3)
    area = subject.insert("vm_insert_page", pages).area
    head = pages.pfns[:1]
    assert witness.frames(head).flag("PG_dirty") == 0
    area[5].store()
    before = witness.pages(area)
    assert (before.present, before.dirty) == (1, [page == 5 for page in range(8)])
    subject.munmap(area)
    after = witness.frames(head)
    assert after.flag("PG_dirty") == 1


@claim(
    "insert.munmap.5",
    "include/linux/pgtable.h",
    "Of a large folio that page tables map, one page that was used marks it accessed when all are unmapped, whichever "
    "page it was; none does if none was.",
    code="get_and_clear_full_ptes()",
    sabotage=page_flag("PG_referenced", set=False, at=2, page=0),
)
def test_a_used_page_of_a_compound_page_marks_it(subject: Subject, witness: Witness) -> None:
    marks = []
    for used in (5, None):
        pages = subject.alloc_pages("compound", order=3)
        area = subject.insert("vm_insert_page", pages).area
        subject.clear_young()
        subject.mprotect(area, "r")  # flushes what x86-64 leaves in the TLBs
        if used is not None:
            area[used].load()
        before = witness.pages(area)
        assert before.young == [page == used for page in range(8)]
        subject.munmap(area)
        marks.append(witness.frames(pages.pfns[:1]).flag("PG_referenced")[0])
    assert marks == [1, 0]
