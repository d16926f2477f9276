"""Probes: what a processor does at an access, which entries alone cannot tell, for it may remember old ones (TLB)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from hostwalk.guest.area import Area
from hostwalk.guest.operations import Operations
from hostwalk.guest.process import Process, Reply
from hostwalk.guest.subject import Subject


class Access(StrEnum):
    """What a probe does to each page."""

    LOAD = "load"
    STORE = "store"


@dataclass
class Probe:
    """One access to each page by each thread: ``replies`` of the second round, by thread name, in page order."""

    access: Access
    area: Area
    replies: dict[str, list[Reply]] = field(default_factory=dict)

    @property
    def let_through(self) -> tuple[str, ...]:
        """The accesses that did not fault, in words."""
        return tuple(
            f"{self.access} at {address:#x} by {who}"
            for who, replies in self.replies.items()
            for address, reply in zip(self.area, replies, strict=True)
            if reply.fault is None
        )

    @property
    def faulted(self) -> bool:
        """Whether every access faulted, and there were some."""
        return bool(self.replies) and not self.let_through

    def __str__(self) -> str:
        through = ", ".join(self.let_through) or "none"
        return (
            f"{self.access}s of {self.area.pages} pages by {', '.join(self.replies)}: let through: {through}"
        )


@contextmanager
def probing(subject: Operations, area: Area, access: str = "store") -> Iterator[Probe]:
    """Access each page by the subject and by another thread of it before the block, and again after it.

    The first round must succeed, so that each thread's processor may remember the entries; raises AccessFaulted. The
    block takes the right away; ``probe.faulted`` then says whether it is gone for all.
    """
    probe = Probe(Access(access), area)
    with Subject.of_reply(subject.agent, subject.duplicate("THREAD")) as other:
        who = {"the same thread": subject, "another thread": other}
        for thread in who.values():
            for reply in _round(thread, probe):
                thread.must(reply)
        yield probe
        probe.replies.update({name: _round(thread, probe) for name, thread in who.items()})


def _round(thread: Process, probe: Probe) -> list[Reply]:
    do = thread.store if probe.access is Access.STORE else thread.load
    return [do(address) for address in probe.area]
