"""What can go wrong in a subject, all OperationError.

- SyscallFailed: the kernel refused a call that was expected to succeed.
- NotExported: this kernel does not export the function to modules: nothing can be claimed about it.
- AccessFaulted: a signal ended an access that was expected to succeed.
- SubjectDied: the subject ended, during the operation or before.

OutcomeError, an AssertionError, is what ``refuses`` and ``faults`` raise.
"""

from __future__ import annotations

from hostwalk.errors import OperationError
from hostwalk.guest.names import Fault


class SyscallFailed(OperationError):  # noqa: N818
    """A system call failed: ``call`` as it was made, ``errno`` by name."""

    def __init__(self, call: str, errno: str, remedy: str = "") -> None:
        super().__init__(f"{call} failed with {errno}", remedy=remedy)
        self.call = call
        self.errno = errno


class NotExported(OperationError):  # noqa: N818
    """The exerciser was built for a kernel that does not export ``function`` to modules."""

    def __init__(self, function: str) -> None:
        super().__init__(f"this kernel does not export {function} to modules")
        self.function = function


class AccessFaulted(OperationError):  # noqa: N818
    """A load, store or jump ended with a signal: ``fault``."""

    def __init__(self, call: str, fault: Fault) -> None:
        super().__init__(f"{call} ended with {fault}")
        self.call = call
        self.fault = fault


class OutcomeError(AssertionError):
    """A block that had to be refused, or to fault, was not: ``expected`` and ``outcome`` say how."""

    def __init__(self, call: str, expected: str, outcome: str) -> None:
        super().__init__(f"{call} {outcome}; {expected} was expected")
        self.expected = expected
        self.outcome = outcome


class SubjectDied(OperationError):  # noqa: N818
    """The subject is gone; ``status`` is its wait status, ``ending`` says it in words."""

    def __init__(self, call: str, subject: int, pid: int, status: int, ending: str) -> None:
        who = f"subject {subject} (pid {pid}) {ending}" if pid else f"there is no subject {subject}"
        super().__init__(f"{call}: {who}")
        self.call = call
        self.status = status
        self.ending = ending
