"""mprotect(2), ERRORS: each error, and that the memory is as it was."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import committed, entry_bit, mm_counter, vm_flag
from hostwalk.witness import Witness

PAGE = "mprotect(2)"
MS_NOEXEC = 8
SPARE_MAPPINGS = 40
MORE_THAN_ANYONE_HAS = 1 << 35  # half of the smallest address space, of 36 bits
UNKNOWN_PROT = 1 << 20


@claim(
    "mprotect.einval.1",
    PAGE,
    "EINVAL addr is not a valid pointer, or not a multiple of the system page size.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_an_unaligned_address_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for offset, length in ((1, area.page_size), (area.page_size // 2, 1), (1, 0)):
        with subject.refuses("EINVAL"):
            subject.mprotect((area.start + offset, length), "r")
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.einval.2",
    PAGE,
    "EINVAL: Both PROT_GROWSUP and PROT_GROWSDOWN were specified in prot.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_growing_both_ways_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    both = subject.agent.names.flags("GROWSUP|GROWSDOWN|READ", "PROT_")
    for length in (area.length, 0):
        with subject.refuses("EINVAL"):
            subject.call("mprotect", area.start, length, both)
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.einval.3",
    PAGE,
    "EINVAL: Invalid flags specified in prot.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_unknown_flags_are_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for bit in (UNKNOWN_PROT, 1 << 63):
        with subject.refuses("EINVAL"):
            subject.call("mprotect", area.start, area.length, subject.protection("r") | bit)
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.sem.1",
    PAGE,
    "PROT_SEM [...] The memory can be used for atomic operations. [...] but is not currently used in "
    "on any architecture.",
    reading="It is accepted, and changes nothing.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_prot_sem_is_accepted_and_means_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    assert witness.pages(area).writable == 1
    flags = witness.vma(area).flags
    subject.call("mprotect", area.start, area.length, subject.agent.names.flags("READ|SEM", "PROT_"))
    assert witness.pages(area).writable == 0
    assert witness.vma(area).flags == flags - {"VM_WRITE"}


@claim(
    "mprotect.len0.1",
    "mm/mprotect.c",
    "len 0 succeeds and changes nothing, even where nothing is mapped.",
    code="do_mprotect_pkey(): if (!len) return 0",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_length_zero_changes_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    subject.munmap(area[2:])
    before = witness.pages(area)
    subject.mprotect((area.start, 0), "none")
    subject.mprotect((area[2:].start, 0), "none")
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.enomem.2",
    PAGE,
    "ENOMEM: Addresses in the range [addr, addr+len-1] are invalid for the address space of the process.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_a_range_that_wraps_is_enomem(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for length in ((1 << 64) - area.start, (1 << 64) - area.page_size, (1 << 64) - 1):
        with subject.refuses("ENOMEM"):
            subject.mprotect((area.start, length), "none")
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.enomem.3",
    PAGE,
    "ENOMEM: Changing the protection of a memory region would result in the total number of mappings with distinct "
    "attributes (e.g., read versus read/write protection) exceeding the allowed maximum.",
    sabotage=mm_counter("map_count", +1, at=2),
)
def test_too_many_mappings_is_enomem(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=3).touch()
    _make_mappings(subject)
    count, before = witness.mm(subject).map_count, witness.pages(area)
    with subject.sysctl("vm/max_map_count", count), subject.refuses("ENOMEM"):
        subject.mprotect(area[1:2], "r")
    assert witness.mm(subject).map_count == count
    assert witness.pages(area).entries == before.entries


def _make_mappings(subject: Subject) -> None:
    """Have more mappings than any other process, so that a limit hits this one only."""
    room = subject.mmap(pages=SPARE_MAPPINGS)
    for page in range(1, SPARE_MAPPINGS, 2):
        subject.mprotect(room[page], "none")


@claim(
    "mprotect.eacces.1",
    PAGE,
    "EACCES: The memory cannot be given the specified access. This can happen, for example, if you mmap(2) a file to "
    "which you have read-only access, then ask mprotect() to mark it PROT_WRITE.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_write_to_a_read_only_file_is_eacces(subject: Subject, witness: Witness) -> None:
    read_only = subject.open(f"/proc/self/fd/{subject.memfd(1)}", "O_RDONLY")
    area = subject.mmap(pages=1, prot="r", shared=True, fd=read_only).load()
    before = witness.pages(area)
    with subject.refuses("EACCES"):
        subject.mprotect(area, "rw")
    assert witness.pages(area).entries == before.entries
    assert witness.vma(area).flags.isdisjoint({"VM_WRITE", "VM_SHARED", "VM_MAYWRITE"})


@claim(
    "mprotect.eacces.2",
    PAGE,
    "EACCES: The memory cannot be given the specified access.",
    reading="Execution from a mount without exec.",
    sabotage=entry_bit("executable", set=True, at=2),
)
def test_execute_from_a_noexec_mount_is_eacces(subject: Subject, witness: Witness) -> None:
    with subject.file_system("ramfs", MS_NOEXEC) as where:
        fd = subject.open(f"{where}/code", "O_RDWR|O_CREAT")
        subject.ftruncate(fd, 1)
        area = subject.mmap(pages=1, prot="r", fd=fd).load()
        before = witness.pages(area)
        with subject.refuses("EACCES"):
            subject.mprotect(area, "rx")
        after = witness.pages(area)
        subject.munmap(area)
        subject.close(fd)
    assert after.executable == 0
    assert after.entries == before.entries


@claim(
    "mprotect.eacces.3",
    PAGE,
    "EACCES: The memory cannot be given the specified access.",
    reading="Writes to a sealed file.",
    sabotage=vm_flag("VM_WRITE"),
)
def test_write_to_a_sealed_file_is_eacces(subject: Subject, witness: Witness) -> None:
    abi, fd = subject.agent.abi, subject.memfd(1, "ALLOW_SEALING")
    subject.call("fcntl", fd, abi["F_ADD_SEALS"], abi["F_SEAL_FUTURE_WRITE"])
    area = subject.mmap(pages=1, prot="r", shared=True, fd=fd).load()
    with subject.refuses("EACCES"):
        subject.mprotect(area, "rw")
    assert witness.vma(area).flags.isdisjoint({"VM_WRITE", "VM_MAYWRITE"})


@claim(
    "mprotect.mdwe.1",
    "include/linux/mman.h",
    "Denies creating a writable executable mapping or gaining executable permissions.",
    reading=(
        "After prctl(PR_SET_MDWE) memory that was writable does not become executable, and no entry changes."
    ),
    kernels=">=6.3",
    sabotage=entry_bit("executable", set=True, at=2),
)
def test_mdwe_refuses_to_make_memory_executable(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    subject.prctl("SET_MDWE", subject.agent.abi["PR_MDWE_REFUSE_EXEC_GAIN"])
    with subject.refuses("EACCES"):
        subject.mprotect(area, "rx")
    after = witness.pages(area)
    assert after.executable == 0
    assert after.entries == before.entries
    with subject.refuses("EACCES"):
        subject.mmap(pages=1, prot="rwx")


@claim(
    "mprotect.mseal.1",
    "Documentation/userspace-api/mseal.rst",
    "mprotect and pkey_mprotect are blocked because they changes the protection bits (RWX) of the "
    "mapping. [...] Kernel will return -EPERM for blocked syscalls.",
    kernels=">=6.10",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_a_sealed_mapping_is_eperm(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=2).touch()
    before = witness.pages(area)
    subject.mseal(area)
    for part in (area, area[:1], area[1:]):
        with subject.refuses("EPERM"):
            subject.mprotect(part, "r")
    assert witness.pages(area).entries == before.entries
    assert "VM_WRITE" in witness.vma(area).flags


def _unaffordable(subject: Subject) -> Area:
    """Return a private read-only mapping of more pages than the machine has: nothing is charged for it yet."""
    return subject.mmap(pages=MORE_THAN_ANYONE_HAS // subject.page_size, prot="r")


@claim(
    "mprotect.commit.1",
    "mprotect(POSIX)",
    "[ENOMEM] The prot argument specifies PROT_WRITE on a MAP_PRIVATE mapping, and it would require more space "
    "than the system is able to supply for locking the private pages, if required.",
    sabotage=committed(+1, at=2),
)
def test_more_than_can_be_committed_is_enomem(subject: Subject, witness: Witness) -> None:
    area = _unaffordable(subject)
    charged = witness.committed().pages
    with subject.refuses("ENOMEM"):
        subject.mprotect(area, "rw")
    assert witness.committed().pages == charged
    assert witness.vma(area).flags.isdisjoint({"VM_WRITE", "VM_ACCOUNT"})


@claim(
    "mprotect.posix.eagain.1",
    "mprotect(POSIX)",
    "[EAGAIN] The prot argument specifies PROT_WRITE over a MAP_PRIVATE mapping and there are insufficient memory "
    "resources to reserve for locking the private page.",
    sabotage=vm_flag("VM_WRITE"),
    departs=departure(
        "fails with ENOMEM: security_vm_enough_memory_mm() is the only check, and POSIX has ENOMEM for the same "
        "case too",
        cites="6.12 mm/mprotect.c:657, mprotect_fixup()",
        shows=r"mprotect\(.*failed with ENOMEM; EAGAIN was expected",
    ),
)
def test_insufficient_memory_is_eagain(subject: Subject, witness: Witness) -> None:
    area = _unaffordable(subject)
    with subject.refuses("EAGAIN"):
        subject.mprotect(area, "rw")
    assert "VM_WRITE" not in witness.vma(area).flags


@claim(
    "mprotect.data.1",
    "mm/mprotect.c",
    "mprotect() that would make more private memory writable than RLIMIT_DATA allows is ENOMEM, and "
    "changes nothing.",
    code="mprotect_fixup(): may_expand_vm()",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_memory_becomes_data_within_the_limit_only(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=16, prot="r").load()
    before, data = witness.pages(area), witness.mm(subject).data_vm
    subject.rlimit("DATA", (data + 8) * subject.page_size)
    with subject.refuses("ENOMEM"):
        subject.mprotect(area, "rw")
    assert witness.pages(area).entries == before.entries
    subject.mprotect(area[:8], "rw")
    assert witness.mm(subject).data_vm == data + 8
