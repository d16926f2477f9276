"""A watch by points and one by time, on a machine whose stops and sights a test writes down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from hostwalk.deadline import Deadline
from hostwalk.errors import UsageError, WalkError
from hostwalk.linux.mm import Vma
from hostwalk.machine.breakpoints import NAMES, Hit
from hostwalk.memory import FakeMemory, Region
from hostwalk.paging import AddressSpace, scan, x86_64
from hostwalk.target import Arch
from hostwalk.watching import watch as module
from hostwalk.watching.calls import Point
from hostwalk.watching.sample import Sample, Sight
from hostwalk.watching.watch import Clock, Points

EXIT, PROTECT, FORK, BACK = 0xE000, 0x1000, 0x2000, 0xB000
OURS, FOREIGN, CHILD, THREAD = 85, 7, 90, 86
STACK = 0x8000
SPACE = AddressSpace("test", x86_64.make_format(4), 0x1000, 0, 1 << 47, x86_64.linux_bits({}))
NONE = scan(FakeMemory((Region(0, 1 << 30),)), SPACE)


def sight(mm: int = 1, *starts: int) -> Sight:
    """Return an address space with a mapping at each of some addresses, and no page."""
    vmas = tuple(Vma(0, start, start + 0x1000, 0, 0, 0, None, frozenset()) for start in starts)
    return Sight("prog", mm, NONE, vmas)


class Task:
    """A task at an address that is its pid; ``groups`` says of which process each thread is."""

    parents: ClassVar[dict[int, int]] = {}
    groups: ClassVar[dict[int, int]] = {}
    pids: ClassVar[dict[int, int]] = {}

    def __init__(self, linux: object, address: int) -> None:
        self.address = address
        self.pid = self.pids.get(address, address)
        self.tgid = self.groups.get(address, address)

    def threads(self) -> Iterator[Task]:
        addresses = [address for address, tgid in self.groups.items() if tgid == self.tgid]
        yield from (Task(None, address) for address in addresses or [self.address])


class Machine:
    """A machine that a test stops where it likes; notes its breakpoints."""

    def __init__(self) -> None:
        self.running = True
        self.points: list[int] = []
        self.at: tuple[Hit, ...] = ()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        yield

    def watch(self) -> None:
        """It is well."""

    # The breakpoints that a watch makes on it.

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        self.running = True

    def fileno(self) -> int:
        return -1

    def add(self, addresses: Iterable[int]) -> None:
        self.points.extend(addresses)

    def remove(self, address: int) -> None:
        self.points.remove(address)

    def clear(self) -> None:
        self.points.clear()

    def hits(self) -> tuple[Hit, ...]:
        return self.at

    def go_on(self, hits: Iterable[Hit]) -> None:
        self.at, self.running = (), True


class Stage:
    """A cell, and what is seen of each process at the next look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sights: dict[int, Sight | None] = {OURS: sight(1, 0x1000), FOREIGN: sight(9)}
        self.machine = Machine()
        linux = SimpleNamespace(
            symbols={"do_exit": EXIT}, task=lambda pid: Task(None, pid), read_virt=lambda at, size: bytes(size),
            uint=lambda at: BACK, member=lambda address, type_, name: Task.parents.get(address, 1),
        )  # fmt: skip
        self.cell: Any = SimpleNamespace(
            machine=self.machine, linux=linux, target=SimpleNamespace(arch=Arch.X86_64),
            moment=lambda: SimpleNamespace(linux=linux),
            prepared=SimpleNamespace(image=SimpleNamespace(abi={"EINVAL": 22, "PROT_NONE": 0})),
        )  # fmt: skip
        self.current = OURS
        Task.parents, Task.groups, Task.pids = {}, {}, {}
        monkeypatch.setattr(module, "Task", Task)
        monkeypatch.setattr(module, "Breakpoints", lambda machine: machine)
        monkeypatch.setattr(module, "look", lambda moment, task: self.sights.get(task.tgid))
        monkeypatch.setattr(
            module, "find", lambda linux, pid: Task(None, pid) if self.sights.get(pid) else None
        )
        monkeypatch.setattr(Points, "_current", lambda watch, hit, linux: self.current)

    def points(self, **more: bool) -> Points:
        wanted = (Point("mprotect", PROTECT, is_call=True), Point("fork", FORK, is_call=True))
        return Points(self.cell, OURS, Deadline.after(5), wanted, **({"children": True} | more))

    def stop(
        self, watch: Points, pc: int, *, who: int = OURS, sp: int = STACK, result: int = 0
    ) -> list[Sample]:
        """Stop at a point, and return what the watch says."""
        values = dict.fromkeys(NAMES[Arch.X86_64], 0) | {"rip": pc, "rsp": sp, "rax": result & (1 << 64) - 1}
        self.current, self.machine.at, self.machine.running = who, (Hit(Arch.X86_64, 0, values),), False
        watch.serve()
        return list(watch.take())


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_a_change_belongs_to_what_came_before_it(stage: Stage) -> None:
    with stage.points() as watch:
        assert stage.machine.points == [PROTECT, FORK, EXIT]
        stage.sights[OURS] = sight(1, 0x1000, 0x2000)
        (meanwhile,) = stage.stop(watch, PROTECT)
        assert meanwhile.occasion == "meanwhile"
        assert [vma.start for vma in meanwhile.mapped] == [0x2000]
        assert BACK in stage.machine.points
        stage.sights[OURS] = sight(1, 0x2000)
        (called,) = stage.stop(watch, BACK, sp=STACK + 8, result=-22)
        assert called.occasion == "mprotect(0, 0, PROT_NONE) = EINVAL"
        assert called.call is not None
        assert called.call.result == -22
        assert [vma.start for vma in called.unmapped] == [0x1000]
        assert BACK not in stage.machine.points
    assert stage.machine.running


def test_nothing_new_is_told_of_a_call_but_not_of_what_came_before(stage: Stage) -> None:
    with stage.points() as watch:
        assert stage.stop(watch, PROTECT) == []
        (called,) = stage.stop(watch, BACK, sp=STACK + 8)
        assert not called


def test_another_process_is_no_sample(stage: Stage) -> None:
    with stage.points() as watch:
        assert stage.stop(watch, PROTECT, who=FOREIGN) == []
        assert BACK not in stage.machine.points
        stage.stop(watch, PROTECT)
        assert stage.stop(watch, BACK, who=FOREIGN, sp=0x9008) == []
        assert len(stage.stop(watch, BACK, sp=STACK + 8)) == 1


def test_a_child_is_watched_when_it_was_made(stage: Stage) -> None:
    with stage.points() as watch:
        stage.stop(watch, FORK)
        stage.sights[CHILD] = sight(2, 0x1000)
        called, forked = stage.stop(watch, BACK, sp=STACK + 8, result=CHILD)
        assert (called.pid, forked.pid, forked.occasion) == (OURS, CHILD, "forked")
        stage.sights[CHILD] = sight(3, 0x5000)
        (new,) = stage.stop(watch, PROTECT, who=CHILD, sp=0x9000)
        assert (new.occasion, [vma.start for vma in new.mapped]) == ("a new address space", [0x5000])


def test_a_child_that_comes_first_is_known_by_its_parent(stage: Stage) -> None:
    Task.parents = {CHILD: OURS, FOREIGN: 1}
    stage.sights[CHILD] = sight(1, 0x1000)
    with stage.points() as watch:
        (forked,) = stage.stop(watch, PROTECT, who=CHILD, sp=0x9000)
        assert (forked.pid, forked.occasion) == (CHILD, "forked")
    with stage.points(children=False) as watch:
        assert stage.stop(watch, PROTECT, who=CHILD, sp=0x9000) == []


def test_it_ends_with_the_process_and_leaves_no_point(stage: Stage) -> None:
    with stage.points() as watch:
        stage.stop(watch, PROTECT)
        stage.sights[OURS] = sight(1, 0x3000)
        (last,) = stage.stop(watch, EXIT)
        assert (last.occasion, [vma.start for vma in last.mapped]) == ("exit", [0x3000])
        assert stage.machine.points == []
        assert list(watch) == []
        assert watch.end == "exit"


@pytest.mark.parametrize("leader_is_left", [True, False])
def test_a_process_goes_on_when_its_first_thread_has_exited(stage: Stage, leader_is_left: bool) -> None:
    Task.groups = {OURS: OURS, THREAD: OURS}
    with stage.points() as watch:
        assert stage.stop(watch, EXIT) == []
        if not leader_is_left:
            del Task.groups[OURS]
        stage.stop(watch, PROTECT, who=THREAD)
        stage.sights[OURS] = sight(1, 0x2000)
        (called,) = stage.stop(watch, BACK, who=THREAD, sp=STACK + 8)
        assert [vma.start for vma in called.mapped] == [0x2000]
        assert not watch.over
        (last,) = stage.stop(watch, EXIT, who=THREAD)
        assert last.occasion == "exit"
        assert watch.over


def test_a_thread_that_exits_is_not_the_process(stage: Stage) -> None:
    Task.groups = {OURS: OURS, THREAD: OURS}
    with stage.points() as watch:
        assert stage.stop(watch, EXIT, who=THREAD) == []
        del Task.groups[THREAD]
        assert [sample.occasion for sample in stage.stop(watch, EXIT)] == ["exit"]


def test_a_thread_that_took_the_first_s_place_by_an_exec_has_not_exited(stage: Stage) -> None:
    Task.groups = {OURS: OURS, THREAD: OURS}
    with stage.points() as watch:
        assert stage.stop(watch, EXIT) == []
        Task.groups, Task.pids = {THREAD: OURS, CHILD: OURS}, {THREAD: OURS}
        assert stage.stop(watch, EXIT, who=CHILD) == []
        assert not watch.over
        del Task.groups[CHILD]
        assert [sample.occasion for sample in stage.stop(watch, EXIT, who=THREAD)] == ["exit"]


def test_what_comes_before_the_program_is_not_told(stage: Stage) -> None:
    with stage.points(from_exec=True) as watch:
        stage.sights[OURS] = sight(1, 0x9000)
        assert stage.stop(watch, PROTECT) == []
        stage.sights[OURS] = sight(2, 0x4000)
        (new,) = stage.stop(watch, BACK, sp=STACK + 8)
        assert new.call is not None
        assert [vma.start for vma in new.mapped] == [0x4000]
        stage.sights[OURS] = sight(1, 0x5000)
        (again,) = stage.stop(watch, PROTECT)
        assert again.occasion == "a new address space"


def test_a_deadline_ends_it(stage: Stage) -> None:
    with Points(stage.cell, OURS, Deadline.after(0), (), children=True) as watch:
        assert list(watch) == []
        assert watch.end == "deadline"


def test_a_process_without_an_address_space_is_refused(stage: Stage) -> None:
    stage.sights[OURS] = None
    with pytest.raises(WalkError, match="no address space to watch"):
        stage.points()


def test_by_time_changes_are_what_is_new_since_the_last_look(stage: Stage) -> None:
    with Clock(stage.cell, OURS, Deadline.after(5), 0.001) as watch:
        stage.sights[OURS] = sight(1, 0x7000)
        sample = next(watch)
        assert (sample.occasion, [vma.start for vma in sample.mapped]) == ("meanwhile", [0x7000])
        stage.sights[OURS] = None
        assert [each.occasion for each in watch] == ["exit"]
    with pytest.raises(UsageError, match="not every 0"):
        Clock(stage.cell, OURS, Deadline.after(5), 0)
