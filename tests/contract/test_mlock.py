"""mlock(2), mlock2(2) and munlock(2): what is locked, and for how long."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Subject, SyscallFailed
from hostwalk.sabotage import entry_bit, mm_counter, page_flag, vm_edge, vm_flag
from hostwalk.witness import Witness

PAGE = "mlock(2)"
RESIDENT = (
    "All pages that contain a part of the specified address range are guaranteed to be resident in RAM when the call "
    "returns successfully; the pages are guaranteed to stay in RAM until later unlocked."
)
ONFAULT = (
    "MLOCK_ONFAULT: Lock pages that are currently resident and mark the entire range so that the remaining "
    "nonresident pages are locked when they are populated by a page fault."
)
SEVERAL = (
    "Pages which are mapped to several locations or by several processes stay locked into RAM as long as they "
    "are locked at least at one location or by at least one process."
)


@claim(
    "mlock.resident.1",
    PAGE,
    RESIDENT,
    reading="Whole pages, though the range begins and ends within one.",
    sabotage=entry_bit("present", set=False),
)
def test_mlock_makes_whole_pages_resident(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw")
    locked = witness.mm(subject).locked_vm
    subject.mlock((area.start + area.page_size + 1, area.page_size))
    pages = witness.pages(area)
    assert pages.present == (0, 1, 1, 0)
    assert pages.flag("PG_mlocked")[1:3] == 1
    assert pages.flag("PG_unevictable")[1:3] == 1
    assert witness.mm(subject).locked_vm == locked + 2


@claim(
    "mlock.round.1",
    PAGE,
    "Under Linux, mlock(), mlock2(), and munlock() automatically round addr down to the nearest page boundary.",
    sabotage=vm_edge("vm_end", +1),
)
def test_the_start_is_rounded_down(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=3)
    subject.mlock((area.address(1, area.page_size - 1), 1))
    locked = witness.vma(area[1])
    assert (locked.start, locked.end) == (area.address(1), area.address(2))
    assert "VM_LOCKED" in locked.flags
    assert witness.pages(area).present == (0, 1, 0)
    subject.munlock((area.address(1, 7), 1))
    assert "VM_LOCKED" not in witness.vma(area[1]).flags


@claim(
    "mlock.tables.1",
    PAGE,
    RESIDENT,
    reading="A range over two page tables.",
    sabotage=page_flag("PG_mlocked", set=False, page=4),
)
def test_a_range_over_two_page_tables_is_resident(subject: Subject, witness: Witness) -> None:
    area = subject.across_tables(pages=8)
    subject.mlock(area[1:7])
    pages = witness.pages(area)
    assert pages.present == (0, 1, 1, 1, 1, 1, 1, 0)
    assert pages.flag("PG_mlocked")[1:7] == 1
    subject.munlock(area[3:5])
    assert witness.pages(area).flag("PG_mlocked")[1:7] == (1, 1, 0, 0, 1, 1)


@claim(
    "mlock.populate.1",
    "mm/gup.c",
    "We want to touch writable mappings with a write fault in order to break COW.",
    sabotage=entry_bit("writable", set=False),
)
def test_private_memory_is_populated_for_writing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", fd=subject.memfd(2)).load()
    subject.mlock(area)
    pages = witness.pages(area)
    assert (pages.anon, pages.exclusive, pages.writable, pages.dirty) == (1, 1, 1, 1)


@claim(
    "mlock.populate.2",
    "mm/gup.c",
    "except for shared mappings because these don't COW and we would not want to dirty them for nothing.",
    sabotage=entry_bit("dirty", set=True),
)
def test_shared_memory_is_not_dirtied(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2))
    subject.mlock(area)
    pages = witness.pages(area)
    assert (pages.present, pages.dirty, pages.anon) == (1, 0, 0)
    assert pages.flag("PG_mlocked") == 1


@claim(
    "mlock.populate.3", "mm/gup.c", "Otherwise, do a read fault.", sabotage=entry_bit("writable", set=True)
)
def test_read_only_memory_gets_the_zero_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="r")
    subject.mlock(area)
    pages = witness.pages(area)
    assert pages.pfns == witness.zero_pfn
    assert (pages.writable, pages.flag("PG_mlocked")) == (0, 0)
    assert "VM_LOCKED" in witness.vma(area).flags


@claim(
    "mlock.onfault.1",
    PAGE,
    ONFAULT,
    reading="Nothing is faulted in.",
    sabotage=page_flag("PG_mlocked", set=False),
)
def test_onfault_faults_nothing_in(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    area[:1].touch()
    locked = witness.mm(subject).locked_vm
    subject.mlock2(area, onfault=True)
    pages = witness.pages(area)
    assert pages.present == (1, 0, 0)
    assert pages.flag("PG_mlocked")[0] == 1
    assert witness.vma(area).flags >= {"VM_LOCKED", "VM_LOCKONFAULT"}
    assert witness.mm(subject).locked_vm == locked + 3


@claim(
    "mlock.onfault.2",
    PAGE,
    ONFAULT,
    reading="What is faulted in later is locked.",
    sabotage=page_flag("PG_mlocked", set=False, page=1),
)
def test_what_is_faulted_in_later_is_locked(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    subject.mlock2(area, onfault=True)
    area[1:2].touch()
    pages = witness.pages(area)
    assert pages.present == (0, 1, 0)
    assert pages.flag("PG_mlocked")[1] == 1


@claim(
    "mlock.mlock2.1",
    PAGE,
    "If flags is 0, mlock2() behaves exactly the same as mlock().",
    sabotage=entry_bit("present", set=False),
)
def test_mlock2_without_flags_is_mlock(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    subject.mlock2(area)
    assert witness.pages(area).present == 1
    flags = witness.vma(area).flags
    assert "VM_LOCKED" in flags
    assert "VM_LOCKONFAULT" not in flags


@claim(
    "mlock.munlock.1",
    PAGE,
    "Memory locks do not stack, that is, pages which have been locked several times by calls to mlock(), mlock2(), or "
    "mlockall() will be unlocked by a single call to munlock() for the corresponding range or by munlockall().",
    sabotage=page_flag("PG_mlocked", set=True, at=2),
)
def test_one_munlock_undoes_every_mlock(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    locked = witness.mm(subject).locked_vm
    subject.mlock(area)
    subject.mlock2(area, onfault=True)
    subject.mlock(area)
    assert witness.pages(area).flag("PG_mlocked") == 1
    assert witness.mm(subject).locked_vm == locked + 2
    subject.munlock(area)
    pages = witness.pages(area)
    assert (pages.flag("PG_mlocked"), pages.flag("PG_unevictable")) == (0, 0)
    assert "VM_LOCKED" not in witness.vma(area).flags
    assert witness.mm(subject).locked_vm == locked


@claim(
    "mlock.munlock.2",
    PAGE,
    "munlock() unlocks pages in the address range starting at addr and continuing for len bytes.",
    sabotage=vm_flag("VM_LOCKED", at=2),
)
def test_munlock_of_a_part_leaves_the_rest_locked(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4)
    subject.mlock(area)
    locked, count = witness.mm(subject).locked_vm, witness.mm(subject).map_count
    subject.munlock(area[1:3])
    assert ["VM_LOCKED" in witness.vma(area[page]).flags for page in range(4)] == [True, False, False, True]
    assert witness.pages(area).flag("PG_mlocked") == (1, 0, 0, 1)
    assert witness.pages(area).present == 1
    after = witness.mm(subject)
    assert (after.locked_vm, after.map_count) == (locked - 2, count + 2)


@claim(
    "mlock.several.1",
    PAGE,
    SEVERAL,
    reading="By the other process.",
    sabotage=page_flag("PG_mlocked", set=False, at=3),
)
def test_a_page_stays_locked_for_the_other_process(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True, fd=subject.memfd(2)).touch()
    # While a page waits in another processor's batch, mm/mlock.c cannot count how often it was locked.
    assert witness.pages(area).flag("PG_mlocked") == 0
    with subject.fork() as child:
        for process in (subject, child):
            process.mlock((area.start, area.length))
        assert witness.pages(area).flag("PG_mlocked") == 1
        child.munlock((area.start, area.length))
        assert witness.pages(area).flag("PG_mlocked") == 1
        subject.munlock(area)
        assert witness.pages(area).flag("PG_mlocked") == 0


@claim(
    "mlock.several.2",
    PAGE,
    SEVERAL,
    reading="At the other place.",
    sabotage=page_flag("PG_mlocked", set=False, at=2),
)
def test_a_page_stays_locked_at_the_other_place(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(1)
    first, second = (subject.apart(pages=1, shared=True, fd=fd) for _ in range(2))
    subject.mlock(first)
    subject.mlock(second)
    assert witness.pages(first).flag("PG_mlocked") == 1
    subject.munlock(second)
    assert witness.pages(first).flag("PG_mlocked") == 1
    subject.munmap(first)
    assert witness.pages(second).flag("PG_mlocked") == 0


@claim(
    "mlock.fork.1",
    PAGE,
    "Memory locks are not inherited by a child created via fork(2).",
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
    "mlock.munmap.1",
    PAGE,
    "The memory lock on an address range is automatically removed if the address range is unmapped via munmap(2).",
    sabotage=page_flag("PG_mlocked", set=True, at=2),
)
def test_munmap_removes_the_lock(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    locked, seen = witness.mm(subject).locked_vm, subject.apart(pages=2, shared=True, fd=fd).touch()
    area = subject.apart(pages=2, shared=True, fd=fd)
    subject.mlock(area)
    assert witness.pages(seen).flag("PG_mlocked") == 1
    assert witness.mm(subject).locked_vm == locked + 2
    subject.munmap(area)
    assert witness.pages(seen).flag("PG_mlocked") == 0
    assert witness.mm(subject).locked_vm == locked


@claim(
    "mlock.exit.1",
    PAGE,
    "are automatically removed (unlocked) during an execve(2) or when the process terminates.",
    reading="The pages of a process that ended are locked no more.",
    sabotage=page_flag("PG_mlocked", set=True, at=2),
)
def test_the_end_of_a_process_removes_its_locks(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True, fd=subject.memfd(2)).touch()
    with subject.fork() as child:
        child.mlock((area.start, area.length))
        assert witness.pages(area).flag("PG_mlocked") == 1
    pages = witness.pages(area)
    assert (pages.flag("PG_mlocked"), pages.flag("PG_unevictable")) == (0, 0)


@claim(
    "mlock.vmlck.1",
    PAGE,
    "The VmLck field of the Linux-specific /proc/[pid]/status file shows how many kilobytes of memory the "
    "process with ID PID has locked using mlock(), mlock2(), mlockall(), and mmap(2) MAP_LOCKED.",
    sabotage=mm_counter("locked_vm", +1),
)
def test_vmlck_is_what_is_locked(subject: Subject, witness: Witness) -> None:
    subject.mlock(subject.mmap(pages=3))
    subject.mlock2(subject.mmap(pages=2), onfault=True)
    subject.mmap(pages=1, locked=True)
    kilobytes = int(subject.status_fields()["VmLck"].split()[0])
    assert witness.mm(subject).locked_vm * subject.page_size == kilobytes << 10 == 6 * subject.page_size


@claim(
    "mlock.mremap.1",
    "mremap(2)",
    "If the memory segment specified by old_address and old_size is locked (using mlock(2) or similar), then "
    "this lock is maintained when the segment is resized and/or relocated. As a consequence, the amount of "
    "memory locked by the process may change.",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_a_lock_moves_with_its_mapping(subject: Subject, witness: Witness) -> None:
    area, room = subject.apart(pages=2), subject.mmap(pages=6, prot="none")
    subject.mlock(area)
    locked = witness.mm(subject).locked_vm
    moved = subject.mremap(area, 4, fixed_at=room.address(1))
    assert "VM_LOCKED" in witness.vma(moved).flags
    pages = witness.pages(moved)
    assert (pages.present, pages.flag("PG_mlocked")) == (1, 1)
    assert witness.mm(subject).locked_vm == locked + 2
    subject.mremap(moved, 1)
    assert witness.mm(subject).locked_vm == locked - 1


@claim(
    "mlock.dontneed.1",
    "madvise(2)",
    "MADV_DONTNEED cannot be applied to locked pages.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_locked_pages_cannot_be_given_up(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(6)
    subject.mlock(area)
    before = witness.pages(area)
    with subject.refuses("EINVAL"):
        subject.madvise(area, "DONTNEED")
    assert witness.pages(area).entries == before.entries


@claim(
    "mlock.special.1",
    "mm/mlock.c",
    "A pfn mapping is accepted but not locked: it is always there.",
    code="mlock_fixup()",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_a_pfn_mapping_is_not_locked(subject: Subject, witness: Witness) -> None:
    area = subject.insert("remap_pfn_range", subject.alloc_pages("order0", nr=1), prot="rw", shared=True).area
    locked = witness.mm(subject).locked_vm
    subject.mlock(area)
    assert "VM_LOCKED" not in witness.vma(area).flags
    assert witness.mm(subject).locked_vm == locked


@claim(
    "mlock.special.2",
    "mm/mlock.c",
    "A mapping with VM_MIXEDMAP is accepted but not locked.",
    code="mlock_fixup()",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_a_mixed_mapping_is_not_locked(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=1), prot="rw", shared=True).area
    locked = witness.mm(subject).locked_vm
    subject.mlock(area)
    assert "VM_LOCKED" not in witness.vma(area).flags
    assert witness.mm(subject).locked_vm == locked
    assert witness.pages(area).flag("PG_mlocked") == 0


@claim(
    "mlock.special.3",
    "memfd_secret(2)",
    "The memory region is locked into memory in the same way as with mlock(2), so that it will never "
    "be written into swap [...] will not try to populate the whole range during the mmap(2) call that "
    "attaches the region into the process's address space; instead, the pages are only actually "
    "allocated as they are faulted in.",
    reading="Secret memory is unevictable, and there only where it was touched.",
    sabotage=page_flag("PG_unevictable", set=False),
)
def test_secret_memory_is_unevictable(subject: Subject, witness: Witness) -> None:
    try:
        fd = subject.call("memfd_secret", 0).value
    except SyscallFailed as failed:
        if failed.errno == "ENOSYS":
            not_applicable("this kernel has no secret memory, or it is off")
        raise
    subject.ftruncate(fd, 2)
    area = subject.mmap(pages=2, shared=True, fd=fd)
    area[:1].touch()
    pages = witness.pages(area)
    assert pages.present == (1, 0)
    assert pages.flag("PG_unevictable")[0] == 1
