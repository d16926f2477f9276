"""The agent as PID 1 of a guest: what its subjects leave behind, survive and report, on each architecture."""

from __future__ import annotations

import time

import pytest

from hostwalk.guest import Agent, Subject, SubjectDied
from hostwalk.image.layout import Layout
from hostwalk.machine import Machine
from hostwalk.target import Arch, Target

RETURN = {Arch.X86_64: b"\xc3", Arch.ARM64: b"\xc0\x03\x5f\xd6"}


def test_hello(agent: Agent, layout: Layout, target: Target) -> None:
    said = agent.hello()
    assert (said.page_size, said.cpus) == (layout["PAGE_SIZE"], target.cpus)


def test_operations_change_what_they_are_about_and_nothing_else(subject: Subject) -> None:
    area = subject.mmap(pages=8)
    before, faults = anonymous(subject), minor_faults(subject)
    area[:5].touch()
    assert minor_faults(subject) == faults + 5
    assert anonymous(subject) == before + 5 * area.page_size
    faults = minor_faults(subject)
    area[5:].touch()
    assert minor_faults(subject) == faults + 3


def test_subjects_are_laid_out_alike(agent: Agent) -> None:
    with agent.spawn() as one, agent.spawn() as two:
        assert one.mmap(pages=3).start == two.mmap(pages=3).start
        assert own_mappings(one) == own_mappings(two)


def test_faults_and_execution(subject: Subject, target: Target) -> None:
    code = subject.mmap()
    subject.poke(code.start, RETURN[target.arch])
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.execute(code.start)
    subject.mprotect(code, "rx")
    assert subject.execute(code.start).fault is None
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        subject.mmap(pages=2, shared=True, fd=subject.memfd(1)).touch()


def test_fork_copies_on_write(subject: Subject) -> None:
    area = subject.mmap(pages=2).touch(1)
    before = subject.pagemap(area)
    with subject.fork() as child, child.thread() as thread:
        assert child.pagemap(area) != before
        thread.store(area.start, byte=2)
        assert (subject.peek(area.start, 1), child.peek(area.start, 1)) == (b"\1", b"\2")
    with pytest.raises(SubjectDied):
        child.syscall("getpid")


def test_the_agent_outlives_its_subjects(agent: Agent) -> None:
    with agent.spawn() as subject:
        assert subject.end_by("exit_group", 7) == 7 << 8
    with agent.spawn() as hungry:
        hungry.rlimit("AS", 0)
        with hungry.refuses("ENOMEM"):
            hungry.mmap()


def test_a_subject_in_a_system_call_holds_nobody_up(agent: Agent, subject: Subject) -> None:
    patience = (1).to_bytes(8, "little") + bytes(8)
    with agent.spawn() as other:
        sleeping = subject.start_syscall("nanosleep", subject.scratch, 0, payload=patience)
        start = time.monotonic()
        assert other.syscall("getpid").value == other.pid
        assert time.monotonic() - start < 0.9
        assert sleeping.result().value == 0


def test_settling_leaves_the_subject_as_it_was(subject: Subject) -> None:
    before = subject.read_file("/proc/self/maps")
    assert (
        subject.syscall(
            "migrate_pages", 0, 2, subject.scratch, subject.scratch, payload=b"\1" + bytes(7)
        ).errno
        is None
    )
    subject.settle()
    assert subject.read_file("/proc/self/maps") == before


def test_a_page_of_the_claim_is_a_page_of_the_subject(subject: Subject, machine: Machine) -> None:
    area = subject.mmap(pages=4).touch()
    with subject.get_user_pages(area, write=True) as pins:
        assert pins.pfns == tuple(entry & ((1 << 55) - 1) for entry in subject.pagemap(area))
    assert not machine.broken


def minor_faults(subject: Subject) -> int:
    return int(subject.read_file("/proc/self/stat").rpartition(b")")[2].split()[7])


def anonymous(subject: Subject) -> int:
    """Bytes, counted in the page tables: the counters of 6.1 lag behind."""
    lines = subject.read_file("/proc/self/smaps_rollup").decode().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


def own_mappings(subject: Subject) -> list[str]:
    lines = subject.read_file("/proc/self/maps").decode().splitlines()
    return [line for line in lines if not line.startswith(f"{subject.scratch:x}-")]
