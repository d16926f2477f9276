"""Claims: one sentence of a manual page, as a test.

A claim is a pytest function with :func:`claim` on it. It quotes the sentence, says where needed in plain words what
of it is tested, and names the kernels that the sentence is about, how the evidence can be altered so that the claim
must fail (its sabotage), and, where Linux is known not to do what the page says, the departure with its citation.
Where no page promises what Linux does, ``code`` names the functions that do it, and the sentence is no quotation.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import pytest

from hostwalk.errors import UsageError
from hostwalk.guest.failures import SyscallFailed
from hostwalk.sabotage import Sabotage

Test = TypeVar("Test", bound=Callable[..., object])

_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_FUNCTION = re.compile(r"\w\(\)")
_REQUIREMENT = re.compile(r"\s*(<=|>=|==|<|>)\s*(\d+)\.(\d+)(?:\.(\d+))?\s*")


def version_code(text: str) -> int:
    """Return KERNEL_VERSION(a, b, c) of ``6.12`` or ``6.12.3`` (include/generated/uapi/linux/version.h)."""
    major, minor, *rest = (int(part) for part in text.split("."))
    return (major << 16) + (minor << 8) + min(rest[0] if rest else 0, 255)


@dataclass(frozen=True)
class Kernels:
    """A condition on the kernel's version: ``>=6.1, <6.12``, ``>=6.1.9, <6.2 | >=6.11``; empty means every kernel."""

    text: str = ""

    def __post_init__(self) -> None:
        for part in filter(None, re.split("[,|]", self.text)):
            if not _REQUIREMENT.fullmatch(part):
                raise UsageError(
                    f"{part!r} is no condition on a kernel version", remedy="write it like: >=6.1, <6.12"
                )

    def include(self, code: int) -> bool:
        """Whether a kernel of this LINUX_VERSION_CODE meets every part of one of the alternatives."""
        return any(
            all(_meets(part, code) for part in filter(None, alternative.split(",")))
            for alternative in self.text.split("|")
        )

    def __str__(self) -> str:
        return self.text or "every kernel"


def _meets(part: str, code: int) -> bool:
    match = _REQUIREMENT.fullmatch(part)
    assert match is not None
    wanted = version_code(".".join(filter(None, match.groups()[1:])))
    return bool(_COMPARE[match[1]](code, wanted))


@dataclass(frozen=True)
class Departure:
    """Where Linux is known not to keep a sentence.

    ``does`` says what it does instead, ``cites`` the commit or the place in the source, ``shows`` is a regular
    expression that the failed claim's text must match: another failure is still a broken claim.
    """

    does: str
    cites: str
    shows: str
    kernels: Kernels = Kernels()

    def explains(self, failure: str, code: int) -> bool:
        """Whether this failure, on a kernel of this LINUX_VERSION_CODE, is the departure."""
        return self.kernels.include(code) and re.search(self.shows, failure) is not None

    @property
    def known(self) -> str:
        """What is known: what the kernel does, where that is written, and which kernels do it, unless all do."""
        return f"{self}, on {self.kernels}" if self.kernels.text else str(self)

    def __str__(self) -> str:
        return f"{self.does} ({self.cites})"


@dataclass(frozen=True)
class Claim:
    """One sentence that a kernel is held to.

    ``sentence`` is a quotation of ``page``; ``reading`` says what of it, or what that follows from it, is tested.
    With ``code``, the functions of source file ``page`` that do it, the sentence is our own: no page promises it.
    ``warns`` is a regular expression for kernel warnings that the claim's own misuse must provoke.
    """

    id: str
    page: str
    sentence: str
    sabotage: Sabotage
    kernels: Kernels = Kernels()
    departs: Departure | None = None
    warns: str = ""
    reading: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        if self.code and not _FUNCTION.search(self.code):
            raise UsageError(
                f"claim {self.id}: code={self.code!r} names no function",
                remedy="write it like: code='change_pte_range()'",
            )


def claim_of(item: pytest.Item) -> Claim | None:
    """Return the claim that a test makes, if it makes one."""
    marker = item.get_closest_marker("claim")
    return marker.args[0] if marker is not None else None


def departure(does: str, *, cites: str, shows: str, kernels: str = "") -> Departure:
    """Return the departure of the given kernels; see :class:`Departure`."""
    return Departure(does, cites, shows, Kernels(kernels))


def claim(
    id: str,  # noqa: A002
    page: str,
    sentence: str,
    *,
    sabotage: Sabotage,
    kernels: str = "",
    departs: Departure | None = None,
    warns: str = "",
    reading: str = "",
    code: str = "",
) -> Callable[[Test], Test]:
    """Mark a test function as the claim ``id``: ``sentence`` of manual page ``page``; see :class:`Claim`."""
    made = Claim(id, page, sentence, sabotage, Kernels(kernels), departs, warns, reading, code)

    def mark(test: Test) -> Test:
        marked: Test = pytest.mark.claim(made)(test)
        return marked

    return mark


def not_applicable(reason: str) -> NoReturn:
    """End the running claim: on this cell the sentence says nothing, and why."""
    pytest.skip(reason)


@contextmanager
def not_applicable_if(errno: str, reason: str) -> Iterator[None]:
    """End the running claim likewise where a call in the block fails with ``errno``; raises any other failure."""
    try:
        yield
    except SyscallFailed as failed:
        if failed.errno == errno:
            not_applicable(reason)
        raise
