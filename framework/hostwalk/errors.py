"""Every error that hostwalk raises on purpose.

The tree::

    HostwalkError
     +-- UsageError          the request itself makes no sense          (exit status 2)
     +-- ResolveError        no such kernel, target or host tool
     |    +-- MissingToolError
     +-- FetchError          a download failed or is not what it should be
     +-- CacheError          the cache cannot be read or written
     +-- BuildError          a compiler or linker failed
     |    +-- BuildInterruptedError  a build was killed or overtaken, or lacked time or memory
     |    +-- KernelBuildError  a kernel that is built from source cannot be (exit status 125)
     +-- LaunchError         QEMU did not start
     +-- MachineError        a machine that had started is not usable any more
     |    +-- BootError      the guest did not come up
     |    +-- GuestCrashError  panic, oops, BUG, KASAN, lockup: the kernel's own report is attached
     |    +-- MachineDiedError QEMU ended while it was needed
     |    +-- GuestHungError   nothing answered before the deadline
     +-- AgentError          the agent broke the protocol
     +-- LoginError          nobody could log in to the guest, or the connection broke
     +-- CommandTimeoutError a command in the guest did not end in time and was killed
     +-- OperationError      an operation in a subject failed and its caller did not expect it
     +-- MemoryReadError     guest physical memory could not be read (or written)
     +-- WalkError           page tables or kernel objects make no sense
     +-- LayoutError         the build carries no such constant, structure or symbol

Each says in which phase it happened and what would mend it, and keeps its evidence as attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Phase(StrEnum):
    """Where in a run something happened."""

    USAGE = "usage"
    RESOLVE = "resolve"
    FETCH = "fetch"
    CACHE = "cache"
    BUILD = "build"
    LAUNCH = "launch"
    BOOT = "boot"
    AGENT = "agent"
    OPERATION = "operation"
    WALK = "walk"
    VERDICT = "verdict"


@dataclass(frozen=True)
class Evidence:
    """What was known when something failed; empty fields were not known."""

    command: str = ""
    console: str = ""
    stderr: str = ""
    report: str = ""

    def __str__(self) -> str:
        parts = [
            f"--- {title} ---\n{text.rstrip()}"
            for title, text in (
                ("kernel report", self.report),
                ("last console lines", self._console_beyond_report()),
                ("standard error", self.stderr),
                ("command", self.command),
            )
            if text.strip()
        ]
        return "\n".join(parts)

    def _console_beyond_report(self) -> str:
        """Return the console's lines without those that the report has already."""
        return "\n".join(line for line in self.console.splitlines() if line not in self.report)


UNTESTABLE = 125
"""The exit status by which git bisect run skips a commit."""


class HostwalkError(Exception):
    """The root: a message, the phase, a remedy and the evidence.

    ``exit_status`` is the command's; an error that ends the test of a kernel built from source has UNTESTABLE.
    """

    default_phase: ClassVar[Phase] = Phase.VERDICT
    exit_status: int = 3

    def __init__(
        self, message: str, *, remedy: str = "", phase: Phase | None = None, evidence: Evidence | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.phase = phase or self.default_phase
        self.evidence = evidence or Evidence()

    def __str__(self) -> str:
        remedy = f"\n  remedy: {self.remedy}" if self.remedy else ""
        evidence = f"\n{self.evidence}" if str(self.evidence) else ""
        return f"{self.phase}: {self.message}{remedy}{evidence}"


class UsageError(HostwalkError):
    """The request itself makes no sense."""

    default_phase = Phase.USAGE
    exit_status = 2


class ResolveError(HostwalkError):
    """No such kernel, target or file."""

    default_phase = Phase.RESOLVE


class MissingToolError(ResolveError):
    """A program that hostwalk needs is not installed on the host."""


class FetchError(HostwalkError):
    """A download failed or is not what it should be."""

    default_phase = Phase.FETCH


class CacheError(HostwalkError):
    """The cache cannot be read or written."""

    default_phase = Phase.CACHE


class BuildError(HostwalkError):
    """A compiler or linker failed."""

    default_phase = Phase.BUILD


class BuildInterruptedError(BuildError):
    """A build was killed, took too long, lacked memory or was overtaken: nothing is known of what it was to build."""


class KernelBuildError(BuildError):
    """A kernel from source cannot be configured or built, or does not boot: no verdict on it is possible."""

    exit_status = UNTESTABLE


class LaunchError(HostwalkError):
    """QEMU did not start."""

    default_phase = Phase.LAUNCH


class MachineError(HostwalkError):
    """A machine that had started is not usable any more."""

    default_phase = Phase.OPERATION


class BootError(MachineError):
    """The guest did not come up."""

    default_phase = Phase.BOOT


class GuestCrashError(MachineError):
    """The guest kernel reported a panic, an oops, a BUG, KASAN or a lockup; see ``evidence.report``."""


class MachineDiedError(MachineError):
    """QEMU ended while it was needed."""


class GuestHungError(MachineError):
    """Nothing answered before the deadline."""


class AgentError(HostwalkError):
    """The agent broke the protocol."""

    default_phase = Phase.AGENT


class LoginError(HostwalkError):
    """Nobody could log in to the guest, or the connection broke."""

    default_phase = Phase.OPERATION


class CommandTimeoutError(HostwalkError):
    """A command in the guest did not end in time and was killed."""

    default_phase = Phase.OPERATION


class OperationError(HostwalkError):
    """An operation in a subject failed and its caller did not expect it."""

    default_phase = Phase.OPERATION


class MemoryReadError(HostwalkError):
    """Guest physical memory could not be read or written."""

    default_phase = Phase.WALK


class WalkError(HostwalkError):
    """Page tables or kernel objects make no sense."""

    default_phase = Phase.WALK


class LayoutError(HostwalkError):
    """The build carries no such constant, structure or symbol."""

    default_phase = Phase.RESOLVE
