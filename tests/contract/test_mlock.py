"""mlock(2), mlockall(2) and munmap(2)."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, mm_counter, page_flag, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness


@claim(
    "mlock.resident.1",
    "mlock(2)",
    "All pages that contain a part of the specified address range are guaranteed to be resident in RAM when the call "
    "returns successfully.",
    sabotage=entry_bit("present", set=False),
)
def test_mlock_makes_whole_pages_resident(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw")
    locked = witness.mm(subject).locked_vm
    subject.mlock((area.start + area.page_size + 1, area.page_size))
    pages = witness.pages(area)
    assert pages.present == (0, 1, 1, 0)
    assert pages.flag("PG_mlocked")[1:3] == 1
    assert witness.mm(subject).locked_vm == locked + 2


@claim(
    "mlock.onfault.1",
    "mlock2(2)",
    "MLOCK_ONFAULT: lock pages that are currently resident and mark the entire range so that the rest is locked when "
    "populated by a page fault.",
    sabotage=page_flag("PG_mlocked", set=False),
)
def test_onfault_faults_nothing_in(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    area[:1].touch()
    subject.mlock2(area, onfault=True)
    pages = witness.pages(area)
    assert pages.present == (1, 0, 0)
    assert pages.flag("PG_mlocked")[0] == 1
    assert witness.vma(area).flags >= {"VM_LOCKED", "VM_LOCKONFAULT"}


@claim(
    "mlock.munlock.1",
    "munlock(2)",
    "Locks do not nest: one munlock unlocks what was locked several times.",
    sabotage=page_flag("PG_mlocked", set=True, at=2),
)
def test_one_munlock_undoes_every_mlock(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    locked = witness.mm(subject).locked_vm
    subject.mlock(area)
    subject.mlock(area)
    assert witness.pages(area).flag("PG_mlocked") == 1
    subject.munlock(area)
    assert witness.pages(area).flag("PG_mlocked") == 0
    assert "VM_LOCKED" not in witness.vma(area).flags
    assert witness.mm(subject).locked_vm == locked


@claim(
    "mlock.fork.1",
    "mlock(2)",
    "Memory locks are not inherited by a child created via fork.",
    sabotage=vm_flag("VM_LOCKED", at=2),
)
def test_fork_does_not_inherit_locks(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw")
    subject.mlock(area)
    with subject.fork() as child:
        assert "VM_LOCKED" in witness.vma(area).flags
        assert "VM_LOCKED" not in witness.vma(area, of=child).flags
        assert witness.mm(child).locked_vm == 0


@claim(
    "mlock.special.1",
    "mlock(2)",
    "A pfn mapping is accepted but not locked: it is always there.",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_a_pfn_mapping_is_not_locked(subject: Subject, witness: Witness) -> None:
    area = subject.insert("remap_pfn_range", subject.alloc_pages("order0", nr=1), prot="rw", shared=True).area
    locked = witness.mm(subject).locked_vm
    subject.mlock(area)
    assert "VM_LOCKED" not in witness.vma(area).flags
    assert witness.mm(subject).locked_vm == locked


@claim(
    "mlockall.future.1",
    "mlockall(2)",
    "MCL_FUTURE: lock all pages which will become mapped into the address space of the process in the future.",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_future_mappings_are_locked(subject: Subject, witness: Witness) -> None:
    subject.mlockall("future")
    area = subject.mmap(pages=2, prot="rw")
    assert "VM_LOCKED" in witness.vma(area).flags
    assert witness.pages(area).present == 1


@claim(
    "munmap.gone.1",
    "munmap(2)",
    "Further references to addresses within the range generate invalid memory references.",
    sabotage=entry_bit("present", set=True, at=2),
)
def test_munmap_leaves_no_entry(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    subject.munmap(area[1:2])
    after = witness.pages(area)
    assert after.pfns == (before.pfns[0], NO_PFN, before.pfns[2])
    with subject.faults("SIGSEGV", "SEGV_MAPERR"):
        subject.load(area.address(1))


@claim(
    "munmap.free.1",
    "munmap(2)",
    "The pages of a private mapping are given back.",
    sabotage=refcount(+1, at=2),
)
def test_munmap_frees_private_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    rss, pfns = witness.mm(subject).rss_anon, witness.pages(area).pfns
    subject.munmap(area)
    assert witness.frames(pfns).refcounts == 0
    assert witness.mm(subject).rss_anon == rss - 2
