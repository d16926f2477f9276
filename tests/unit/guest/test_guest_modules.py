"""Loading modules and placing insertions, against a scripted guest."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from conftest import reply

from hostwalk.errors import UsageError
from hostwalk.guest import Agent, Subject
from hostwalk.guest.wire import Frame
from hostwalk.image.layout import Layout

MODULE = b"\x7fELF...\0license=GPL\0name=ring\0vermagic=6.9\0" + bytes(200_000)
MAPPED = 0x7000_1000


@dataclass
class Guest:
    """Remembers system calls by name with their payload; mmap maps where it is asked to."""

    abi: Layout
    calls: list[tuple[str, tuple[int, ...], bytes]] = field(default_factory=list)
    poked: bytes = b""

    def answer(self, request: Frame) -> Frame:
        if request.op == self.abi["HOSTWALK_OP_POKE"]:
            assert request.args[0] == MAPPED + len(self.poked)
            self.poked += request.payload
            return reply(request, 0)
        names = {value: key[5:] for key, value in self.abi.items() if key.startswith("__NR_")}
        name = names[request.args[0]]
        self.calls.append((name, request.args[1:7], request.payload))
        return reply(request, (request.args[1] or MAPPED) if name == "mmap" else 0)


@pytest.fixture
def guest(abi: Layout) -> Guest:
    return Guest(abi)


@pytest.fixture
def subject(abi: Layout, guest: Guest, scripted: Callable[..., socket.socket]) -> Subject:
    agent = Agent(scripted(guest.answer, abi), abi, {"PMD_SHIFT": 21}, seconds=2)
    agent.page_size = 4096
    return Subject(agent, 4, 100, 0x201000000, 1 << 20)


def test_a_module_goes_through_memory_of_the_subjects(subject: Subject, guest: Guest) -> None:
    assert subject.load_module(MODULE, "pages=4") == "ring"
    assert guest.poked == MODULE
    assert [name for name, _, _ in guest.calls] == ["mmap", "init_module", "munmap"]
    _, args, payload = guest.calls[1]
    assert (args[:3], payload) == ((MAPPED, len(MODULE), subject.scratch), b"pages=4\0")


def test_a_module_is_unloaded_by_name(subject: Subject, guest: Guest, abi: Layout) -> None:
    subject.unload_module("ring")
    name, args, payload = guest.calls[0]
    assert (name, args[:2], payload) == ("delete_module", (subject.scratch, abi["O_NONBLOCK"]), b"ring\0")


def test_bytes_without_a_name_are_no_module(subject: Subject, guest: Guest) -> None:
    with pytest.raises(UsageError, match="no kernel module"):
        subject.load_module(b"\x7fELF")
    assert guest.calls == []


def test_room_astride_two_tables(subject: Subject, guest: Guest) -> None:
    start = subject.astride_tables(6)
    assert (start + 3 * subject.page_size) % (1 << 21) == 0
    assert [name for name, _, _ in guest.calls][-1] == "munmap"
