"""Frames between host and agent; the layout comes from the agent's own table."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hostwalk.deadline import Deadline
from hostwalk.errors import AgentError, Evidence, GuestHungError, LayoutError, MachineDiedError, Phase
from hostwalk.guest.structs import Struct

WATCH_SECONDS = 0.05
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Frame:
    """A request or a reply."""

    op: int
    seq: int
    subject: int
    status: int = 0
    args: tuple[int, ...] = ()
    payload: bytes = b""


class Codec:
    """Frames as bytes and back."""

    def __init__(self, abi: Mapping[str, int]) -> None:
        self._struct = Struct(abi, "struct hostwalk_frame")
        self.magic = abi["HOSTWALK_MAGIC"]
        self.limit = abi["HOSTWALK_PAYLOAD_MAX"]
        self.size = self._struct.size
        args = next((field for field in self._struct.fields if field.name == "args"), None)
        if args is None or args.count != abi["HOSTWALK_ARGS"]:
            raise LayoutError("the agent's table does not describe the arguments of struct hostwalk_frame")

    def pack(self, frame: Frame) -> bytes:
        """Return the bytes of a frame; arguments wrap to 64 bits."""
        header = self._struct.pack(
            magic=self.magic, op=frame.op, seq=frame.seq, subject=frame.subject, size=len(frame.payload),
            status=frame.status, args=frame.args,
        )  # fmt: skip
        return header + frame.payload

    def payload_size(self, header: bytes) -> int:
        """Return how many bytes follow a header; raise AgentError when it is none."""
        values = self._struct.unpack(header)
        if values["magic"] != self.magic or values["size"] > self.limit:
            raise AgentError(
                "what came from the agent is no frame",
                evidence=Evidence(report=f"received: {header.hex(' ', 4)}"),
            )
        return values["size"]

    def unpack(self, header: bytes, payload: bytes) -> Frame:
        """Return the frame of a header that :meth:`payload_size` has accepted."""
        values = self._struct.unpack(header)
        args = self._struct.array(header, "args")
        return Frame(values["op"], values["seq"], values["subject"], values["status"], args, payload)


class FrameStream:
    """Frames over a stream socket.

    ``watch`` is called at least every 50 ms while nothing arrives; it may raise, which ends the wait.
    """

    def __init__(self, port: socket.socket, codec: Codec, watch: Callable[[], None] | None = None) -> None:
        self._port = port
        self._codec = codec
        self.watch = watch or (lambda: None)
        self._received = bytearray()
        self._poll = select.poll()

    def send(self, frame: Frame, deadline: Deadline, what: str) -> None:
        """Send a frame; raises GuestHungError when the guest does not take it in time."""
        left = memoryview(self._codec.pack(frame))
        while left:
            try:
                left = left[self._port.send(left, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline, what)
            except OSError as error:
                raise self._closed(what) from error

    def receive(self, deadline: Deadline, what: str) -> Frame:
        """Return the next frame; raises GuestHungError, MachineDiedError or AgentError."""
        header = self._take(self._codec.size, deadline, what)
        payload = self._take(self._codec.payload_size(header), deadline, what)
        return self._codec.unpack(header, payload)

    def _take(self, size: int, deadline: Deadline, what: str) -> bytes:
        while len(self._received) < size:
            self._wait(select.POLLIN, deadline, what)
            self._received += self._read(what)
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _read(self, what: str) -> bytes:
        try:
            data = self._port.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._closed(what) from error
        if not data:
            raise self._closed(what)
        return data

    def _wait(self, event: int, deadline: Deadline, what: str) -> None:
        self._poll.register(self._port, event)
        while not self._poll.poll(1000 * min(WATCH_SECONDS, deadline.remaining)):
            self.watch()
            if deadline.expired:
                raise GuestHungError(
                    f"no answer to {what} within {deadline.seconds:.0f} s", phase=Phase.OPERATION
                )

    def _closed(self, what: str) -> MachineDiedError:
        self.watch()
        return MachineDiedError(f"the agent's port closed during {what}", phase=Phase.OPERATION)
