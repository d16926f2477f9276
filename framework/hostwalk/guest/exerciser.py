"""The exerciser's open file: one per subject, opened when it is first needed."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hostwalk.guest.failures import NotExported, SyscallFailed
from hostwalk.guest.operations import Operations
from hostwalk.guest.process import Pending, Reply, word
from hostwalk.guest.structs import Struct, Value
from hostwalk.guest.tap import own_agent, tapped

DEVICE = "/dev/hostwalk"
_PFN = 8
_DANGER = "it would damage the guest's kernel; to do it all the same, boot with hostwalk.allow_bug=1"


@tapped(own_agent)
class Exerciser(Operations):
    """A subject with /dev/hostwalk at hand."""

    _exerciser_fd: int | None = None

    @property
    def exerciser(self) -> int:
        """The descriptor of the subject's exerciser; what it holds is given back when the subject ends."""
        if self._exerciser_fd is None:
            self._exerciser_fd = self.open(DEVICE, "O_RDWR|O_CLOEXEC")
        return self._exerciser_fd

    def open_exerciser(self, flags: str) -> int:
        """Open the exerciser otherwise, ``"O_RDONLY|O_CLOEXEC"``, from here on; return its descriptor."""
        self.close_exerciser()
        self._exerciser_fd = self.open(DEVICE, flags)
        return self._exerciser_fd

    def close_exerciser(self) -> None:
        """Close the exerciser: it gives back every page and reference that no mapping keeps."""
        if self._exerciser_fd is not None:
            self.close(self._exerciser_fd)
        self._exerciser_fd = None

    def layout(self, name: str) -> int:
        """Return a constant that the exerciser was compiled with, such as ``FOLL_WRITE``."""
        return self.agent.layout[name]

    def ioctl(self, request: str, function: str, shape: str = "", room: int = 0, **members: Value) -> Ioctl:
        """Make a request of the exerciser: HOSTWALK_IOC_``request`` with a ``struct hostwalk_...``.

        ``room`` bytes behind the structure come back too. ``function`` names the kernel function in messages.
        Raises NotExported, SyscallFailed.
        """
        return self.start_ioctl(request, function, shape, room, **members).result()

    def start_ioctl(
        self, request: str, function: str, shape: str = "", room: int = 0, **members: Value
    ) -> PendingIoctl:
        """Begin a request that may take its time."""
        layout = Struct(self.agent.abi, f"struct hostwalk_{shape or request.lower()}")
        payload = layout.pack(**members).ljust(layout.size + room, b"\0")
        number = self.agent.abi[f"HOSTWALK_IOC_{request}"]
        pending = self.start_syscall(
            "ioctl", self.exerciser, number, self.scratch, payload=payload, reply=len(payload),
            shown=f"{request}, {function}",
        )  # fmt: skip
        told = replace(pending, ticket=replace(pending.ticket, details=_words(members)))
        return PendingIoctl(told, function, layout)

    def behind(self, shape: str) -> int:
        """Return the address behind a structure that lies at the start of scratch."""
        return self.scratch + self.agent.abi[f"sizeof(struct hostwalk_{shape})"]

    def outcome(self, function: str, ret: int) -> str | None:
        """Note what a kernel function returned, for :meth:`refuses`; return the error's name or None."""
        errno = self.agent.names.errno(ret)
        self.note(Reply(f"{self}: {function}()", ret, errno))
        return errno


@dataclass(frozen=True)
class PendingIoctl:
    """A request of the exerciser that is under way."""

    pending: Pending
    function: str
    layout: Struct

    def result(self) -> Ioctl:
        """Wait for what comes back; once. Raises NotExported, SyscallFailed."""
        reply = self.pending.result()
        if reply.errno == "EOPNOTSUPP":
            raise NotExported(self.function)
        if reply.errno == "EPERM":
            raise SyscallFailed(reply.call, "EPERM", remedy=_DANGER)
        self.pending.process.must(reply)
        return Ioctl(self.layout.unpack(reply.payload), reply.payload[self.layout.size :])


class Ioctl:
    """What came back: the structure's members and the bytes behind it."""

    def __init__(self, members: Mapping[str, int], behind: bytes) -> None:
        self.members = members
        self.behind = behind

    def __getitem__(self, name: str) -> int:
        return self.members[name]

    def pfns(self, count: int) -> tuple[int, ...]:
        """Return page frame numbers from the bytes behind the structure."""
        return struct.unpack_from(f"<{count}Q", self.behind)


def _words(members: Mapping[str, Value]) -> str:
    """Return the arguments that are numbers and not 0: ``start=0x7f0000000000 nr_pages=4``."""
    numbers = {name: value for name, value in members.items() if isinstance(value, int) and value}
    return " ".join(f"{name}={word(value)}" for name, value in numbers.items())


def pfn_bytes(count: int) -> int:
    """Return the bytes of ``count`` page frame numbers."""
    return _PFN * count


__all__ = ["DEVICE", "Exerciser", "Ioctl", "NotExported", "SyscallFailed", "pfn_bytes"]
