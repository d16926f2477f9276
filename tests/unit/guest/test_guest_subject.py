"""Subjects of the real agent, as processes of this host."""

from __future__ import annotations

import platform

import pytest

from hostwalk.errors import UsageError
from hostwalk.guest import AccessFaulted, Agent, Subject, SubjectDied, SyscallFailed

RETURN = {"x86_64": b"\xc3", "aarch64": b"\xc0\x03\x5f\xd6"}[platform.machine()]


def test_a_subject_is_a_process_of_its_own(agent: Agent) -> None:
    with agent.spawn() as one, agent.spawn() as two:
        assert one.syscall("getpid").value == one.pid != two.pid
        assert one.scratch != two.scratch
    assert one.status == 9
    with pytest.raises(SubjectDied, match="there is no subject"):
        one.syscall("getpid")


def test_errors_are_exact(subject: Subject) -> None:
    reply = subject.syscall("munmap", 1, 1)
    assert (reply.value, reply.errno) == (-22, "EINVAL")
    with pytest.raises(SyscallFailed, match=r"munmap\(1, 1\) failed with EINVAL"):
        subject.munmap((1, 1))


def test_a_listener_hears_how_everything_ended(agent: Agent, subject: Subject, page_size: int) -> None:
    heard: list[tuple[int, str, str]] = []
    agent.listener = lambda who, reply: heard.append((who.number, reply.call, reply.outcome))
    area = subject.mmap(pages=2)
    subject.syscall("munmap", 1, 1)
    subject.load(0)
    with subject.fork() as child:
        child.syscall("getpid")
    number = subject.number
    expected = [
        (number, f"subject {number}: mmap(0, {2 * page_size:#x}, 3, 34, -1, 0)", f"{area.start:#x}"),
        (number, f"subject {number}: munmap(1, 1)", "EINVAL"),
        (number, f"subject {number}: load(0x0, count=1)", "SIGSEGV (SEGV_MAPERR) at 0x0"),
        (number, f"subject {number}: fork", str(child.pid) if child.pid < 4096 else f"{child.pid:#x}"),
        (
            child.number,
            f"subject {child.number}: getpid()",
            str(child.pid) if child.pid < 4096 else f"{child.pid:#x}",
        ),
    ]
    assert heard == expected


def test_touching(subject: Subject) -> None:
    area = subject.mmap(pages=3).touch(0x41)
    assert [subject.peek(address, 1) for address in area] == [b"A"] * 3
    assert subject.store(area.start, stride=1, count=4, byte=7).value == 4
    assert subject.load(area.start, count=4).value == 4
    assert subject.peek(area.start, 5) == b"\7\7\7\7\0"


def test_faults_are_results(subject: Subject, page_size: int) -> None:
    area = subject.mmap(pages=3)
    subject.mprotect(area[1:], "none")
    reply = subject.store(area.start, stride=page_size, count=3)
    assert reply.fault is not None
    assert (str(reply.fault), reply.fault.index) == (f"SIGSEGV (SEGV_ACCERR) at {area.address(1):#x}", 1)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area.load()
    subject.munmap(area)
    with subject.faults("SIGSEGV", "SEGV_MAPERR"):
        subject.peek(area.start, 1)
    with pytest.raises(AccessFaulted, match="SEGV_MAPERR"):
        subject.poke(area.start, b"x")
    with pytest.raises(AssertionError, match="SIGBUS was expected"), subject.faults("SIGBUS"):
        subject.load(area.start)


def test_sigbus(subject: Subject) -> None:
    beyond = subject.mmap(pages=2, shared=True, fd=subject.memfd(1))
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        beyond.touch()


def test_faults_leave_the_signal_mask_alone(subject: Subject) -> None:
    for _ in range(3):
        with subject.faults("SIGSEGV"):
            subject.store(0)
    fields = subject.status_fields()
    assert int(fields["SigBlk"], 16) == int(fields["SigPnd"], 16) == 0


def test_execution(subject: Subject) -> None:
    code = subject.mmap()
    subject.poke(code.start, RETURN)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.execute(code.start)
    subject.mprotect(code, "rx")
    assert subject.execute(code.start).fault is None


def test_large_pokes_and_peeks(subject: Subject) -> None:
    data = bytes(range(256)) * 600
    area = subject.mmap(pages=-(-len(data) // subject.page_size))
    subject.poke(area.start, data)
    assert subject.peek(area.start, len(data)) == data


def test_operations_add_nothing_to_the_address_space(subject: Subject) -> None:
    area = subject.mmap(pages=8)
    before = subject.rss()
    area[:5].touch()
    with subject.faults("SIGSEGV"):
        subject.load(0)
    assert subject.rss().anon == before.anon + 5 * subject.page_size
    with subject.fork(), subject.thread():
        pass
    assert subject.rss().anon == before.anon + 5 * subject.page_size


def test_fork_copies_and_shares(subject: Subject) -> None:
    private = subject.mmap().touch(1)
    shared = subject.mmap(shared=True).touch(1)
    with subject.fork() as child:
        assert child.syscall("getpid").value == child.pid != subject.pid
        child.store(private.start, byte=2)
        child.store(shared.start, byte=2)
        assert (subject.peek(private.start, 1), subject.peek(shared.start, 1)) == (b"\1", b"\2")
        with child.fork() as grandchild:
            assert grandchild.peek(private.start, 1) == b"\2"
            child.reap()
            assert grandchild.peek(shared.start, 1) == b"\2"


def test_threads_share_everything_but_their_scratch(subject: Subject) -> None:
    with subject.thread() as thread:
        area = thread.mmap().touch(3)
        assert subject.peek(area.start, 1) == b"\3"
        assert thread.syscall("gettid").value == thread.pid != subject.pid
        assert thread.syscall("getpid").value == subject.pid
        assert thread.scratch != subject.scratch
        with thread.faults("SIGSEGV"):
            thread.store(0)
        with thread.fork() as child:
            assert child.peek(area.start, 1) == b"\3"
    assert subject.peek(area.start, 1) == b"\3"
    assert f"{thread.scratch:x}-" not in subject.read_file("/proc/self/maps").decode()


def test_the_end_of_a_thread_and_of_its_process(subject: Subject) -> None:
    one, two = subject.thread(), subject.thread()
    assert one.end_by("exit", 5) == 5 << 8
    assert two.syscall("getpid").value == subject.pid
    assert subject.end_by("kill", subject.pid, 9) == 9
    with pytest.raises(SubjectDied, match="was killed by SIGKILL"):
        two.syscall("getpid")
    assert (one.reap(), two.reap(), subject.reap()) == (5 << 8, 9, 9)


def test_a_signal_from_elsewhere_kills(subject: Subject) -> None:
    assert subject.end_by("kill", subject.pid, 11) & 0x7F == 11


def test_a_subject_without_its_socket_is_gone(subject: Subject) -> None:
    with pytest.raises(SubjectDied):
        subject.close(512)


def test_spinning_overlaps(agent: Agent, subject: Subject) -> None:
    with agent.spawn() as other, subject.spin(30):
        assert other.syscall("getpid").value == other.pid


def test_files(subject: Subject) -> None:
    fd = subject.memfd(2)
    assert subject.write(fd, b"hello") == 5
    assert subject.read(fd, 100, offset=1)[:4] == b"ello"
    area = subject.mmap(2, "r", shared=True, fd=fd).load()
    assert subject.peek(area.start, 5) == b"hello"
    read_only = subject.open(f"/proc/self/fd/{fd}", "O_RDONLY")
    with subject.refuses("EACCES"):
        subject.mmap(1, "rw", shared=True, fd=read_only)
    subject.close(read_only)
    with subject.refuses("EBADF"):
        subject.close(read_only)
    with subject.refuses("ENOENT"):
        subject.open("/nowhere")


def test_views_of_itself(subject: Subject) -> None:
    area = subject.mmap(pages=3)
    area[1:2].touch()
    assert [entry >> 63 for entry in subject.pagemap(area)] == [0, 1, 0]
    assert [byte & 1 for byte in subject.mincore(area)] == [0, 1, 0]
    subject.madvise(area, "DONTNEED")
    assert [entry >> 63 for entry in subject.pagemap(area)] == [0, 0, 0]


def test_locking_and_limits(subject: Subject) -> None:
    area = subject.mmap(pages=2)
    subject.mlock2(area, onfault=True)
    assert subject.status_fields()["VmLck"] == f"{area.length >> 10} kB"
    subject.munlock(area)
    subject.rlimit("AS", 0)
    with subject.refuses("ENOMEM"):
        subject.mmap()


def test_placing(subject: Subject) -> None:
    around = subject.mmap(pages=8)
    subject.munmap(around)
    middle = around[2:4]
    assert subject.mmap(2, fixed_at=middle.start) == middle
    with subject.refuses("EEXIST"):
        subject.mmap(1, fixed_at=middle.start)
    assert subject.mmap(1, fixed_at=middle.start, replace=True).start == middle.start
    assert subject.mmap(1, aligned=1 << 21).start % (1 << 21) == 0
    moved = subject.mremap(subject.mmap(1).touch(9), 4)
    assert (moved.pages, subject.peek(moved.start, 1)) == (4, b"\t")
    with pytest.raises(UsageError, match="protection"):
        subject.mmap(1, "rwz")


def test_settling_changes_nothing(subject: Subject) -> None:
    before = subject.read_file("/proc/self/maps")
    subject.settle()
    assert subject.read_file("/proc/self/maps") == before
