"""Who wrote: the instruction of a recorded execution that last changed some bytes of guest memory.

QEMU 7.2 steps back in no replay of these machines, so the bytes are read at many halts of one replay, between the
last two that differ at many more of the next one, and so on, down to one instruction. What is found is the last
change: an instruction that wrote the same bytes again is not seen, nor one whose change was taken back between two
halts of the first replay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hostwalk.cell import Cell
from hostwalk.errors import Evidence, HostwalkError, UsageError
from hostwalk.exact.making import BOOT
from hostwalk.exact.playing import Playback, Player
from hostwalk.guest import Area
from hostwalk.guest.process import Process
from hostwalk.linux import Linux, Task
from hostwalk.linux.stack import Frame, backtrace, name_of
from hostwalk.machine.registers import Registers
from hostwalk.memory import Regions
from hostwalk.memory.regions import covers
from hostwalk.moment import Moment
from hostwalk.paging import Walk, spaces, walk
from hostwalk.repro.run import Outcome
from hostwalk.target import Arch

FAN = 840
CHANGES = 4
ENTRY_BYTES = 8
KERNEL_HALF = 1 << 63
BOOT_JIFFIES_SECONDS = 300
# What a table walk sets: accessed and dirty (SDM Vol. 3A, 4.8); AF, and AP[2] where DBM is set (Arm ARM, D8.4.5).
ACCESS_BITS = {Arch.X86_64: 1 << 5 | 1 << 6, Arch.ARM64: 1 << 10 | 1 << 7}


@dataclass(frozen=True)
class Question:
    """What is asked: an address, or with ``entry`` that of the entry that maps it, at a level where one is given.

    ``expression`` is a number, the name of a kernel symbol, or what names of the script give: ``area[1]``.
    """

    expression: str
    entry: bool = False
    level: str = ""
    physical: bool = False
    size: int = ENTRY_BYTES


@dataclass(frozen=True)
class Place:
    """Bytes of guest physical memory, in words, and where the RAM lies; ``entry`` where they are one."""

    phys: int
    size: int
    words: str
    regions: Regions
    entry: bool


@dataclass(frozen=True)
class Change:
    """One instruction that changed the bytes: its number, the bytes, and where the processor was.

    ``walker``: it was no store but the processor's table walk, which notes an access in the entry.
    """

    icount: int
    before: bytes
    after: bytes
    at: str
    frames: tuple[Frame, ...]
    task: str
    uptime: float | None
    walker: bool

    @property
    def difference(self) -> str:
        """The bytes before and after, as one number each."""
        old, new = (int.from_bytes(data, "little") for data in (self.before, self.after))
        return f"{old:#018x} -> {new:#018x}"


@dataclass
class Search:
    """Looks for changes of a place, in as many replays as it takes; ``replays`` counts them."""

    player: Player
    place: Place
    watch: Callable[[str], None] = lambda _text: None
    replays: int = 0
    _seen: dict[int, bytes] = field(default_factory=dict)

    def changes(self) -> Iterator[Change]:
        """Yield the last changes, latest first, up to one that an instruction made."""
        recording = self.player.recording
        end = recording.marks[recording.verdict].icount
        for _ in range(CHANGES):
            found = self._last_change(end)
            if found is None:
                return
            change = self._look(found)
            yield change
            if not change.walker:
                return
            end = found - 1

    def during(self, count: int) -> str:
        """Return in words between which halts an instruction was executed."""
        marks = self.player.recording.marks
        before = [mark.what for mark in marks if mark.icount < count]
        after = [mark.what for mark in marks if mark.icount >= count]
        return f"after {before[-1]!r} and before {after[0]!r}" if before else f"before {after[0]!r}"

    def _last_change(self, end: int) -> int | None:
        """Return the count at which the bytes had last changed at ``end``; None where they never did."""
        if not self._seen:
            self._sample(self._begin, end)
        while True:
            counts = sorted(count for count in self._seen if count <= end)
            changed = [pair for pair in pairwise(counts) if self._seen[pair[0]] != self._seen[pair[1]]]
            if not changed and 0 in self._seen:
                return None
            if not changed:
                self._sample(0, self._begin)
                continue
            low, high = changed[-1]
            if high - low == 1:
                return high
            self._sample(low, high)

    @property
    def _begin(self) -> int:
        """Where the boot had ended: what a script shows was mostly written after that."""
        return max((mark.icount for mark in self.player.recording.marks if mark.what == BOOT), default=0)

    def _sample(self, low: int, high: int) -> None:
        """Read the bytes at some counts between two, both of them included: as few as take no replay more."""
        rounds = max(1, math.ceil(math.log(max(high - low, 1), FAN)))
        step = max(1, math.ceil((high - low) ** (1 - 1 / rounds)))
        counts = [low, *range(low + step, high, step), high]
        self.replays += 1
        with self.player.bare(self.place.regions) as playback:
            for number, count in enumerate(counts):
                playback.run_to(count)
                self._seen[count] = self._bytes(playback)
                if number % 32 == 0:
                    self.watch(f"replay {self.replays}: instruction {count:,} of {high:,}, every {step:,}")

    def _bytes(self, playback: Playback) -> bytes:
        return playback.memory.read(self.place.phys, self.place.size)

    def _look(self, count: int) -> Change:
        """Replay up to the instruction that made a change, and look at it before and after."""
        self.replays += 1
        with self.player.bare(self.place.regions) as playback:
            playback.run_to(count - 1)
            before = self._bytes(playback)
            state = playback.machine.registers(frame=True)
            linux = _linux(self.player, playback, state)
            at, frames, task = self._told(linux, state)
            uptime = _uptime(linux, self.player.prepared.kernel.config) if linux else None
            playback.run_to(count)
            after = self._bytes(playback)
        walker = self.place.entry and state.pc < KERNEL_HALF and self._only_access(before, after)
        return Change(count, before, after, at, frames, task, uptime, walker)

    def _told(self, linux: Linux | None, state: Registers) -> tuple[str, tuple[Frame, ...], str]:
        """Return in words where the processor is, its backtrace, and what it runs."""
        if linux is None:
            return f"{state.pc:#x}", (), ""
        frames: tuple[Frame, ...] = ()
        if state.pc >= KERNEL_HALF:
            frames = backtrace(linux, state.arch, dict(state.values))
        return name_of(linux, state.pc), frames, _task(linux, state)

    def _only_access(self, before: bytes, after: bytes) -> bool:
        """Return whether no more than the notes of an access differ: accessed and dirty bits."""
        differ = int.from_bytes(before, "little") ^ int.from_bytes(after, "little")
        return not differ & ~ACCESS_BITS[self.player.prepared.target.arch]


def _linux(player: Player, playback: Playback, state: Registers) -> Linux | None:
    """Return the kernel as the processor that runs it shows it; None before there is one."""
    symbols, layout = player.prepared.kernel.symbols, player.prepared.image.layout
    try:
        return Linux.of(playback.memory, state, symbols, layout)
    except HostwalkError:
        return None


def _uptime(linux: Linux, config: Mapping[str, str]) -> float | None:
    """Return the seconds since the kernel began to count: jiffies_64, which begins at -300 s (linux/jiffies.h)."""
    hertz = int(config.get("CONFIG_HZ", "0") or 0)
    if not hertz or "jiffies_64" not in linux.symbols:
        return None
    first = (1 << 32) - BOOT_JIFFIES_SECONDS * hertz
    return (linux.uint(linux.symbols["jiffies_64"]) - first) / hertz


def _task(linux: Linux, state: Registers) -> str:
    """Return the task on whose stack or in whose address space the processor is."""
    stack = state["rsp" if state.arch is Arch.X86_64 else "sp"]
    try:
        user = spaces(state).user
        for task in (each for leader in linux.tasks() for each in _with_threads(leader)):
            if 0 <= stack - linux.member(task.address, "struct task_struct", "stack") < (1 << 16):
                return f"{task.comm} (pid {task.pid})"
            mm = task.mm if stack < KERNEL_HALF else None
            if mm is not None and user is not None and user.root in (mm.space.root, mm.pgd_phys):
                return f"{task.comm} (pid {task.pid})"
    except HostwalkError:
        return ""
    return ""


def _with_threads(leader: Task) -> Iterator[Task]:
    yield leader
    if leader.pid:
        yield from (each for each in leader.threads() if each.pid != leader.pid)


# What is asked.


def locate(cell: Cell, names: Mapping[str, object], question: Question) -> Place:
    """Return the place that is asked for, where the verdict falls; raises UsageError, WalkError.

    ``names`` are those of the script.
    """
    moment = cell.moment()
    value = evaluate(question.expression, names, moment)
    address = value.start if isinstance(value, Area) else value
    if not isinstance(address, int) or not 0 <= address < 1 << 64:
        kind = (
            type(value).__name__
            if not isinstance(address, int)
            else f"number of more than 64 bits: {address:#x}"
        )
        raise UsageError(f"{question.expression} is a {kind}, no address", remedy="give a number or an area")
    who = value.subject if isinstance(value, Area) else names.get("subject")
    found = (
        _entry(moment, who, address, question) if question.entry else _bytes(moment, who, address, question)
    )
    phys, words, size = found
    if not covers(cell.memory.regions, phys, size):
        raise UsageError(
            f"{words}: that is no RAM", remedy="give an address in RAM: " + _shown(cell.memory.regions)
        )
    return Place(phys, size, words, cell.memory.regions, question.entry)


class _Names(dict[str, Any]):
    """The names of the script, and beyond them the kernel's symbols."""

    def __init__(self, names: Mapping[str, object], symbols: Mapping[str, int]) -> None:
        super().__init__(names)
        self._symbols = symbols

    def __missing__(self, name: str) -> int:
        if name in self._symbols:
            return self._symbols[name]
        raise KeyError(name)


def evaluate(expression: str, given: Mapping[str, object], moment: Moment) -> object:
    """Return what an expression gives where the verdict falls; raises UsageError."""
    names = _Names(given, moment.linux.symbols)
    try:
        return eval(expression, {}, names)  # noqa: S307 (its user's own, as the script is)
    except Exception as error:
        known = ", ".join(sorted(names)) or "none"
        raise UsageError(
            f"{expression!r} gives no address: {type(error).__name__}: {error}",
            remedy=f"give a number, a kernel symbol, or a name of the script ({known})",
        ) from error


def _shown(regions: Regions) -> str:
    return ", ".join(str(region) for region in regions)


def _walked(moment: Moment, who: object, address: int, question: Question) -> Walk:
    """Walk an address of the kernel's in its own tables, any other in those of the process whose it is."""
    if address >= KERNEL_HALF:
        return walk(moment.memory, moment.linux.kernel_space, address)
    return moment.mm(_pid(who, question)).walk(address)


def _entry(moment: Moment, who: object, address: int, question: Question) -> tuple[int, str, int]:
    levels = _walked(moment, who, address, question).levels
    steps = [step for step in levels if question.level in ("", step.name)]
    if not steps:
        there = ", ".join(step.name for step in levels) or "none, for nothing translates it"
        at = f" at level {question.level}" if question.level else ""
        raise UsageError(f"{address:#x} has no entry{at}", remedy=f"it has: {there}")
    step = steps[-1]
    return step.entry_phys, f"the {step.name} of {address:#x}, at physical {step.entry_phys:#x}", ENTRY_BYTES


def _bytes(moment: Moment, who: object, address: int, question: Question) -> tuple[int, str, int]:
    if question.physical:
        return address, f"{question.size} bytes at physical {address:#x}", question.size
    page = moment.linux.kernel_space.format.page_size
    if address % page + question.size > page:
        raise UsageError(
            f"{question.size} bytes at {address:#x} do not lie in one page",
            remedy="ask for each page by itself",
        )
    phys = _walked(moment, who, address, question).phys_addr
    if phys is None:
        raise UsageError(
            f"{address:#x} is not mapped where the verdict falls", remedy="ask for its entry: --entry"
        )
    return phys, f"{question.size} bytes at {address:#x}, physical {phys:#x}", question.size


def _pid(who: object, question: Question) -> int:
    if not isinstance(who, Process):
        raise UsageError(
            f"it is not known whose address {question.expression} is", remedy="give an area of the script's"
        )
    return who.pid


def _no_place(outcome: Outcome) -> HostwalkError:
    """Return why a replay found no place; an address that makes no sense needs no evidence of the guest."""
    if isinstance(outcome.error, UsageError):
        outcome.error.evidence = Evidence()
    return outcome.error or HostwalkError(
        f"the replay did not come to the verdict: it {outcome.result}: {outcome.said}",
        remedy="see how far it comes: hostwalk repro replay FILE",
    )


def who_wrote(
    player: Player, question: Question, watch: Callable[[str], None] = lambda _text: None
) -> tuple[Place, Search, list[Change]]:
    """Find who wrote what is asked for; return the place, the search, and the changes, latest first.

    Raises what :func:`locate` does, HostwalkError where the replay does not come to the verdict.
    """
    places: list[Place] = []
    watch("replay to the verdict")
    found = player.perform(lambda cell, names: places.append(locate(cell, names, question)))
    if not places:
        raise _no_place(found.outcome)
    search = Search(player, places[0], watch)
    changes = list(search.changes())
    return places[0], search, changes
