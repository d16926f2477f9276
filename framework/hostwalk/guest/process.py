"""A subject as the agent offers it: raw operations and their replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from hostwalk.guest.agent import Agent, Ticket
from hostwalk.guest.failures import AccessFaulted, OutcomeError, SubjectDied, SyscallFailed
from hostwalk.guest.names import Fault, signed
from hostwalk.guest.tap import own_agent, tapped
from hostwalk.guest.wire import Frame


@dataclass(frozen=True)
class Reply:
    """What an operation gave back.

    ``value`` is what the kernel or the operation returned, ``errno`` the error's name if it was one,
    ``fault`` the signal that ended it, ``call`` the operation in words, ``details`` arguments that are not in it.
    """

    call: str
    value: int
    errno: str | None = None
    payload: bytes = b""
    fault: Fault | None = None
    details: str = ""

    @property
    def outcome(self) -> str:
        """How it ended, in a word: the value, the error's name, or the signal."""
        return str(self.fault) if self.fault is not None else self.errno or word(self.value)


@tapped(lambda pending: pending.process.agent)
@dataclass(frozen=True)
class Pending:
    """An operation that is under way; a context manager that waits for its end."""

    process: Process
    ticket: Ticket

    def result(self) -> Reply:
        """Wait for the operation's end; once."""
        return self.process.receive(self.ticket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.result()


@tapped(own_agent)
class Process:
    """A process or a thread under test, by the agent's ``number``; ``pid`` is its thread's.

    ``scratch`` is the address of ``scratch_size`` bytes that system calls' payloads go to.
    """

    def __init__(self, agent: Agent, number: int, pid: int, scratch: int, scratch_size: int) -> None:
        self.agent = agent
        self.number = number
        self.pid = pid
        self.scratch = scratch
        self.scratch_size = scratch_size
        self.status: int | None = None
        self._latest: Reply | None = None

    @classmethod
    def of_reply(cls, agent: Agent, reply: Frame) -> Self:
        """Return the subject that a SPAWN, FORK or THREAD has made."""
        return cls(agent, *reply.args[:4])

    @property
    def page_size(self) -> int:
        """Bytes of the guest's base pages."""
        return self.agent.page_size

    def __str__(self) -> str:
        return f"subject {self.number}"

    def __repr__(self) -> str:
        return f"<{self}: pid {self.pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self.agent.broken:
            self.reap()

    def reap(self) -> int:
        """End the subject; return its wait status. Harmless when it has been reaped."""
        if self.status is None:
            self.status = self.agent.reap(self.number)
        return self.status

    def syscall(
        self, call: str, *args: int, payload: bytes = b"", reply: int = 0, shown: str | None = None
    ) -> Reply:
        """Make a system call, by name.

        ``payload`` is put at ``scratch`` first, and ``reply`` bytes from there come back.
        Returns whatever the kernel returned; ``shown`` replaces the arguments in messages.
        """
        return self.receive(self.start_syscall(call, *args, payload=payload, reply=reply, shown=shown).ticket)

    def start_syscall(
        self, call: str, *args: int, payload: bytes = b"", reply: int = 0, shown: str | None = None
    ) -> Pending:
        """Begin a system call that may take its time; the subject takes no other operation meanwhile."""
        words = f"{call}({', '.join(map(word, args)) if shown is None else shown})"
        padded = (self.agent.abi[f"__NR_{call}"], *args, *[0] * (6 - len(args)), reply)
        return self._start("SYSCALL", words, padded, payload)

    def call(
        self, call: str, *args: int, payload: bytes = b"", reply: int = 0, shown: str | None = None
    ) -> Reply:
        """Make a system call that must succeed; raises SyscallFailed."""
        return self.must(self.syscall(call, *args, payload=payload, reply=reply, shown=shown))

    def load(self, address: int, stride: int = 1, count: int = 1) -> Reply:
        """Load ``count`` bytes, ``stride`` apart; ``value`` is how many, see ``fault``."""
        return self._do("LOAD", f"load({address:#x}, count={count})", (address, stride, count))

    def store(self, address: int, stride: int = 1, count: int = 1, byte: int = 1) -> Reply:
        """Store ``byte`` at ``count`` addresses, ``stride`` apart; see ``fault``."""
        return self._do("STORE", f"store({address:#x}, count={count})", (address, stride, count, byte))

    def execute(self, address: int) -> Reply:
        """Jump to an address, where a return instruction should be; see ``fault``."""
        return self._do("EXEC", f"execute({address:#x})", (address,))

    def start_execute(self, address: int) -> Pending:
        """Begin to run a function that may take its time."""
        return self._start("EXEC", f"execute({address:#x})", (address,))

    def peek(self, address: int, size: int) -> bytes:
        """Return bytes as the subject sees them; raises AccessFaulted."""
        limit = self.agent.abi["HOSTWALK_COPY_MAX"]
        return b"".join(
            self.must(self._do("PEEK", f"peek({at:#x})", (at, min(limit, address + size - at)))).payload
            for at in range(address, address + size, limit)
        )

    def poke(self, address: int, data: bytes) -> None:
        """Store bytes, which may be instructions; raises AccessFaulted."""
        limit = self.agent.abi["HOSTWALK_COPY_MAX"]
        for at in range(0, len(data), limit):
            self.must(self._do("POKE", f"poke({address + at:#x})", (address + at,), data[at : at + limit]))

    def spin(self, milliseconds: int) -> Pending:
        """Keep the subject busy in user mode, so that its page-table root is in the CPU."""
        return self._start("SPIN", f"spin({milliseconds})", (milliseconds,))

    def must(self, reply: Reply) -> Reply:
        """Return the reply of an operation that had to succeed; raises SyscallFailed or AccessFaulted."""
        if reply.fault is not None:
            raise AccessFaulted(reply.call, reply.fault)
        if reply.errno is not None:
            raise SyscallFailed(reply.call, reply.errno)
        return reply

    def receive(self, ticket: Ticket) -> Reply:
        """Wait for the reply to a request of this subject."""
        frame = self.agent.finish(ticket)
        if frame.status == self.agent.abi["HOSTWALK_FAULT"]:
            fault = self.agent.names.fault(frame.args)
            return self.note(Reply(ticket.what, -1, fault=fault, details=ticket.details))
        value = signed(frame.args[0])
        is_call = ticket.op == self.agent.abi["HOSTWALK_OP_SYSCALL"]
        errno = self.agent.names.errno(value) if is_call else None
        return self.note(Reply(ticket.what, value, errno, frame.payload, details=ticket.details))

    def note(self, reply: Reply) -> Reply:
        """Remember a reply as the outcome that :meth:`refuses` and :meth:`faults` judge."""
        self._latest = reply
        self.agent.listener(self, reply)
        return reply

    def duplicate(self, op: str) -> Frame:
        """FORK or THREAD; raises SyscallFailed."""
        frame = self.agent.request(op, f"{self}: {op.lower()}", subject=self.number)
        if not frame.args[0]:
            raise SyscallFailed(f"{op.lower()}()", self.agent.names.errno(frame.args[1]) or "no error")
        self.agent.listener(self, Reply(f"{self}: {op.lower()}", frame.args[1]))
        return frame

    def end_by(self, call: str, *args: int) -> int:
        """Make a system call that ends the subject, such as exit_group; return its wait status."""
        try:
            reply = self.syscall(call, *args)
        except SubjectDied as died:
            return died.status
        raise AssertionError(f"{reply.call} returned {reply.value}, and the subject lives on")

    @contextmanager
    def refuses(self, *errnos: str) -> Iterator[None]:
        """Expect the last call of the block to fail with one of the errors; else raises OutcomeError."""
        self._latest = None
        try:
            yield
        except SyscallFailed as failed:
            said = Reply(failed.call, -1, failed.errno)
        else:
            said = self._said()
        call, errno = said.call, said.errno
        if errno not in errnos:
            outcome = f"failed with {errno}" if errno else "succeeded"
            raise OutcomeError(call, " or ".join(errnos), outcome)

    @contextmanager
    def faults(self, signal: str, code: str | None = None) -> Iterator[None]:
        """Expect the last access of the block to end with a signal; else raises OutcomeError."""
        self._latest = None
        try:
            yield
        except AccessFaulted as faulted:
            said = Reply(faulted.call, -1, fault=faulted.fault)
        else:
            said = self._said()
        call, fault = said.call, said.fault
        if fault is None or fault.signal != signal or code not in (None, fault.code):
            outcome = f"ended with {fault}" if fault else "succeeded"
            raise OutcomeError(call, f"{signal} ({code})" if code else signal, outcome)

    def _said(self) -> Reply:
        return self._latest or Reply("nothing was called: it", 0)

    def _start(self, op: str, words: str, args: tuple[int, ...], payload: bytes = b"") -> Pending:
        what = f"{self}: {words}"
        return Pending(self, self.agent.start(op, what, subject=self.number, args=args, payload=payload))

    def _do(self, op: str, words: str, args: tuple[int, ...], payload: bytes = b"") -> Reply:
        return self._start(op, words, args, payload).result()


def word(argument: int) -> str:
    """Return a number as messages show it: small ones in decimal."""
    return str(argument) if -4096 < argument < 4096 else hex(argument)
