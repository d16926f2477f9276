from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from conftest import reply

from hostwalk.deadline import Deadline
from hostwalk.errors import AgentError, BootError, GuestCrashError, GuestHungError
from hostwalk.guest import Agent, Subject, SubjectDied, SyscallFailed
from hostwalk.guest.wire import Frame

Start = Callable[..., socket.socket]


def healthy(request: Frame) -> Frame:
    if request.op == 1:
        return reply(request, 1, 4096, 2, payload=b"6.12.0")
    if request.op == 2:
        return reply(request, 5, 100, 0x200000000, 4096)
    return reply(request, 42)


def test_hello(toy_abi: dict[str, int], scripted: Start) -> None:
    agent = Agent(scripted(healthy), toy_abi)
    said = agent.hello()
    assert (said.page_size, said.cpus, said.release, agent.page_size) == (4096, 2, "6.12.0", 4096)


def test_another_interface(toy_abi: dict[str, int], scripted: Start) -> None:
    agent = Agent(scripted(lambda request: reply(request, 2, 4096, 1)), toy_abi)
    with pytest.raises(AgentError, match="version 2"):
        agent.hello()


def test_an_agent_that_does_not_come_up(toy_abi: dict[str, int], scripted: Start) -> None:
    agent = Agent(scripted(lambda _: None), toy_abi)
    with pytest.raises(BootError, match="did not come up"):
        agent.hello(Deadline.after(0.02))


def test_an_operation_that_hangs_breaks_the_agent(toy_abi: dict[str, int], scripted: Start) -> None:
    agent = Agent(
        scripted(lambda request: healthy(request) if request.op < 3 else None), toy_abi, seconds=0.05
    )
    subject = agent.spawn()
    with pytest.raises(GuestHungError, match=r"no answer to subject 5: getpid\(\)"):
        subject.syscall("getpid")
    assert "no answer to subject 5" in agent.broken
    with pytest.raises(AgentError, match="was not tried"):
        agent.spawn()
    with subject:
        pass


def test_a_crash_is_seen_at_once(toy_abi: dict[str, int], scripted: Start) -> None:
    def watch() -> None:
        raise GuestCrashError("Oops", evidence=None)

    agent = Agent(scripted(lambda _: None), toy_abi, watch=watch)
    with pytest.raises(GuestCrashError):
        agent.hello(Deadline.after(30))
    assert "Oops" in agent.broken


def test_replies_out_of_order(toy_abi: dict[str, int], scripted: Start) -> None:
    held: list[Frame] = []

    def answer(request: Frame) -> Frame | bytes | None:
        if request.op == 40:
            held.append(request)
            return None
        return healthy(request)

    port = scripted(answer)
    agent = Agent(port, toy_abi, seconds=2)
    subject = Subject(agent, 5, 100, 0x1000, 4096)
    other = Subject(agent, 6, 101, 0x1000, 4096)
    spinning = subject.spin(10)
    assert other.syscall("getpid").value == 42
    assert len(held) == 1
    agent.seconds = 0.02
    with pytest.raises(GuestHungError):
        spinning.result()


def test_an_answer_that_nobody_asked_for(toy_abi: dict[str, int], scripted: Start) -> None:
    agent = Agent(scripted(lambda request: Frame(request.op, request.seq + 1, 0)), toy_abi)
    with pytest.raises(AgentError, match="nobody made"):
        agent.hello()


def test_an_answer_to_something_else(toy_abi: dict[str, int], scripted: Start) -> None:
    agent = Agent(scripted(lambda request: Frame(2, request.seq, 0)), toy_abi)
    with pytest.raises(AgentError, match="another operation"):
        agent.hello()


def test_refusal_and_death(toy_abi: dict[str, int], scripted: Start) -> None:
    agent = Agent(scripted(lambda request: reply(request, 11, 100, status=3)), toy_abi)
    with pytest.raises(SubjectDied, match=r"pid 100\) was killed by SIGSEGV") as died:
        Subject(agent, 5, 100, 0, 0).syscall("getpid")
    assert died.value.status == 11
    agent = Agent(scripted(lambda request: reply(request, status=2)), toy_abi)
    with pytest.raises(AgentError, match="refused"):
        Subject(agent, 5, 100, 0, 0).syscall("getpid")


def test_errors_by_name_and_expectations(toy_abi: dict[str, int], scripted: Start) -> None:
    agent = Agent(scripted(lambda request: reply(request, request.args[1])), toy_abi)
    subject = Subject(agent, 5, 100, 0, 0)
    with pytest.raises(SyscallFailed, match=r"getpid\(-22\) failed with EINVAL") as failed:
        subject.call("getpid", -22)
    assert failed.value.errno == "EINVAL"
    with subject.refuses("EPERM", "EINVAL"):
        subject.call("getpid", -22)
    with (
        pytest.raises(AssertionError, match=r"failed with EINVAL; EPERM was expected"),
        subject.refuses("EPERM"),
    ):
        subject.syscall("getpid", -22)
    with pytest.raises(AssertionError, match=r"getpid\(7\) succeeded; EPERM was"), subject.refuses("EPERM"):
        subject.call("getpid", 7)
    with pytest.raises(AssertionError, match=r"nothing was called"), subject.refuses("EPERM"):
        pass
