"""Guest RAM through QEMU's monitor: slower, and independent of how the RAM is backed."""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import Any, Protocol, Self

from hostwalk.errors import MemoryReadError
from hostwalk.memory.physical import Reader
from hostwalk.memory.regions import Regions, pieces

BULK = 64 << 20
# One answer is one line of JSON, and clients limit those.
EXAMINE = 16 << 10


class Monitor(Protocol):
    """The part of a QMP client that readers use."""

    def execute(self, command: str, arguments: dict[str, Any] | None = None, /) -> Any:
        """Run a QMP command and return what it returns."""


def hmp(monitor: Monitor, line: str) -> str:
    """Run a line of the human monitor and return its text."""
    return str(monitor.execute("human-monitor-command", {"command-line": line}))


class QmpReader(Reader):
    """Reads with QMP ``pmemsave`` into an anonymous file of ours, named to QEMU as /proc/PID/fd/N.

    QEMU has to see the same /proc and to be allowed to open our descriptors. Use it as a context manager.
    """

    name = "pmemsave"

    def __init__(self, monitor: Monitor, regions: Regions) -> None:
        super().__init__(regions)
        self._monitor = monitor
        self._fd = os.memfd_create("hostwalk-pmemsave")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the anonymous file back."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``."""
        parts = [
            self._save(at + done, min(BULK, take - done))
            for _, at, take in pieces(self._regions, address, size)
            for done in range(0, take, BULK)
        ]
        return b"".join(parts)

    def _save(self, address: int, size: int) -> bytes:
        name = f"/proc/{os.getpid()}/fd/{self._fd}"
        self._monitor.execute("pmemsave", {"val": address, "size": size, "filename": name})
        data = os.pread(self._fd, size, 0)
        if len(data) != size:
            raise MemoryReadError(f"pmemsave gave {len(data)} of {size} bytes at {address:#x}")
        return data


class XpReader(Reader):
    """Reads with the human monitor's ``xp``: the slowest way, which needs nothing but a monitor."""

    name = "xp"

    def __init__(self, monitor: Monitor, regions: Regions) -> None:
        super().__init__(regions)
        self._monitor = monitor

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes at guest physical ``address``."""
        parts = [
            self._examine(at + done, min(EXAMINE, take - done))
            for _, at, take in pieces(self._regions, address, size)
            for done in range(0, take, EXAMINE)
        ]
        return b"".join(parts)

    def _examine(self, address: int, size: int) -> bytes:
        step, letter = (8, "g") if size % 8 == 0 else (1, "b")
        text = hmp(self._monitor, f"xp /{size // step}x{letter} {address:#x}")
        values = [
            int(word, 16)
            for line in text.splitlines()
            for word in re.findall(r"0x[0-9a-f]+", line.partition(":")[2])
        ]
        if len(values) != size // step:
            raise MemoryReadError(
                f"xp gave {len(values)} of {size // step} values at {address:#x}: {text[:80]!r}"
            )
        return b"".join(value.to_bytes(step, "little") for value in values)
