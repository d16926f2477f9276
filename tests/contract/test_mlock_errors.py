"""mlock(2), mlock2(2), munlock(2): ERRORS, limits, and what an error leaves behind."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit, mm_counter, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "mlock(2)"
NO_CHANGE = (
    "On error, -1 is returned, errno is set to indicate the error, and no changes are made to any locks in the "
    "address space of the process."
)
NOT_MAPPED = (
    "ENOMEM: Some of the specified address range does not correspond to mapped pages in the address space of the "
    "process."
)
OVERFLOW = (
    "EINVAL: The result of the addition addr+len was less than addr (e.g., the addition may have resulted in an "
    "overflow)."
)
LIMIT = (
    "ENOMEM: (Linux 2.6.9 and later) the caller had a nonzero RLIMIT_MEMLOCK soft resource limit, but tried to "
    "lock more memory than the limit permitted. This limit is not enforced if the process is privileged "
    "(CAP_IPC_LOCK)."
)
SPARE_MAPPINGS = 40


def _with_a_hole(subject: Subject) -> Area:
    area = subject.apart(pages=5)
    subject.munmap(area[2:3])
    return area


@claim(
    "mlock.enomem.1",
    PAGE,
    "ENOMEM (mlock(), mlock2(), and munlock()) Some of the specified address range does not "
    "correspond to mapped pages in the address space of the process.",
    sabotage=vm_flag("VM_LOCKED", at=1),
)
def test_a_hole_is_enomem(subject: Subject, witness: Witness) -> None:
    area = _with_a_hole(subject)
    with subject.refuses("ENOMEM"):
        subject.mlock(area)
    assert "VM_LOCKED" not in witness.vma(area[3:]).flags
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mlock.error.1",
    PAGE,
    NO_CHANGE,
    reading="A hole: nothing before it is locked.",
    sabotage=vm_flag("VM_LOCKED"),
    departs=departure(
        "the mappings before the hole are locked, and counted in locked_vm, but not populated",
        cites="6.12 mm/mlock.c:545, apply_vma_lock_flags(): each vma is done before the next is looked at",
        shows="the mapping before the hole is VM_LOCKED",
    ),
)
def test_mlock_over_a_hole_locks_nothing(subject: Subject, witness: Witness) -> None:
    area = _with_a_hole(subject)
    with subject.refuses("ENOMEM"):
        subject.mlock(area)
    flags = witness.vma(area).flags
    assert "VM_LOCKED" not in flags, "the mapping before the hole is VM_LOCKED"


@claim(
    "mlock.error.2",
    "mm/mlock.c",
    "The mappings before a hole are locked when it returns ENOMEM; nothing is populated then.",
    code="apply_vma_lock_flags()",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_mlock_over_a_hole_has_locked_what_is_before_it(subject: Subject, witness: Witness) -> None:
    area = _with_a_hole(subject)
    locked = witness.mm(subject).locked_vm
    with subject.refuses("ENOMEM"):
        subject.mlock(area)
    assert ["VM_LOCKED" in witness.vma(area[page]).flags for page in (0, 1, 3, 4)] == [
        True,
        True,
        False,
        False,
    ]
    assert witness.mm(subject).locked_vm == locked + 2
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mlock.error.3",
    PAGE,
    NO_CHANGE,
    reading="Memory that cannot be populated is not locked.",
    sabotage=vm_flag("VM_LOCKED"),
    departs=departure(
        "memory that cannot be populated stays VM_LOCKED, and counted, although the call failed",
        cites="6.12 mm/mlock.c:655, do_mlock(): __mm_populate() comes after the flags are set and undoes nothing",
        shows="the mapping is VM_LOCKED after the error",
    ),
)
def test_mlock_that_cannot_populate_locks_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="none")
    with subject.refuses("ENOMEM", "EAGAIN"):
        subject.mlock(area[:1])
    flags = witness.vma(area).flags
    assert "VM_LOCKED" not in flags, "the mapping is VM_LOCKED after the error"


@claim(
    "mlock.error.4",
    PAGE,
    NO_CHANGE,
    reading="munlock() over a hole: nothing before it is unlocked.",
    sabotage=vm_flag("VM_LOCKED"),
    departs=departure(
        "the mappings before the hole are unlocked",
        cites="6.12 mm/mlock.c:545, apply_vma_lock_flags(), which munlock() shares with mlock()",
        shows="the mapping before the hole is unlocked",
    ),
)
def test_munlock_over_a_hole_unlocks_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=5)
    subject.mlock(area)
    subject.munmap(area[2:3])
    with subject.refuses("ENOMEM"):
        subject.munlock(area)
    flags = witness.vma(area).flags
    assert "VM_LOCKED" in flags, "the mapping before the hole is unlocked"


@claim(
    "mlock.eagain.1",
    PAGE,
    "EAGAIN (mlock(), mlock2(), and munlock()) Some or all of the specified address range could not "
    "be locked.",
    sabotage=entry_bit("present", set=True),
    departs=departure(
        "PROT_NONE memory, which is mapped but cannot be made resident, gives ENOMEM",
        cites="6.12 mm/gup.c:1911 -EFAULT, which __mlock_posix_error_return() makes ENOMEM (mm/mlock.c:605)",
        shows=r"failed with ENOMEM; EAGAIN was expected",
    ),
)
def test_memory_that_cannot_be_resident_is_eagain(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="none")
    with subject.refuses("EAGAIN"):
        subject.mlock(area)
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mlock.enomem.2",
    "mm/mlock.c",
    "PROT_NONE memory and pages behind the end of a file cannot be populated: the call fails with ENOMEM.",
    code="__mlock_posix_error_return()",
    sabotage=entry_bit("present", set=True),
)
def test_what_cannot_be_populated_is_enomem(subject: Subject, witness: Witness) -> None:
    none = subject.mmap(pages=2, prot="none")
    short = subject.mmap(pages=3, shared=True, fd=subject.memfd(2))
    for area in (none, short):
        with subject.refuses("ENOMEM"):
            subject.mlock(area)
    assert witness.pages(none).pfns == NO_PFN
    assert witness.pages(short).present == (1, 1, 0)


@claim(
    "mlock.einval.1",
    PAGE,
    "EINVAL (mlock(), mlock2(), and munlock()) The result of the addition addr+len was less than addr "
    "(e.g., the addition may have resulted in an overflow).",
    reading="A range that wraps far is refused and nothing is locked.",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_a_length_that_overflows_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    length = (1 << 64) - 2 * area.page_size
    for call in (subject.mlock, subject.mlock2, subject.munlock):
        with subject.refuses("EINVAL"):
            call((area.address(1), length))
    assert "VM_LOCKED" not in witness.vma(area).flags


@claim(
    "mlock.einval.2",
    PAGE,
    "EINVAL (mlock(), mlock2(), and munlock()) The result of the addition addr+len was less than addr "
    "(e.g., the addition may have resulted in an overflow).",
    reading="mlock() with a length that ends within a page of 2^64.",
    sabotage=vm_flag("VM_LOCKED"),
    departs=departure(
        "succeeds and locks nothing when the length is within a page of 2^64: PAGE_ALIGN() makes it 0",
        cites="6.12 mm/mlock.c:625, do_mlock() has no check before PAGE_ALIGN(); 7.3 has none either",
        shows=r"mlock\(.*succeeded; EINVAL was expected",
    ),
)
def test_a_length_just_below_the_limit_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    with subject.refuses("EINVAL"):
        subject.mlock((area.start, (1 << 64) - 1))
    assert "VM_LOCKED" not in witness.vma(area).flags


@claim(
    "mlock.einval.3",
    PAGE,
    "EINVAL (mlock(), mlock2(), and munlock()) The result of the addition addr+len was less than addr "
    "(e.g., the addition may have resulted in an overflow).",
    reading="munlock() with a length that ends within a page of 2^64.",
    sabotage=vm_flag("VM_LOCKED"),
    departs=departure(
        "munlock() succeeds and unlocks nothing when the length is within a page of 2^64",
        cites="6.12 mm/mlock.c:688, munlock()",
        shows=r"munlock\(.*succeeded; EINVAL was expected",
    ),
)
def test_munlock_of_a_length_just_below_the_limit_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2)
    subject.mlock(area)
    with subject.refuses("EINVAL"):
        subject.munlock((area.start, (1 << 64) - 1))
    assert "VM_LOCKED" in witness.vma(area).flags


@claim(
    "mlock.einval.4", PAGE, "EINVAL: (mlock2()) Unknown flags were specified.", sabotage=vm_flag("VM_LOCKED")
)
def test_unknown_flags_are_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    for flags in (subject.agent.abi["MLOCK_ONFAULT"] << 1, 1 << 30):
        with subject.refuses("EINVAL"):
            subject.call("mlock2", area.start, area.length, flags)
    assert "VM_LOCKED" not in witness.vma(area).flags


@claim(
    "mlock.len0.1",
    "mm/mlock.c",
    "len 0 succeeds and locks nothing, even where nothing is mapped.",
    code="apply_vma_lock_flags()",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_length_zero_locks_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3)
    subject.munmap(area[2:])
    for address in (area.start, area.address(2)):
        subject.mlock((address, 0))
        subject.munlock((address, 0))
    assert "VM_LOCKED" not in witness.vma(area).flags
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mlock.enomem.3",
    PAGE,
    "ENOMEM (mlock(), mlock2(), and munlock()) Locking or unlocking a region would result in the "
    "total number of mappings with distinct attributes (e.g., locked versus unlocked) exceeding the "
    "allowed maximum.",
    sabotage=mm_counter("map_count", +1, at=2),
)
def test_too_many_mappings_is_enomem(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=3)
    subject.mlock(area)
    room = subject.mmap(pages=SPARE_MAPPINGS)
    for page in range(1, SPARE_MAPPINGS, 2):
        subject.mprotect(room[page], "none")
    count = witness.mm(subject).map_count
    with subject.sysctl("vm/max_map_count", count), subject.refuses("ENOMEM"):
        subject.munlock(area[1:2])
    assert witness.mm(subject).map_count == count
    assert "VM_LOCKED" in witness.vma(area[1]).flags


@claim(
    "mlock.eperm.1",
    PAGE,
    "EPERM: The caller is not privileged, but needs privilege (CAP_IPC_LOCK) to perform the requested operation.",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_without_privilege_and_limit_is_eperm(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    subject.rlimit("MEMLOCK", 0)
    subject.drop_privileges()
    for call in (subject.mlock, subject.mlock2):
        with subject.refuses("EPERM"):
            call(area)
    assert "VM_LOCKED" not in witness.vma(area).flags
    subject.munlock(area)


@claim(
    "mlock.limit.1",
    PAGE,
    LIMIT,
    reading="More than the limit is refused, and not counted.",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_more_than_the_limit_is_enomem(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4)
    subject.rlimit("MEMLOCK", 3 * area.page_size)
    subject.drop_privileges()
    locked = witness.mm(subject).locked_vm
    with subject.refuses("ENOMEM"):
        subject.mlock(area)
    assert witness.mm(subject).locked_vm == locked == 0
    subject.mlock(area[:3])
    assert witness.mm(subject).locked_vm == 3
    with subject.refuses("ENOMEM"):
        subject.mlock(area[3:])
    assert witness.pages(area).present == (1, 1, 1, 0)


@claim(
    "mlock.limit.2",
    PAGE,
    LIMIT,
    reading="A privileged process has no limit.",
    sabotage=mm_counter("locked_vm", -1),
)
def test_a_privileged_process_has_no_limit(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4)
    subject.rlimit("MEMLOCK", area.page_size)
    subject.mlock(area)
    assert witness.mm(subject).locked_vm == 4


@claim(
    "mlock.limit.3",
    PAGE,
    "if the region specified by addr and len overlapped an existing lock, then the already locked "
    "bytes in the overlapping region were counted twice when checking against the limit. [...] This "
    "bug was fixed in Linux 4.9.",
    reading="What is locked already counts once.",
    sabotage=mm_counter("locked_vm", +1),
)
def test_what_is_locked_already_is_not_counted_twice(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=6)
    subject.rlimit("MEMLOCK", 4 * area.page_size)
    subject.drop_privileges()
    subject.mlock(area[1:4])
    subject.mlock(area[:4])
    subject.mlock(area[2:3])
    assert witness.mm(subject).locked_vm == 4
    with subject.refuses("ENOMEM"):
        subject.mlock(area[1:5])
    assert witness.mm(subject).locked_vm == 4
