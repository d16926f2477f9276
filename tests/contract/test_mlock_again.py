"""mlock(2) of what is locked already, of secret memory, and of ranges that end in a hole."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, mm_counter, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "mlock(2)"
ADVICE = "madvise(2)"


@claim(
    "mlock.enomem.4",
    PAGE,
    "ENOMEM (mlock(), mlock2(), and munlock()) Some of the specified address range does not correspond to mapped pages "
    "in the address space of the process.",
    reading="At its end.",
    sabotage=mm_counter("locked_vm", +1),
)
def test_a_hole_at_the_end_is_enomem(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4)
    locked = witness.mm(subject).locked_vm
    subject.munmap(area[3:])
    for call in (subject.mlock, subject.mlock2, subject.munlock):
        with subject.refuses("ENOMEM"):
            call(area)
    subject.munlock(area[:3])
    assert witness.mm(subject).locked_vm == locked


@claim(
    "mlock.again.1",
    PAGE,
    "Memory locks do not stack, that is, pages which have been locked several times by calls to mlock(), mlock2(), or "
    "mlockall() will be unlocked by a single call to munlock() for the corresponding range or by munlockall().",
    reading="Each call says anew whether pages are to come at once; they are counted once.",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_locking_again_says_anew_how(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=3)
    locked = witness.mm(subject).locked_vm
    subject.mlock2(area, onfault=True)
    assert {"VM_LOCKED", "VM_LOCKONFAULT"} <= witness.vma(area).flags
    subject.mlock(area)
    assert "VM_LOCKONFAULT" not in witness.vma(area).flags
    assert witness.pages(area).present == 1
    subject.mlock2(area, onfault=True)
    assert "VM_LOCKONFAULT" in witness.vma(area).flags
    assert witness.mm(subject).locked_vm == locked + area.pages
    subject.munlock(area)
    assert not {"VM_LOCKED", "VM_LOCKONFAULT"} & witness.vma(area).flags
    assert witness.mm(subject).locked_vm == locked


@claim(
    "mlock.secretmem.1",
    "mm/mlock.c",
    "Don't set VM_LOCKED or VM_LOCKONFAULT and don't count. For secretmem, don't allow the memory to be unlocked.",
    code="mlock_fixup(): vma_is_secretmem()",
    sabotage=vm_flag("VM_LOCKED", at=2),
)
def test_locks_leave_secret_memory_as_it_is(subject: Subject, witness: Witness) -> None:
    made = subject.syscall("memfd_secret", 0)
    if made.errno is not None:
        not_applicable(f"memfd_secret(2) is {made.errno}: no secret memory here")
    subject.ftruncate(made.value, 2)
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=made.value).touch()
    before, locked = witness.vma(area).flags, witness.mm(subject).locked_vm
    subject.munlock(area)
    with subject.refuses("ENOMEM"):
        subject.mlock(area)
    assert witness.vma(area).flags == before
    assert witness.mm(subject).locked_vm == locked


@claim(
    "mlock.populate.4",
    "mm/gup.c",
    "use FOLL_FORCE in case it's not readable (ie write-only or executable).",
    reading="A shared mapping that may only be written.",
    code="populate_vma_page_range()",
    sabotage=entry_bit("present", set=False, page=1),
)
def test_memory_that_may_only_be_written_is_populated(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="w", shared=True, fd=subject.memfd(2))
    assert subject.syscall("mlock", area.start, area.length).errno is None
    assert witness.pages(area).present == 1
    assert "VM_LOCKED" in witness.vma(area).flags


@claim(
    "madvise.populate.3",
    ADVICE,
    "ENOMEM Addresses in the specified range are not currently mapped, or are outside the address space of the "
    "process.",
    reading="MADV_POPULATE_READ and MADV_POPULATE_WRITE; what lies before the hole is there.",
    sabotage=entry_bit("present", set=False, page=1),
)
def test_populating_a_hole_is_enomem(subject: Subject, witness: Witness) -> None:
    for advice in ("POPULATE_READ", "POPULATE_WRITE"):
        area = subject.apart(pages=4)
        subject.munmap(area[2:3])
        with subject.refuses("ENOMEM"):
            subject.madvise(area, advice)
        before = witness.pages(area[:2])
        assert (before.present, before.anon) == (1, advice == "POPULATE_WRITE")


@claim(
    "madvise.populate.4",
    ADVICE,
    "EINVAL advice is MADV_POPULATE_READ or MADV_POPULATE_WRITE, but the specified address range includes ranges with "
    "insufficient permissions or special mappings, for example, mappings marked with kernel-internal flags such a "
    "VM_IO or VM_PFNMAP",
    reading="Memory without access, and for writing memory that may only be read.",
    sabotage=entry_bit("present", set=True),
)
def test_populating_what_may_not_be_accessed_is_einval(subject: Subject, witness: Witness) -> None:
    none, readable = subject.mmap(pages=2, prot="none"), subject.mmap(pages=2, prot="r")
    rss = witness.mm(subject).rss_anon
    for area, advice in ((none, "POPULATE_READ"), (none, "POPULATE_WRITE"), (readable, "POPULATE_WRITE")):
        with subject.refuses("EINVAL"):
            subject.madvise(area, advice)
        assert witness.pages(area).pfns == NO_PFN
    assert witness.mm(subject).rss_anon == rss
