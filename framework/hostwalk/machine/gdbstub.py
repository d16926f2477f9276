"""QEMU's gdbstub, as far as registers are concerned."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from hostwalk.machine.qmp import Qmp


class GdbStub:
    """The client."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def drain(self) -> None:
        """Forget."""

    def read(self, cpu: int, names: Iterable[str], qmp: Qmp) -> dict[str, int]:
        """Read registers."""
        raise NotImplementedError
