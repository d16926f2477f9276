"""What a watch saw: looks at an address space, and what changed from one to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hostwalk.errors import WalkError
from hostwalk.linux import Linux, Task
from hostwalk.linux.mm import Vma
from hostwalk.moment import Moment
from hostwalk.paging import Diff, Leaves, diff, scan
from hostwalk.watching.calls import Call

MEANWHILE, EXEC, EXIT, FORKED = "meanwhile", "a new address space", "exit", "forked"


@dataclass(frozen=True)
class Sight:
    """An address space at one moment: ``mm`` is its mm_struct's address, ``leaves`` its entries, absent ones too."""

    comm: str
    mm: int
    leaves: Leaves
    vmas: tuple[Vma, ...]


@dataclass(frozen=True)
class Sample:
    """What changed in the address space of a process since the sample before it of the same process.

    ``seconds`` is the host's time since the watch began. ``occasion`` says when this was: ``meanwhile`` (before the
    next call or since the last look, by page faults or by the kernel's own doing), a call that has returned (then it
    is ``call``), ``a new address space``, ``forked``, ``exit``. ``before`` and ``after`` are the mappings.
    """

    number: int
    pid: int
    comm: str
    seconds: float
    occasion: str
    diff: Diff
    before: tuple[Vma, ...]
    after: tuple[Vma, ...]
    call: Call | None = None

    def __bool__(self) -> bool:
        return bool(self.diff) or bool(self.mapped or self.unmapped)

    @property
    def mapped(self) -> tuple[Vma, ...]:
        """Mappings that are new, or not as they were."""
        return tuple(_without(self.after, self.before))

    @property
    def unmapped(self) -> tuple[Vma, ...]:
        """Mappings that are no longer there, or not as they were."""
        return tuple(_without(self.before, self.after))


def _without(some: tuple[Vma, ...], others: tuple[Vma, ...]) -> Iterator[Vma]:
    known = {_key(vma) for vma in others}
    return (vma for vma in some if _key(vma) not in known)


def _key(vma: Vma) -> tuple[object, ...]:
    return vma.start, vma.end, vma.flags, vma.pgoff, vma.file


def look(moment: Moment, task: Task) -> Sight | None:
    """Return how a process's address space looks now; None where it has none (any more).

    Any thread's will do: the first gives it up when it exits, whichever others there are.
    """
    mm = task.mm or next(filter(None, (thread.mm for thread in task.threads())), None)
    if mm is None:
        return None
    leaves = scan(moment.memory, mm.space, non_present=True)
    return Sight(task.comm, mm.address, leaves, mm.vmas())


def find(linux: Linux, pid: int) -> Task | None:
    """Return the process with a pid; None where there is none."""
    try:
        return linux.task(pid)
    except WalkError:
        return None


def changes(before: Sight, after: Sight) -> Diff:
    """Return what changed; everything appeared in an address space that took the other's place."""
    if before.mm == after.mm:
        return diff(before.leaves, after.leaves)
    return Diff(after.leaves, after.leaves[:0], ())
