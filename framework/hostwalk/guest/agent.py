"""The agent: the guest's PID 1, which makes subjects and passes their operations on."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from hostwalk.deadline import Deadline
from hostwalk.errors import AgentError, BootError, GuestHungError, HostwalkError, Phase
from hostwalk.guest.failures import SubjectDied
from hostwalk.guest.names import Names
from hostwalk.guest.tap import Tap, tapped
from hostwalk.guest.wire import Codec, Frame, FrameStream

if TYPE_CHECKING:
    from hostwalk.guest.process import Process, Reply
    from hostwalk.guest.subject import Subject

OPERATION_SECONDS = 20.0


@dataclass(frozen=True)
class Hello:
    """What the agent says about its guest; ``fork`` is the number that it was first told, 0 for none."""

    abi_version: int
    page_size: int
    cpus: int
    fork: int
    release: str


@dataclass(frozen=True)
class Ticket:
    """A request that was sent and whose reply may still be on its way; ``details`` are arguments not in ``what``."""

    seq: int
    op: int
    subject: int
    what: str
    details: str = ""


@tapped(lambda agent: agent, "spawn")
class Agent:
    """The client of one guest's agent, on the stream socket ``port``.

    ``abi`` is the agent's table, ``layout`` the exerciser's. ``watch`` is called at least every 50 ms while a
    reply is awaited, and when a subject has died; it raises when the guest has crashed. Every operation has
    ``seconds`` to end. An agent that once did not answer is ``broken``: the reason is kept and every later request
    is refused. ``listener`` hears of the outcome of every operation in a subject.
    """

    def __init__(
        self,
        port: socket.socket,
        abi: Mapping[str, int],
        layout: Mapping[str, int] | None = None,
        *,
        watch: Callable[[], None] | None = None,
        seconds: float = OPERATION_SECONDS,
    ) -> None:
        self.abi = abi
        self.layout: Mapping[str, int] = layout if layout is not None else MappingProxyType({})
        self.names = Names(abi)
        self.seconds = seconds
        self.broken = ""
        self.tap: Tap | None = None
        self.page_size = 0
        self.listener: Callable[[Process, Reply], None] = lambda _who, _reply: None
        self._stream = FrameStream(port, Codec(abi), watch)
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._spares: list[tuple[int, int, int, int]] = []
        self._awaited: set[int] = set()
        self._replies: dict[int, Frame] = {}

    def hello(self, deadline: Deadline | None = None, *, fork: int = 0) -> Hello:
        """Wait for the agent to come up; raises BootError when it does not before the deadline.

        ``fork`` tells it that its machine is a copy, and which.
        """
        deadline = deadline or Deadline.after(self.seconds)
        try:
            reply = self.request("HELLO", "hello", args=(fork,), deadline=deadline)
        except GuestHungError as error:
            raise BootError(f"the agent did not come up within {deadline.seconds:.0f} s") from error
        version, page_size, cpus, number = reply.args[:4]
        said = Hello(version, page_size, cpus, number, reply.payload.decode(errors="replace"))
        if said.abi_version != self.abi["HOSTWALK_ABI_VERSION"]:
            raise AgentError(f"the agent speaks version {said.abi_version} of another interface")
        self.page_size = said.page_size
        return said

    def spawn(self) -> Subject:
        """Return a new subject: a process of its own; a context manager that ends it."""
        from hostwalk.guest.subject import Subject  # noqa: PLC0415 (a subject knows its agent)

        if not self.page_size:
            self.hello()
        if self._spares:
            return Subject(self, *self._spares.pop(0))
        return Subject.of_reply(self, self.request("SPAWN", "spawn"))

    def adopt(self, spares: Iterable[tuple[int, int, int, int]]) -> None:
        """Have ``spawn`` hand out these first: subjects (number, pid, scratch, size) that did nothing yet."""
        self._spares += spares

    def reap(self, subject: int) -> int:
        """End a subject and forget it; return its wait status. A thread leaves, its process stays."""
        return self.request("REAP", f"reap({subject})", args=(subject,)).args[0]

    def crash(self, how: str) -> None:
        """Make the guest ``panic``, its ``init_exit``, or the agent ``mute``; nothing comes back."""
        kind = self.abi[f"HOSTWALK_CRASH_{how.upper()}"]
        self.start("CRASH", f"crash({how})", args=(kind,))

    def request(
        self, op: str, what: str, *, subject: int = 0, args: Iterable[int] = (), payload: bytes = b"",
        deadline: Deadline | None = None,
    ) -> Frame:  # fmt: skip
        """Send a request and return its reply: see :meth:`start` and :meth:`finish`."""
        with self._lock:
            return self.finish(self.start(op, what, subject=subject, args=args, payload=payload), deadline)

    def start(
        self, op: str, what: str, *, subject: int = 0, args: Iterable[int] = (), payload: bytes = b""
    ) -> Ticket:
        """Send a request, by its name without HOSTWALK_OP_; its reply is for :meth:`finish`."""
        with self._lock:
            self._refuse_if_broken(what)
            ticket = Ticket(next(self._numbers), self.abi[f"HOSTWALK_OP_{op}"], subject, what)
            frame = Frame(ticket.op, ticket.seq, subject, args=tuple(args), payload=payload)
            with _Marking(self):
                self._stream.send(frame, Deadline.after(self.seconds), what)
            self._awaited.add(ticket.seq)
            return ticket

    def finish(self, ticket: Ticket, deadline: Deadline | None = None) -> Frame:
        """Wait for the reply to a request; its status is OK or FAULT.

        Raises SubjectDied; AgentError when the agent refuses the request; GuestHungError, GuestCrashError or
        MachineDiedError when no reply comes.
        """
        with self._lock:
            deadline = deadline or Deadline.after(self.seconds)
            with _Marking(self):
                while ticket.seq not in self._replies:
                    self._refuse_if_broken(ticket.what)
                    self._keep(self._stream.receive(deadline, ticket.what))
            reply = self._replies.pop(ticket.seq)
        return self._judged(ticket, reply)

    def _keep(self, reply: Frame) -> None:
        if reply.seq not in self._awaited:
            raise AgentError(f"the agent answered a request that nobody made: {reply}")
        self._awaited.discard(reply.seq)
        self._replies[reply.seq] = reply

    def _judged(self, ticket: Ticket, reply: Frame) -> Frame:
        if (reply.op, reply.subject) != (ticket.op, ticket.subject):
            raise AgentError(f"the answer to {ticket.what} belongs to another operation: {reply}")
        if reply.status == self.abi["HOSTWALK_BAD_OP"]:
            raise AgentError(f"the agent refused {ticket.what}: no such operation, or the subject is busy")
        if reply.status == self.abi["HOSTWALK_NO_SUBJECT"]:
            self._stream.watch()
            status, pid = reply.args[:2]
            raise SubjectDied(ticket.what, ticket.subject, pid, status, self.names.ending(status))
        return reply

    def _refuse_if_broken(self, what: str) -> None:
        if self.broken:
            raise AgentError(f"{what} was not tried: {self.broken}", phase=Phase.OPERATION)


class _Marking:
    """Marks an agent as broken when the block fails."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> None:
        if value is not None and not self._agent.broken:
            kept = value.message if isinstance(value, HostwalkError) else type(value).__name__
            self._agent.broken = f"an earlier operation left the agent in an unknown state ({kept})"
