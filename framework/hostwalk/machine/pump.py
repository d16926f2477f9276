"""Bytes between a command in the guest and whoever started it."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import paramiko

from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, LoginError

WATCH_SECONDS = 0.05
CHUNK = 1 << 16
UNKNOWN = -1


def _ignore(_data: bytes) -> None:
    """Take bytes that nobody wants."""


class Beside(Protocol):
    """Something that is to be served while a command runs."""

    @property
    def due(self) -> float:
        """Seconds until there is something to do."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to do; -1 for none."""

    def serve(self) -> None:
        """Do it, without waiting."""


@dataclass(frozen=True)
class Streams:
    """Where a command's output goes, and its input: bytes, or a descriptor that is read to its end."""

    stdout: Callable[[bytes], object] = _ignore
    stderr: Callable[[bytes], object] = _ignore
    stdin: bytes | int = b""
    beside: Beside | None = None
    first: bytes = b""
    """What comes before ``stdin``."""


def pump(channel: paramiko.Channel, streams: Streams, deadline: Deadline, watch: Callable[[], None]) -> int:
    """Pass on what a started command says and what it is given until it ends; return its exit status.

    ``watch`` is called every 50 ms and may raise; ``streams.beside`` is served meanwhile. Raises CommandTimeoutError at
    the deadline, LoginError when the connection ends before the command.
    """
    return _Pump(channel, streams, deadline, watch).run()


class _Pump:
    def __init__(
        self, channel: paramiko.Channel, streams: Streams, deadline: Deadline, watch: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._streams = streams
        self._deadline = deadline
        self._watch = watch
        given = streams.stdin
        self._source = given if isinstance(given, int) else -1
        self._pending = streams.first + (b"" if isinstance(given, int) else given)
        channel.setblocking(0)

    def run(self) -> int:
        """Pass on until the status is there and all output with it."""
        with selectors.PollSelector() as selector:
            selector.register(self._channel.fileno(), selectors.EVENT_READ)
            if self._source >= 0:
                selector.register(self._source, selectors.EVENT_READ)
            if (beside := self._streams.beside) is not None and beside.fileno() >= 0:
                selector.register(beside.fileno(), selectors.EVENT_READ)
            self._give()
            while not self._is_over():
                self._step(selector)
        self._take()
        return self._channel.recv_exit_status()

    def _is_over(self) -> bool:
        """Whether the command has ended and its server has closed the channel.

        dropbear confuses channels when one is closed from here while it closes it from there. paramiko counts a
        broken channel as ready, with the status -1.
        """
        told = self._channel.exit_status != UNKNOWN
        if self._channel.closed and not told:
            self._take()
            self._watch()
            raise LoginError("the connection ended before the command did")
        return told and bool(self._channel.closed)

    def _step(self, selector: selectors.BaseSelector) -> None:
        if self._channel.eof_received:
            self._await_close()
        ready = {key.fd for key, _ in selector.select(self._patience())}
        self._take()
        if self._source in ready and not self._pending:
            self._read(selector)
        self._give()
        self._watch()
        if self._streams.beside is not None:
            self._streams.beside.serve()
        if self._deadline.expired:
            raise CommandTimeoutError(f"the command did not end within {self._deadline.seconds:.3g} s")

    def _patience(self) -> float:
        """Return how long to wait for something to happen."""
        if self._channel.eof_received:
            return 0.0
        beside = self._streams.beside
        return WATCH_SECONDS if beside is None else min(WATCH_SECONDS, beside.due)

    def _await_close(self) -> None:
        """Wait a moment for the end of the channel, which is announced to those who wait to write."""
        with self._channel.lock:
            if not self._channel.closed:
                self._channel.out_buffer_cv.wait(WATCH_SECONDS)

    def _take(self) -> None:
        while self._channel.recv_ready():
            self._streams.stdout(self._channel.recv(CHUNK))
        while self._channel.recv_stderr_ready():
            self._streams.stderr(self._channel.recv_stderr(CHUNK))

    def _read(self, selector: selectors.BaseSelector) -> None:
        self._pending = os.read(self._source, CHUNK)
        if not self._pending:
            selector.unregister(self._source)
            self._source = -1

    def _give(self) -> None:
        """Send as much as the command's side takes, and the end of the input; a closed channel takes nothing."""
        try:
            while self._pending and self._channel.send_ready():
                self._pending = self._pending[self._channel.send(self._pending) :]
            if not self._pending and self._source < 0 and not self._channel.eof_sent:
                self._channel.shutdown_write()
        except OSError:
            self._pending = b""
