"""mlockall(2) and munlockall(2)."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Subject
from hostwalk.sabotage import def_flag, entry_bit, mm_counter, page_flag, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "mlockall(2)"
CURRENT = "MCL_CURRENT: Lock all pages which are currently mapped into the address space of the process."
FUTURE = (
    "MCL_FUTURE: Lock all pages which will become mapped into the address space of the process in the future."
)
ONFAULT = (
    "When used with MCL_FUTURE, all future mappings will be marked to lock pages when they are faulted in, but "
    "they will not be populated by the lock when the mapping is created."
)
MAY_FAIL = (
    "If MCL_FUTURE has been specified, then a later system call (e.g., mmap(2), sbrk(2), malloc(3)), may fail if "
    "it would cause the number of locked bytes to exceed the permitted maximum."
)
NEVER_LOCKED = {"VM_IO", "VM_PFNMAP", "VM_MIXEDMAP", "VM_DONTEXPAND"}
PLENTY = 1 << 30


@claim("mlockall.current.1", PAGE, CURRENT, sabotage=vm_flag("VM_LOCKED"))
def test_every_mapping_is_locked(subject: Subject, witness: Witness) -> None:
    subject.mmap(pages=2, prot="r")
    subject.mmap(pages=2, shared=True, fd=subject.memfd(2))
    subject.mlockall("current")
    plain = [vma for vma in witness.vmas(subject).vmas if vma.names.isdisjoint(NEVER_LOCKED)]
    assert all("VM_LOCKED" in vma.names for vma in plain)
    locked = sum(vma.end - vma.start for vma in plain)
    assert witness.mm(subject).locked_vm * subject.page_size == locked


@claim(
    "mlockall.current.2",
    PAGE,
    "All mapped pages are guaranteed to be resident in RAM when the call returns successfully.",
    reading="What is mapped and empty becomes resident.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_what_is_mapped_becomes_resident(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3)
    assert witness.pages(area).pfns == NO_PFN
    subject.mlockall("current")
    pages = witness.pages(area)
    assert (pages.present, pages.writable) == (1, 1)
    assert pages.flag("PG_mlocked") == 1
    later = subject.mmap(pages=2)
    assert witness.pages(later).pfns == NO_PFN


@claim(
    "mlockall.current.3",
    PAGE,
    "All mapped pages are guaranteed to be resident in RAM when the call returns successfully.",
    reading="Memory that nobody may access becomes resident too.",
    sabotage=entry_bit("present", set=False),
    departs=departure(
        "returns 0 although PROT_NONE memory could not be populated",
        cites="6.12 mm/gup.c:2040, __mm_populate() called by mm_populate() with ignore_errors",
        shows="PROT_NONE pages are not resident",
    ),
)
def test_memory_without_access_becomes_resident_too(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="none")
    subject.mlockall("current")
    present = witness.pages(area).present
    assert present == 1, "PROT_NONE pages are not resident"


@claim(
    "mlockall.current.4",
    "mm/mlock.c",
    "mlockall() ignores what cannot be populated: such memory is marked VM_LOCKED, and stays empty.",
    code="apply_mlockall_flags()",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_memory_without_access_is_marked_only(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="none")
    subject.mlockall("current")
    assert "VM_LOCKED" in witness.vma(area).flags
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mlockall.future.1",
    PAGE,
    FUTURE,
    reading="New mappings are locked.",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_future_mappings_are_locked(subject: Subject, witness: Witness) -> None:
    subject.mlockall("future")
    area = subject.mmap(pages=2, prot="rw")
    assert "VM_LOCKED" in witness.vma(area).flags
    pages = witness.pages(area)
    assert (pages.present, pages.flag("PG_mlocked")) == (1, 1)
    assert witness.mm(subject).def_flags >= {"VM_LOCKED"}


@claim(
    "mlockall.future.2",
    PAGE,
    FUTURE,
    reading="Those of now are left alone.",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_current_mappings_are_left_alone(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=2)
    subject.mlockall("future")
    assert "VM_LOCKED" not in witness.vma(area).flags
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mlockall.future.3",
    PAGE,
    "These could be, for instance, new pages required by a growing heap and stack as well as new memory-mapped "
    "files or shared memory regions.",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_a_growing_heap_is_locked(subject: Subject, witness: Witness) -> None:
    top = -(-subject.call("brk", 0).value // subject.page_size) * subject.page_size
    subject.mlockall("future")
    subject.call("brk", top + 2 * subject.page_size)
    heap = subject.area(top, 2)
    assert "VM_LOCKED" in witness.vma(heap).flags
    assert witness.pages(heap).present == 1


@claim(
    "mlockall.future.4",
    PAGE,
    "If a call to mlockall() which uses the MCL_FUTURE flag is followed by another call that does not specify "
    "this flag, the changes made by the MCL_FUTURE call will be lost.",
    sabotage=def_flag("VM_LOCKED"),
)
def test_a_later_call_without_the_flag_undoes_it(subject: Subject, witness: Witness) -> None:
    subject.mlockall("future")
    subject.mlockall("current")
    assert "VM_LOCKED" not in witness.mm(subject).def_flags
    area = subject.apart(pages=2)
    assert "VM_LOCKED" not in witness.vma(area).flags
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "mlockall.fork.1",
    PAGE,
    "The mlockall() MCL_FUTURE and MCL_FUTURE | MCL_ONFAULT settings are not inherited by a child created via "
    "fork(2).",
    sabotage=def_flag("VM_LOCKED"),
)
def test_fork_does_not_inherit_the_setting(subject: Subject, witness: Witness) -> None:
    subject.mlockall("current", "future", "onfault")
    with subject.fork() as child:
        seen = witness.mm(child)
        assert seen.def_flags.isdisjoint({"VM_LOCKED", "VM_LOCKONFAULT"})
        assert seen.locked_vm == 0
        assert not any("VM_LOCKED" in vma.names for vma in witness.vmas(child).vmas)


@claim(
    "mlockall.onfault.1",
    PAGE,
    "When used with MCL_CURRENT, all present pages are locked, but mlockall() will not fault in non-present pages.",
    sabotage=page_flag("PG_mlocked", set=False),
)
def test_onfault_locks_what_is_present(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3)
    area[1:2].touch()
    subject.mlockall("current", "onfault")
    pages = witness.pages(area)
    assert pages.present == (0, 1, 0)
    assert pages.flag("PG_mlocked")[1] == 1
    area[2:].touch()
    assert witness.pages(area).flag("PG_mlocked")[1:] == (1, 1)


@claim("mlockall.onfault.2", PAGE, ONFAULT, sabotage=entry_bit("present", set=True))
def test_onfault_populates_no_future_mapping(subject: Subject, witness: Witness) -> None:
    subject.mlockall("future", "onfault")
    area = subject.mmap(pages=2)
    assert witness.vma(area).flags >= {"VM_LOCKED", "VM_LOCKONFAULT"}
    assert witness.pages(area).pfns == NO_PFN
    area[:1].touch()
    assert witness.pages(area).flag("PG_mlocked")[0] == 1


@claim(
    "munlockall.all.1",
    PAGE,
    "munlockall() unlocks all pages mapped into the address space of the calling process.",
    sabotage=mm_counter("locked_vm", +1),
)
def test_munlockall_unlocks_everything(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2)
    subject.mlockall("current", "future")
    subject.mlock(area)
    subject.munlockall()
    after = witness.mm(subject)
    assert after.locked_vm == 0
    assert "VM_LOCKED" not in after.def_flags
    assert not any("VM_LOCKED" in vma.names for vma in witness.vmas(subject).vmas)
    pages = witness.pages(area)
    assert (pages.present, pages.flag("PG_mlocked")) == (1, 0)


@claim(
    "mlockall.einval.1",
    PAGE,
    "EINVAL: (mlockall()) Unknown flags were specified or MCL_ONFAULT was specified without either MCL_FUTURE or "
    "MCL_CURRENT.",
    sabotage=def_flag("VM_LOCKED"),
)
def test_unknown_flags_are_einval(subject: Subject, witness: Witness) -> None:
    onfault = subject.agent.abi["MCL_ONFAULT"]
    for flags in (onfault, onfault << 1, onfault << 1 | subject.agent.abi["MCL_FUTURE"], 0):
        with subject.refuses("EINVAL"):
            subject.call("mlockall", flags)
    after = witness.mm(subject)
    assert after.locked_vm == 0
    assert "VM_LOCKED" not in after.def_flags


@claim(
    "mlockall.eperm.1",
    PAGE,
    "EPERM: The caller is not privileged, but needs privilege (CAP_IPC_LOCK) to perform the requested operation.",
    sabotage=mm_counter("locked_vm", +1),
)
def test_without_privilege_and_limit_is_eperm(subject: Subject, witness: Witness) -> None:
    subject.rlimit("MEMLOCK", 0)
    subject.drop_privileges()
    for which in ("current", "future"):
        with subject.refuses("EPERM"):
            subject.mlockall(which)
    after = witness.mm(subject)
    assert (after.locked_vm, after.def_flags & {"VM_LOCKED"}) == (0, set())
    subject.munlockall()


@claim(
    "mlockall.enomem.1",
    PAGE,
    "ENOMEM: (Linux 2.6.9 and later) the caller had a nonzero RLIMIT_MEMLOCK soft resource limit, but tried to "
    "lock more memory than the limit permitted.",
    sabotage=mm_counter("locked_vm", +1),
)
def test_more_than_the_limit_is_enomem(subject: Subject, witness: Witness) -> None:
    subject.rlimit("MEMLOCK", subject.page_size)
    subject.drop_privileges()
    with subject.refuses("ENOMEM"):
        subject.mlockall("current")
    assert witness.mm(subject).locked_vm == 0
    assert not any("VM_LOCKED" in vma.names for vma in witness.vmas(subject).vmas)


@claim("mlockall.limit.1", PAGE, MAY_FAIL, sabotage=mm_counter("locked_vm", +1))
def test_a_later_mmap_fails_over_the_limit(subject: Subject, witness: Witness) -> None:
    subject.rlimit("MEMLOCK", 4 * subject.page_size)
    subject.drop_privileges()
    subject.mlockall("future")
    with subject.refuses("EAGAIN"):
        subject.mmap(pages=5)
    subject.mmap(pages=3)
    assert witness.mm(subject).locked_vm == 3
    with subject.refuses("EAGAIN"):
        subject.mmap(pages=2)
    assert witness.mm(subject).locked_vm == 3


@claim(
    "mlockall.limit.2",
    PAGE,
    "Since Linux 2.6.9, if a privileged process calls mlockall(MCL_FUTURE) and later drops privileges "
    "[...] then subsequent memory allocations (e.g., mmap(2), brk(2)) will fail if the RLIMIT_MEMLOCK "
    "resource limit is encountered.",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_dropped_privileges_bring_the_limit_back(subject: Subject, witness: Witness) -> None:
    subject.rlimit("MEMLOCK", 2 * subject.page_size)
    subject.mlockall("future")
    subject.mmap(pages=4)
    assert witness.mm(subject).locked_vm == 4
    subject.drop_privileges()
    with subject.refuses("EAGAIN"):
        subject.mmap(pages=1)
    assert witness.mm(subject).locked_vm == 4


@claim(
    "mlockall.stack.1",
    PAGE,
    "In the same circumstances, stack growth may likewise fail: the kernel will deny stack expansion and deliver a "
    "SIGSEGV signal to the process.",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_a_locked_stack_does_not_grow_over_the_limit(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(pages=PLENTY // subject.page_size, prot="none")
    subject.munmap(room)
    subject.mlockall("future")
    stack = subject.mmap(pages=2, growsdown=True, fixed_at=room.end - 2 * room.page_size)
    below = stack.start - stack.page_size
    subject.must(subject.store(below))
    assert witness.vma(stack).start == below
    locked = witness.mm(subject).locked_vm
    subject.rlimit("MEMLOCK", locked * stack.page_size)
    subject.drop_privileges()
    with subject.faults("SIGSEGV"):
        subject.store(below - stack.page_size)
    assert witness.mm(subject).locked_vm == locked == 3


@claim(
    "mlockall.both.1",
    PAGE,
    CURRENT,
    reading="Together with MCL_FUTURE: what is there and what comes.",
    sabotage=page_flag("PG_mlocked", set=False),
)
def test_what_is_there_and_what_comes_is_locked(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3)
    subject.mlockall("current", "future")
    later = subject.mmap(pages=3)
    for each in (area, later):
        pages = witness.pages(each)
        assert (pages.present, pages.flag("PG_mlocked")) == (1, 1)
        assert "VM_LOCKED" in witness.vma(each).flags
