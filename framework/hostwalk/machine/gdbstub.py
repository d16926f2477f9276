"""A client of QEMU's gdbstub: registers, breakpoints and single steps.

The protocol is GDB's (Remote Serial Protocol). Two things matter to the guest. Whatever arrives while the
guest runs stops it, so it must be held still before anything is sent. And a detach lets it run, so the client
stays attached: a guest that was stopped when its registers were read stays stopped. An attached gdbstub
reports each stop; these packets are thrown away, see ``drain``.
"""

from __future__ import annotations

import re
import socket
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable

from hostwalk.deadline import Deadline
from hostwalk.errors import GuestHungError, HostwalkError, MachineDiedError, WalkError
from hostwalk.machine.command import GDB
from hostwalk.machine.qmp import Qmp

ANSWER_SECONDS = 5.0
CHUNK = 0xF00
_STOP_REPLIES = (b"T", b"S", b"W", b"X")


def checksum(payload: bytes) -> int:
    """Return the checksum of a packet."""
    return sum(payload) & 0xFF


def encode(payload: bytes) -> bytes:
    """Return a packet; the payload must need no escapes."""
    return b"$%s#%02x" % (payload, checksum(payload))


def unescape(payload: bytes) -> bytes:
    """Undo the escapes of a packet's payload."""
    return re.sub(rb"\}(.)", lambda match: bytes([match[1][0] ^ 0x20]), payload, flags=re.DOTALL)


def split_packet(data: bytes) -> tuple[bytes | None, bytes]:
    """Return the first packet's payload in ``data``, None if it has not arrived, and the bytes after it.

    Raises WalkError for a wrong checksum.
    """
    start = data.find(b"$")
    end = data.find(b"#", start)
    if start < 0 or end < 0 or len(data) < end + 3:
        return None, data[start:] if start >= 0 else b""
    payload = data[start + 1 : end]
    if int(data[end + 1 : end + 3], 16) != checksum(payload):
        raise WalkError(f"a damaged packet from QEMU's gdbstub: {payload[:60]!r}")
    return unescape(payload), data[end + 3 :]


def register_numbers(document: str, fetch: Callable[[str], str]) -> dict[str, int]:
    """Return the number of each register, by lower-case name, of a target description.

    ``fetch`` returns a document that is included. Numbers that are not given follow on, across documents. Of
    two registers of a name, the first counts.
    """
    numbers: dict[str, int] = {}
    following = 0
    for element in _registers(document, fetch):
        number = int(element.get("regnum", following))
        numbers.setdefault(element.get("name", "").lower(), number)
        following = number + 1
    return numbers


def _registers(document: str, fetch: Callable[[str], str]) -> Iterable[ET.Element]:
    # QEMU uses the prefix xi without binding it.
    for element in ET.fromstring(document.replace("<xi:", "<")).iter():  # noqa: S314 (our own QEMU's)
        if element.tag == "include":
            yield from _registers(fetch(element.get("href", "")), fetch)
        elif element.tag == "reg":
            yield element


class GdbStub:
    """A connection over a connected socket, opened when first used and kept."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()
        self._late = False

    def read(self, cpu: int, names: Iterable[str], qmp: Qmp | None = None) -> dict[str, int]:
        """Return those of the named registers that the processor has. The guest must be held still.

        With ``qmp`` QEMU is first told to serve the other end of our socket pair. Raises MachineDiedError,
        GuestHungError, WalkError.
        """
        deadline = Deadline.after(ANSWER_SECONDS)
        with self._lock:
            if not self._numbers:
                self._open(qmp, deadline)
            self._expect_ok(b"Hgp1.%x" % (cpu + 1), deadline)
            numbers = {name: self._number(name) for name in names}
            return {name: self._register(number, deadline) for name, number in numbers.items() if number >= 0}

    def set_breakpoint(self, address: int, qmp: Qmp, *, there: bool) -> None:
        """Have the guest stop at an instruction, or no longer; it must be held still. Raises what :meth:`read` raises.

        TCG keeps breakpoints to itself: nothing is written into guest memory.
        """
        deadline = Deadline.after(ANSWER_SECONDS)
        with self._lock:
            if not self._numbers:
                self._open(qmp, deadline)
            self._expect_ok(b"%s0,%x,1" % (b"Z" if there else b"z", address), deadline)

    def start_step(self, cpu: int) -> None:
        """Let one processor run one instruction, the others none; QEMU's STOP event says when it has."""
        with self._lock:
            self._send(b"vCont;s:p1.%x" % (cpu + 1), Deadline.after(ANSWER_SECONDS))

    def drain(self) -> None:
        """Throw away what has arrived, so that QEMU never waits for a reader; for any thread, never waits."""
        if self._lock.acquire(blocking=False):
            try:
                self._receive(b"", 0.0)
                self._data = b""
            except (BlockingIOError, HostwalkError):
                pass
            finally:
                self._lock.release()

    def _refuse_late(self) -> None:
        if self._late:
            raise GuestHungError("QEMU's gdbstub did not answer once, and may be late with that answer")

    def _open(self, qmp: Qmp | None, deadline: Deadline) -> None:
        self._refuse_late()
        if qmp is not None:
            qmp.hmp(f"gdbserver chardev:{GDB}", deadline=deadline)
        answer = self._ask(b"qSupported:multiprocess+;xmlRegisters=aarch64", deadline)
        if b"multiprocess+" not in answer:
            raise WalkError(f"QEMU's gdbstub does not speak multiprocess: {answer[:100]!r}")
        self._numbers = register_numbers(
            self._document("target.xml", deadline), lambda name: self._document(name, deadline)
        )

    def _document(self, name: str, deadline: Deadline) -> str:
        text = b""
        while True:
            answer = self._ask(b"qXfer:features:read:%s:%x,%x" % (name.encode(), len(text), CHUNK), deadline)
            text += answer[1:]
            if answer[:1] == b"l":
                return text.decode()
            if answer[:1] != b"m":
                raise WalkError(f"QEMU's gdbstub has no {name}: {answer[:60]!r}")

    def _number(self, name: str) -> int:
        """Return a register's number or -1; QEMU names some that AArch32 shares without ``_el1``."""
        return self._numbers.get(name, self._numbers.get(name.removesuffix("_el1"), -1))

    def _register(self, number: int, deadline: Deadline) -> int:
        answer = self._ask(b"p%x" % number, deadline)
        try:
            return int.from_bytes(bytes.fromhex(answer.decode()), "little")
        except ValueError:
            raise WalkError(f"QEMU's gdbstub did not read register {number}: {answer[:60]!r}") from None

    def _expect_ok(self, request: bytes, deadline: Deadline) -> None:
        answer = self._ask(request, deadline)
        if answer != b"OK":
            raise WalkError(f"QEMU's gdbstub answered {answer[:60]!r} to {request!r}")

    def _ask(self, request: bytes, deadline: Deadline) -> bytes:
        """Send a request and return the answer; the next request acknowledges it."""
        self._send(request, deadline)
        try:
            while True:
                payload, self._data = split_packet(self._data)
                if payload is None:
                    self._receive(request, deadline.remaining or 0.001)
                elif not payload.startswith(_STOP_REPLIES):
                    return payload
        except TimeoutError:
            self._late = True
            raise GuestHungError(
                f"QEMU's gdbstub did not answer {request!r} in {deadline.seconds:.3g} s"
            ) from None
        except OSError as error:
            raise MachineDiedError(f"QEMU's gdbstub has gone: {error}") from error

    def _send(self, request: bytes, deadline: Deadline) -> None:
        self._refuse_late()
        try:
            self._sock.settimeout(deadline.remaining or 0.001)
            self._sock.sendall(encode(request))
        except TimeoutError:
            self._late = True
            raise GuestHungError(f"QEMU's gdbstub did not take {request!r}") from None
        except OSError as error:
            raise MachineDiedError(f"QEMU's gdbstub has gone: {error}") from error

    def _receive(self, request: bytes, seconds: float) -> None:
        self._sock.settimeout(seconds)
        data = self._sock.recv(1 << 16)
        if not data:
            raise MachineDiedError(f"QEMU ended before its gdbstub answered {request!r}")
        self._data += data
