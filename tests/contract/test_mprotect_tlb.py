"""mprotect(2) and pkey_mprotect(2): what the processor remembers of a right is gone with the right."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Subject, SyscallFailed
from hostwalk.guest.code import run_call_run, store_call_store
from hostwalk.sabotage import entry_bit
from hostwalk.witness import Witness

PAGE = "mprotect(2)"
VIOLATION = (
    "If the calling process tries to access memory in a manner that violates the protections, then the kernel "
    "generates a SIGSEGV signal for the process."
)


@claim(
    "mprotect.tlb.5",
    PAGE,
    VIOLATION,
    reading="The very next call of a function whose page may be executed no more.",
    sabotage=entry_bit("executable", set=True),
)
def test_the_very_next_run_faults(subject: Subject, witness: Witness) -> None:
    number, read = subject.agent.abi["__NR_mprotect"], subject.protection("r")
    function = subject.code(subject.returning())
    args = (function.start, function.length, read)
    code = subject.code(run_call_run(subject.arch, function.start, number, args))
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.execute(code.start)
    assert witness.pages(function).executable == 0


@claim(
    "pkey_mprotect.tlb.1",
    "pkeys(7)",
    "If a process performs an access that violates pkey restrictions, it receives a SIGSEGV signal.",
    reading="The very next store to memory that got a key which allows none.",
    sabotage=entry_bit("writable", set=False),
)
def test_the_very_next_store_faults_for_its_key(subject: Subject, witness: Witness) -> None:
    try:
        key = subject.pkey_alloc(subject.agent.names.flags("DISABLE_WRITE", "PKEY_"))
    except SyscallFailed as failed:
        if failed.errno in ("ENOSPC", "ENOSYS", "EINVAL"):
            not_applicable("this processor or kernel has no protection keys")
        raise
    area = subject.mmap(pages=1).touch()
    number, both = subject.agent.abi["__NR_pkey_mprotect"], subject.protection("rw")
    args = (area.start, area.length, both, key)
    code = subject.code(store_call_store(subject.arch, area.start, number, args))
    with subject.faults("SIGSEGV", "SEGV_PKUERR"):
        subject.execute(code.start)
    assert witness.pages(area).writable == 1
