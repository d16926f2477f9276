"""mprotect(2): what a process may do with its memory afterwards."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.guest.code import store_call_store, store_until
from hostwalk.sabotage import entry_bit
from hostwalk.witness import Witness

PAGE = "mprotect(2)"
VIOLATION = (
    "If the calling process tries to access memory in a manner that violates the protections, then the kernel "
    "generates a SIGSEGV signal for the process."
)


@claim(
    "mprotect.deny.1",
    PAGE,
    VIOLATION,
    reading="Writes to what became read-only.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_read_only_takes_the_write_away(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    assert witness.pages(area).writable == 1
    subject.mprotect(area, "r")
    assert witness.pages(area).writable == 0
    assert "VM_WRITE" not in witness.vma(area).flags
    for address in area:
        with subject.faults("SIGSEGV", "SEGV_ACCERR"):
            subject.store(address)


@claim(
    "mprotect.none.1",
    PAGE,
    "PROT_NONE: The memory cannot be accessed at all.",
    sabotage=entry_bit("user", set=True),
)
def test_prot_none_refuses_every_access(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rwx").touch()
    subject.mprotect(area, "none")
    after = witness.pages(area)
    assert (after.prot_none, after.user, after.writable, after.executable) == (1, 0, 0, 0)
    for access in (subject.load, subject.store, subject.execute):
        with subject.faults("SIGSEGV", "SEGV_ACCERR"):
            access(area.start)


@claim(
    "mprotect.read.1",
    PAGE,
    "PROT_READ: The memory can be read.",
    sabotage=entry_bit("user", set=False, at=2),
)
def test_prot_read_can_be_read(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    subject.poke(area.start, b"told")
    subject.mprotect(area, "none")
    assert witness.pages(area).user == 0
    subject.mprotect(area, "r")
    assert subject.peek(area.start, 4) == b"told"
    assert witness.pages(area[:1]).user == 1


@claim(
    "mprotect.write.1",
    PAGE,
    "PROT_WRITE: The memory can be modified.",
    reading="What was read-only can be written.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_prot_write_can_be_modified(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="r").load()
    assert witness.pages(area).writable == 0
    subject.mprotect(area, "rw")
    area.store(7)
    assert witness.pages(area).writable == 1
    assert witness.contents(area)[:: area.page_size] == b"\x07" * 3


@claim(
    "mprotect.write.2",
    PAGE,
    "On some hardware architectures (e.g., i386), PROT_WRITE implies PROT_READ.",
    sabotage=entry_bit("user", set=False),
)
def test_what_is_writable_is_readable(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="none")
    subject.mprotect(area, "w")
    area.store(3).load()
    after = witness.pages(area)
    assert (after.user, after.writable) == (1, 1)
    assert witness.vma(area).flags.isdisjoint({"VM_READ", "VM_EXEC"})


@claim(
    "mprotect.exec.1",
    PAGE,
    "PROT_EXEC: The memory can be executed.",
    sabotage=entry_bit("executable", set=False, at=2),
)
def test_prot_exec_can_be_executed(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw")
    subject.poke(area.start, subject.returning())
    assert witness.pages(area).executable == 0
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.execute(area.start)
    subject.mprotect(area, "rx")
    assert witness.pages(area).executable == 1
    subject.must(subject.execute(area.start))


@claim(
    "mprotect.exec.2",
    PAGE,
    VIOLATION,
    reading="Execution of what may no longer be executed.",
    sabotage=entry_bit("executable", set=True),
)
def test_execute_is_taken_away(subject: Subject, witness: Witness) -> None:
    area = subject.code(subject.returning())
    subject.must(subject.execute(area.start))
    for prot in ("r", "rw"):
        subject.mprotect(area, prot)
        assert witness.pages(area).executable == 0
        with subject.faults("SIGSEGV", "SEGV_ACCERR"):
            subject.execute(area.start)


@claim(
    "mprotect.rier.1",
    PAGE,
    "If READ_IMPLIES_EXEC is set in the process's personality flags (see personality(2)), specifying "
    "PROT_READ will implicitly add PROT_EXEC.",
    sabotage=entry_bit("executable", set=False, at=2),
)
def test_read_implies_exec_when_asked_for(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw")
    subject.poke(area.start, subject.returning())
    assert witness.pages(area).executable == 0
    subject.call("personality", subject.agent.abi["READ_IMPLIES_EXEC"])
    subject.mprotect(area, "r")
    assert witness.pages(area).executable == 1
    assert "VM_EXEC" in witness.vma(area).flags
    subject.must(subject.execute(area.start))


@claim(
    "mprotect.posix.write.1",
    "mprotect(POSIX)",
    "No implementation shall permit a write to succeed where PROT_WRITE has not been set or shall permit any access "
    "where PROT_NONE alone has been set.",
    sabotage=entry_bit("writable", set=True, at=3),
)
def test_no_write_without_prot_write(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rwx").touch()
    for prot in ("r", "x", "rx", "none"):
        subject.mprotect(area, prot)
        assert witness.pages(area).writable == 0
        with subject.faults("SIGSEGV"):
            subject.store(area.start)
        subject.mprotect(area, "rw")
        area.touch()


@claim(
    "mprotect.tlb.1",
    PAGE,
    VIOLATION,
    reading="The very next store to what became read-only.",
    sabotage=entry_bit("writable", set=True),
)
def test_the_very_next_store_faults(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    number, read = subject.agent.abi["__NR_mprotect"], subject.protection("r")
    text = store_call_store(subject.arch, area.start, number, (area.start, area.length, read))
    code = subject.code(text)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.execute(code.start)
    assert witness.pages(area).writable == 0


@claim(
    "mprotect.tlb.2",
    PAGE,
    VIOLATION,
    reading="The very next store to what became PROT_NONE.",
    sabotage=entry_bit("user", set=True),
)
def test_the_very_next_store_faults_in_prot_none(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    number = subject.agent.abi["__NR_mprotect"]
    code = subject.code(store_call_store(subject.arch, area.start, number, (area.start, area.length, 0)))
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.execute(code.start)
    assert witness.pages(area).user == 0


@claim(
    "mprotect.tlb.3",
    PAGE,
    VIOLATION,
    reading="The next store of another thread.",
    sabotage=entry_bit("writable", set=True),
)
def test_the_next_store_of_another_thread_faults(subject: Subject, witness: Witness) -> None:
    area, flag = subject.mmap(pages=1).touch(), subject.mmap(pages=1, shared=True).touch(0)
    code = subject.code(store_until(subject.arch, area.start, flag.start))
    with subject.thread() as thread:
        storing = thread.start_execute(code.start)
        subject.mprotect(area, "r")
        subject.poke(flag.start, b"\1")
        with thread.faults("SIGSEGV", "SEGV_ACCERR"):
            storing.result()
    assert witness.pages(area).writable == 0


@claim(
    "mprotect.own.1",
    PAGE,
    "mprotect() changes the access protections for the calling process's memory pages.",
    reading="Another process keeps its own.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_another_process_keeps_its_protection(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True).touch()
    with subject.fork() as child:
        child.must(child.store(area.start, stride=area.page_size, count=area.pages))
        subject.mprotect(area, "r")
        assert witness.pages(area).writable == 0
        assert witness.pages(area, of=child).writable == 1
        assert "VM_WRITE" in witness.vma(area, of=child).flags
        child.must(child.store(area.start))


@claim(
    "mprotect.thread.1",
    PAGE,
    "mprotect() changes the access protections for the calling process's memory pages.",
    reading="A thread changes it for the whole process.",
    sabotage=entry_bit("writable", set=True),
)
def test_a_thread_changes_it_for_the_process(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.thread() as thread:
        thread.mprotect(area, "r")
    assert witness.pages(area).writable == 0
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.store(area.start)
