"""Tasks, as the kernel lists them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from hostwalk.errors import MemoryReadError, WalkError
from hostwalk.linux.mm import Mm

if TYPE_CHECKING:
    from hostwalk.linux.kernel import Linux

TASKS_MAX = 1 << 16


@dataclass(frozen=True)
class Task:
    """``struct task_struct *`` at ``address``."""

    linux: Linux
    address: int

    def _get(self, name: str) -> int:
        return self.linux.member(self.address, "struct task_struct", name)

    @cached_property
    def pid(self) -> int:
        """Its number in the initial namespace; of a thread, the thread's."""
        return self._get("pid")

    @cached_property
    def tgid(self) -> int:
        """The number of its process."""
        return self._get("tgid")

    @cached_property
    def comm(self) -> str:
        """Its name."""
        layout = self.linux.layout
        at = self.address + layout.offsetof("struct task_struct", "comm")
        return self.linux.string(at, layout.member_size("struct task_struct", "comm"))

    @cached_property
    def mm(self) -> Mm | None:
        """Its address space; None for a kernel thread and for a process that has exited."""
        address = self._get("mm")
        return Mm(self.linux, address) if address else None

    def threads(self) -> Iterator[Task]:
        """Yield the threads of its process."""
        layout, signal = self.linux.layout, self._get("signal")
        head = signal + layout.offsetof("struct signal_struct", "thread_head")
        for node in entries(self.linux, head):
            yield Task(self.linux, node - layout.offsetof("struct task_struct", "thread_node"))

    @property
    def faults(self) -> tuple[int, int]:
        """Minor and major page faults of its process, those of threads that have ended too: getrusage(2)."""
        return self._faults("min_flt"), self._faults("maj_flt")

    def _faults(self, name: str) -> int:
        ended = self.linux.member(self._get("signal"), "struct signal_struct", name)
        return ended + sum(thread._get(name) for thread in self.threads())

    def __str__(self) -> str:
        return f"{self.comm} (pid {self.pid}) at {self.address:#x}"


def tasks(linux: Linux) -> Iterator[Task]:
    """Yield every process, from init_task on."""
    first, offset = linux.symbols["init_task"], linux.layout.offsetof("struct task_struct", "tasks")
    yield Task(linux, first)
    for node in entries(linux, first + offset):
        yield Task(linux, node - offset)


def leads(linux: Linux, address: int, pid: int) -> bool:
    """Return whether the process ``pid`` is listed at an address, where it was found before.

    One that has gone is in no list: list_del_rcu() leaves it a pointer that nothing is mapped at.
    """
    node = address + linux.layout.offsetof("struct task_struct", "tasks")
    try:
        following, preceding = linux.uint(node), linux.uint(node + 8)
        listed = linux.uint(following + 8) == node == linux.uint(preceding)
        return listed and Task(linux, address).pid == pid
    except (WalkError, MemoryReadError):
        return False


def entries(linux: Linux, head: int) -> Iterator[int]:
    """Yield the nodes of a ``struct list_head``; raise WalkError for a list that does not come back."""
    node, count = linux.uint(head), 0
    while node != head:
        yield node
        node, count = linux.uint(node), count + 1
        if count > TASKS_MAX:
            raise WalkError(f"the list at {head:#x} has more than {TASKS_MAX} entries")
