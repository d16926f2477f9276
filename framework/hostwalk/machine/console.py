"""The serial console: pexpect on a pipe; what was printed is kept and searched for the kernel's reports.

A pipe, for a socket is full after some 280 bytes that were sent one by one, and then the guest's kernel waits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pexpect
from pexpect.fdpexpect import fdspawn

from hostwalk.deadline import Deadline
from hostwalk.errors import Evidence, GuestCrashError, GuestHungError, MachineDiedError
from hostwalk.machine.reports import Report, find_reports

# The stubs make it generic, the class itself is not.
if TYPE_CHECKING:
    _Spawn = fdspawn[bytes]
else:
    _Spawn = fdspawn

KEPT_BYTES = 1 << 20
READ_SIZE = 1 << 16
TAIL_LINES = 30
LONG_LINE = 200
SETTLE_SECONDS = 3.0
QUIET_SECONDS = 0.3
REPORTS_TOLD, TEXT_TOLD = 3, 1 << 16


class _Line(_Spawn):
    """A pipe for pexpect. Whatever is read is also appended to ``history``, whose oldest bytes fall off."""

    def __init__(self, printed: int) -> None:
        super().__init__(printed, timeout=0, maxread=READ_SIZE, use_poll=True)
        self.delayafterread = None
        self.history = bytearray()
        self.dropped = 0

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> bytes:
        data = super().read_nonblocking(size, timeout)
        self.history += data
        if (excess := len(self.history) - KEPT_BYTES) > 0:
            del self.history[:excess]
            self.dropped += excess
        return data

    def forget(self) -> None:
        """Drop what is kept."""
        self.dropped += len(self.history)
        self.history.clear()

    @property
    def total(self) -> int:
        """Bytes read since the beginning."""
        return self.dropped + len(self.history)


class Console:
    """What the guest prints: the last MiB is kept, whoever reads. For one thread at a time.

    ``printed`` is the end of a pipe to read from, ``keys`` that of another to type into; both stay the caller's.
    """

    def __init__(self, printed: int, keys: int) -> None:
        self._line = _Line(printed)
        self._keys = keys
        self._begun = 0
        self._consumed = 0
        self._searched = 0
        self._reports: tuple[Report, ...] = ()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the guest has printed something."""
        return self._line.child_fd

    @property
    def text(self) -> str:
        """All that was printed so far (the last MiB of it), with plain line ends."""
        self.drain()
        return _plain(self._line.history)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines."""
        self.drain()
        recent = _plain(self._line.history[-LONG_LINE * lines :]).splitlines()
        return "\n".join(recent[-lines:] if len(recent) > lines else self.text.splitlines()[-lines:])

    @property
    def silent(self) -> bool:
        """Whether nothing at all was printed."""
        self.drain()
        return self._line.total == self._begun

    def forget(self) -> None:
        """Drop all that was printed so far: the machine begins anew."""
        self.drain()
        self._line.forget()
        self._begun = self._consumed = self._searched = self._line.total
        self._reports = ()

    @property
    def printed(self) -> int:
        """Bytes that were printed so far: a mark for ``since``."""
        self.drain()
        return self._line.total

    def since(self, mark: int) -> str:
        """Return what was printed behind a mark, as far as it is kept."""
        self.drain()
        return _plain(self._line.history[max(0, mark - self._line.dropped) :])

    def drain(self, deadline: Deadline | None = None) -> bool:
        """Take in what has arrived, waiting until ``deadline`` if given; say whether there was anything."""
        before = self._line.total
        seconds = deadline.remaining if deadline else 0.0
        while not self._line.flag_eof:
            try:
                self._line.read_nonblocking(READ_SIZE, seconds)
            except (pexpect.TIMEOUT, pexpect.EOF):
                break
            seconds = 0.0
        return self._line.total > before

    def expect(self, pattern: str, deadline: Deadline) -> re.Match[bytes]:
        """Wait until the guest prints ``pattern`` and return the match; later calls search behind it.

        Raises GuestCrashError, GuestHungError at the deadline, MachineDiedError at the end of the console.
        """
        self._line.buffer = bytes(self._line.history[max(0, self._consumed - self._line.dropped) :])
        found = self._line.expect(
            [pattern.encode(), pexpect.TIMEOUT, pexpect.EOF], timeout=deadline.remaining
        )
        if found == 0 and isinstance(self._line.match, re.Match):
            self._consumed = self._line.total - len(self._line.buffer)
            return self._line.match
        self.check()
        evidence = Evidence(console=self.tail())
        if found == 1:
            seconds = f"{deadline.seconds:.3g} s"
            raise GuestHungError(f"the console did not show {pattern!r} within {seconds}", evidence=evidence)
        raise MachineDiedError(f"the console ended before it showed {pattern!r}", evidence=evidence)

    def bytes_since(self, mark: int) -> bytes:
        """Return what was printed behind a mark, as far as it is kept, as the guest printed it."""
        self.drain()
        return bytes(self._line.history[max(0, mark - self._line.dropped) :])

    def send(self, text: str) -> None:
        """Type something at the console."""
        self.write(text.encode())

    def write(self, data: bytes) -> None:
        """Send bytes to the console."""
        os.write(self._keys, data)

    @property
    def reports(self) -> tuple[Report, ...]:
        """The kernel's reports so far: panics, oopses, warnings and the like, in order."""
        self.drain()
        if self._line.total != self._searched:
            self._searched = self._line.total
            self._reports = find_reports(_plain(self._line.history))
        return self._reports

    def check(self) -> None:
        """Raise GuestCrashError, with the report, when the kernel has reported something fatal."""
        if any(report.fatal for report in self.reports):
            self._settle(Deadline.after(SETTLE_SECONDS))
            raise crash([report for report in self.reports if report.fatal], self.tail())

    def _settle(self, deadline: Deadline) -> None:
        """Read on until the last report is complete or the guest falls silent."""
        while not (deadline.expired or self.reports[-1].complete):
            if not self.drain(deadline.at_most(QUIET_SECONDS)):
                return


def crash(fatal: Sequence[Report], tail: str) -> GuestCrashError:
    """Return the error of one or more fatal reports; the first names it."""
    text = "\n\n".join(report.text for report in fatal[:REPORTS_TOLD])[:TEXT_TOLD]
    if len(fatal) > REPORTS_TOLD:
        text += f"\n\nand {len(fatal) - REPORTS_TOLD} more"
    return GuestCrashError(
        f"the guest's kernel reported: {fatal[0].title}", evidence=Evidence(console=tail, report=text)
    )


def _plain(data: bytes | bytearray) -> str:
    return data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "")
