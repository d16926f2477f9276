"""A guest that only remembers: an agent without a machine, a subject of it, and a witness that sees page frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hostwalk.guest import Agent, Area, Subject
from hostwalk.guest.agent import Ticket
from hostwalk.guest.names import Names
from hostwalk.guest.tap import tapped
from hostwalk.guest.wire import Frame
from hostwalk.readings import Pages, Record
from hostwalk.repro.record import Source
from hostwalk.repro.recorder import Recorder

PAGE = 4096
BASE = 0x7F0000000000
ERRNOS = {"ENOMEM": 12, "EINVAL": 22, "EAGAIN": 11}


class Abi(dict[str, int]):
    """Every constant has a value, no two the same."""

    def __missing__(self, name: str) -> int:
        self[name] = 1000 + len(self)
        return self[name]


class FakeAgent(Agent):
    """Answers system calls from ``refused`` (errors by call) and from a counter."""

    def __init__(self) -> None:
        self.abi = Abi(ERRNOS | {"HOSTWALK_FAULT": 1, "HOSTWALK_COPY_MAX": PAGE})
        self.layout = {}
        self.names = Names(self.abi)
        self.broken = ""
        self.tap = None
        self.listener = lambda _who, _reply: None
        self.page_size = PAGE
        self.refused: dict[str, str] = {}
        self._tickets = 0
        self._next = BASE
        self._answers: dict[int, int] = {}
        self._fd = 2

    def start(
        self, op: str, what: str, *, subject: int = 0, args: Iterable[int] = (), payload: bytes = b""
    ) -> Ticket:
        self._tickets += 1
        call = what.rsplit(": ", maxsplit=1)[-1].split("(", maxsplit=1)[0]
        self._answers[self._tickets] = self._answer(call, list(args))
        return Ticket(self._tickets, self.abi[f"HOSTWALK_OP_{op}"], subject, what)

    def finish(self, ticket: Ticket, deadline: Any = None) -> Frame:
        return Frame(
            ticket.op, ticket.seq, ticket.subject, 0, (self._answers.pop(ticket.seq) & (1 << 64) - 1,)
        )

    def _answer(self, call: str, args: list[int]) -> int:
        if call in self.refused:
            return -ERRNOS[self.refused[call]]
        if call == "mmap":
            self._next += 0x100000
            return args[1] or self._next
        if call in ("openat", "memfd_create"):
            self._fd += 1
            return self._fd
        return 0


@tapped(lambda witness: witness.agent, "pages")
class FakeWitness:
    """Sees a page frame for each page: its number among the pages of all memory."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.shift = 0

    def pages(self, area: Area) -> Pages:
        pfns = [address // PAGE % 0x10000 + 0x5000 + self.shift for address in area]
        return Pages("pages", "pages", tuple(Record(pfn, None) for pfn in pfns))


class Stage:
    """Agent, subject, witness, and a recorder that listens within ``with stage.recorder.listening():``."""

    def __init__(self) -> None:
        self.agent = FakeAgent()
        self.subject = Subject(self.agent, 1, 80, 0x200000000, 1 << 16)
        self.witness = FakeWitness(self.agent)
        self.recorder = Recorder(self.agent)
        self.roots = ((self.subject, "subject"), (self.witness, "witness"), (self.agent, "agent"))

    @property
    def source(self) -> Source:
        return Source("toy.1", "toy.1 is not kept.", self.roots, PAGE)
