"""mprotect(2), seen in the mappings: splits, merges, and what is charged for them."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import committed, entry_bit, mm_counter, vm_edge, vm_flag
from hostwalk.witness import Witness

PAGE = "mprotect(2)"
SPLITS = (
    "Making the protection of a range PROT_READ in the middle of a region currently protected as PROT_READ|PROT_WRITE "
    "would result in three mappings: two read/write mappings at each end and a read-only mapping in the middle."
)


@claim(
    "mprotect.vma.1",
    PAGE,
    SPLITS,
    reading="The mapping becomes three.",
    sabotage=vm_flag("VM_WRITE", at=2),
)
def test_the_mapping_becomes_three(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=5).touch()
    count = witness.mm(subject).map_count
    subject.mprotect(area[1:3], "r")
    assert witness.mm(subject).map_count == count + 2
    first, middle, last = (witness.vma(area[page]) for page in (0, 1, 3))
    assert [(each.start, each.end) for each in (first, middle, last)] == [
        (area.start, area.address(1)),
        (area.address(1), area.address(3)),
        (area.address(3), area.end),
    ]
    assert ["VM_WRITE" in each.flags for each in (first, middle, last)] == [True, False, True]


@claim(
    "mprotect.vma.2",
    PAGE,
    SPLITS,
    reading="Equal neighbours become one again.",
    sabotage=vm_edge("vm_end", -1, at=2),
)
def test_equal_neighbours_become_one_again(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=5).touch()
    before, count = witness.vma(area), witness.mm(subject).map_count
    subject.mprotect(area[1:3], "r")
    subject.mprotect(area[1:3], "rw")
    after = witness.vma(area)
    assert (after.start, after.end) == (before.start, before.end)
    assert witness.mm(subject).map_count == count


@claim(
    "mprotect.vma.3",
    PAGE,
    SPLITS,
    reading="A border moves.",
    sabotage=vm_edge("vm_end", +1),
)
def test_a_border_moves(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=6).touch()
    subject.mprotect(area[:2], "r")
    count = witness.mm(subject).map_count
    for border in (4, 1):
        subject.mprotect(area[:border] if border > 2 else area[border:], "r" if border > 2 else "rw")
        first, second = witness.vma(area), witness.vma(area[border])
        assert (first.start, first.end) == (area.start, area.address(border))
        assert (second.start, second.end) == (area.address(border), area.end)
        assert witness.pages(area).writable == [page >= border for page in range(6)]
    assert witness.mm(subject).map_count == count


@claim(
    "mprotect.vma.4",
    PAGE,
    "mprotect() changes the access protections for the calling process's memory pages containing any part of the "
    "address range in the interval [addr, addr+len-1].",
    reading="A range over several mappings.",
    sabotage=vm_flag("VM_WRITE", at=3),
)
def test_a_range_over_several_mappings(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=6).touch()
    subject.mmap(pages=2, shared=True, fixed_at=area.address(2), replace=True).touch()
    subject.mprotect(area[1:5], "r")
    assert witness.pages(area).writable == (1, 0, 0, 0, 0, 1)
    flags = [witness.vma(area[page]).flags for page in range(6)]
    assert ["VM_WRITE" in each for each in flags] == [True, False, False, False, False, True]
    assert ["VM_SHARED" in each for each in flags] == [False, False, True, True, False, False]


@claim(
    "mprotect.flags.1",
    PAGE,
    "mprotect() changes the access protections for the calling process's memory pages.",
    reading="Nothing but the protection: every other flag of the mapping stays.",
    sabotage=vm_flag("VM_LOCKED", at=2),
)
def test_every_other_flag_of_the_mapping_stays(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=2).touch()
    subject.mlock(area)
    for advice in ("DONTFORK", "DONTDUMP", "NOHUGEPAGE"):
        subject.madvise(area, advice)
    before, mm = witness.vma(area), witness.mm(subject)
    access = {"VM_READ", "VM_WRITE", "VM_EXEC"}
    for prot, granted in (
        ("r", {"VM_READ"}),
        ("rx", {"VM_READ", "VM_EXEC"}),
        ("none", set()),
        ("rw", access - {"VM_EXEC"}),
    ):
        subject.mprotect(area, prot)
        after = witness.vma(area)
        assert after.flags - access == before.flags - access
        assert after.flags & access == granted
    assert witness.mm(subject).locked_vm == mm.locked_vm


@claim(
    "mprotect.locked.1",
    "mm/mprotect.c",
    "Private VM_LOCKED VMA becoming writable: trigger COW to avoid major fault on access.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_locked_memory_becomes_writable_without_a_fault_to_come(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=2, prot="r")
    subject.mlock(area)
    before = witness.pages(area)
    assert before.pfns == witness.zero_pfn
    subject.mprotect(area, "rw")
    after = witness.pages(area)
    assert (after.writable, after.anon, after.exclusive) == (1, 1, 1)
    assert after.flag("PG_mlocked") == 1


@claim(
    "mprotect.charge.1",
    "mm/mprotect.c",
    "If we make a private mapping writable we increase our commit.",
    sabotage=committed(-1, at=2),
)
def test_private_memory_is_charged_when_it_becomes_writable(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=8, prot="r")
    before = witness.committed().pages
    assert "VM_ACCOUNT" not in witness.vma(area).flags
    subject.mprotect(area[:6], "rw")
    assert witness.committed().pages == before + 6
    assert "VM_ACCOUNT" in witness.vma(area).flags
    subject.mprotect(area[:6], "rw")
    assert witness.committed().pages == before + 6
    subject.munmap(area)
    assert witness.committed().pages == before


@claim(
    "mprotect.charge.2",
    "mm/mprotect.c",
    "(without finer accounting) cannot reduce our commit if we make it unwritable again",
    sabotage=committed(-1, at=2),
)
def test_the_charge_stays_when_touched_memory_becomes_read_only(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4).touch()
    before = witness.committed().pages
    subject.mprotect(area, "r")
    assert witness.committed().pages == before
    assert "VM_ACCOUNT" in witness.vma(area).flags
    subject.mprotect(area, "rw")
    assert witness.committed().pages == before
    subject.munmap(area)
    assert witness.committed().pages == before - 4


@claim(
    "mprotect.charge.3",
    "mm/mprotect.c",
    "except in the anonymous case where no anon_vma has yet to be assigned.",
    kernels=">=6.7",
    sabotage=committed(+1, at=2),
)
def test_the_charge_goes_when_untouched_memory_becomes_read_only(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4)
    before = witness.committed().pages
    subject.mprotect(area, "r")
    assert witness.committed().pages == before - 4
    assert "VM_ACCOUNT" not in witness.vma(area).flags
    subject.mprotect(area, "rw")
    assert witness.committed().pages == before


@claim(
    "mprotect.charge.4",
    "mm/mprotect.c",
    "Shared memory and what is mapped with MAP_NORESERVE is not charged when it becomes writable.",
    code="mprotect_fixup(): VM_SHARED|VM_NORESERVE",
    sabotage=committed(+1, at=2),
)
def test_shared_memory_is_not_charged_again(subject: Subject, witness: Witness) -> None:
    shared = subject.apart(pages=4, prot="r", shared=True, fd=subject.memfd(4))
    reckless = subject.mmap(pages=4, prot="r", flags=subject.agent.abi["MAP_NORESERVE"])
    before = witness.committed().pages
    for area in (shared, reckless):
        subject.mprotect(area, "rw")
        assert "VM_ACCOUNT" not in witness.vma(area).flags
    assert witness.committed().pages == before


@claim(
    "mprotect.stat.1",
    PAGE,
    "mprotect() changes the access protections for the calling process's memory pages.",
    reading="Nothing but the protection: total_vm and page tables stay, data_vm follows.",
    sabotage=mm_counter("total_vm", +1, at=2),
)
def test_what_is_mapped_in_all_stays(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4).touch()
    before = witness.mm(subject)
    for prot, data in (("r", 0), ("none", 0), ("rw", 4)):
        subject.mprotect(area, prot)
        after = witness.mm(subject)
        assert after.total_vm == before.total_vm
        assert after.pgtables_bytes == before.pgtables_bytes
        assert after.data_vm == before.data_vm - 4 + data
