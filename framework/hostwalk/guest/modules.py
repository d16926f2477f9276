"""Kernel modules of a user's own, loaded into the running guest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostwalk.errors import UsageError
from hostwalk.guest.operations import Operations
from hostwalk.guest.tap import own_agent, tapped

_NAME = re.compile(rb"\0name=([\w-]+)\0")


@tapped(own_agent)
class Modules(Operations):
    """Loading and unloading of kernel modules."""

    def load_module(self, module: Path | bytes, params: str = "") -> str:
        """Load a module, a file of the host or its bytes, with parameters such as ``"pages=4"``; return its name.

        The bytes lie in memory of the subject's own meanwhile. Raises UsageError, SyscallFailed.
        """
        data = module if isinstance(module, bytes) else module.read_bytes()
        name = _name_of(data)
        with self._holding(data) as address:
            self.call(
                "init_module", address, len(data), self.scratch, payload=params.encode() + b"\0",
                shown=f'{name}, "{params}"',
            )  # fmt: skip
        return name

    def unload_module(self, name: str) -> None:
        """Unload a module; raises SyscallFailed: EAGAIN while it is in use."""
        flags = self.agent.abi["O_NONBLOCK"]
        self.call("delete_module", self.scratch, flags, payload=name.encode() + b"\0", shown=name)

    @contextmanager
    def _holding(self, data: bytes) -> Iterator[int]:
        area = self.mmap(-(-len(data) // self.page_size))
        try:
            self.poke(area.start, data)
            yield area.start
        finally:
            self.munmap(area)


def _name_of(module: bytes) -> str:
    found = _NAME.search(module)
    if found is None:
        raise UsageError("these bytes are no kernel module: there is no name= in them")
    return found[1].decode()
