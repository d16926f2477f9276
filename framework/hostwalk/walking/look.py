"""What can be asked of a machine's page tables, and the answers as values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hostwalk.errors import HostwalkError, UsageError, WalkError
from hostwalk.linux import Linux, Page, Task
from hostwalk.machine import Registers
from hostwalk.machine.machine import NamedAddresses
from hostwalk.paging import AddressSpace, Diff, Leaves, Spaces, Walk, diff, find, scan, walk, with_root
from hostwalk.paging.format import EXECS, USER, WRITES, Mask
from hostwalk.walking.guest import Guest

HALVES = ("user", "kernel")
LINUX_FILTERS = ("special", "dirty", "young", "soft_dirty", "uffd_wp", "prot_none", "devmap")
RIGHTS_FILTERS = {"writable": WRITES, "executable": EXECS, "user": USER}
FILTERS = (*RIGHTS_FILTERS, *LINUX_FILTERS, "large", "absent")
NAMED_MOST = 12


@dataclass(frozen=True)
class Wanted:
    """A request: which tables (``cpu``, ``root``, ``tasks``, ``half``), and what of them.

    ``addresses`` are numbers, or names of symbols; ``ranges`` are (start, end); ``find`` is a guest physical
    address. ``only`` names filters that all must hold. Without addresses the tables are scanned.
    """

    cpu: int = 0
    root: int | None = None
    tasks: tuple[str, ...] = ()
    all_tasks: bool = False
    half: str | None = None
    addresses: tuple[str, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    find: int | None = None
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One address space that was scanned: what it is of, and its leaves; ``walks`` to its tables, for a tree."""

    title: str
    space: AddressSpace
    leaves: Leaves
    walks: tuple[Walk, ...] = ()


@dataclass(frozen=True)
class Named:
    """A walk and the symbol that its address is, or is in."""

    walk: Walk
    symbol: str = ""


@dataclass(frozen=True)
class Outcome:
    """What was seen in one moment: walks, or tables; ``page`` is what Linux keeps about the page to be found."""

    wanted: Wanted
    walks: tuple[Named, ...] = ()
    tables: tuple[Table, ...] = ()
    page: Page | None = None


@dataclass(frozen=True)
class Changes:
    """What happened to each space between two moments."""

    before: Outcome
    after: Outcome
    diffs: tuple[tuple[str, AddressSpace, Diff], ...] = field(default=())


def look(guest: Guest, wanted: Wanted, *, tree: bool = False) -> Outcome:
    """Hold the machine and look; raises UsageError, WalkError, MemoryReadError."""
    with guest.hold():
        moment = _Moment(guest, wanted)
        if wanted.addresses:
            return Outcome(wanted, walks=tuple(moment.walk(text) for text in wanted.addresses))
        tables = tuple(moment.tables())
        if tree:
            tables = tuple(moment.with_walks(table) for table in tables)
        return Outcome(wanted, tables=tables, page=moment.page())


def watch(guest: Guest, wanted: Wanted, pause: Callable[[], object]) -> Changes:
    """Look, let the machine go for a pause, look again, and compare."""
    before = look(guest, wanted)
    pause()
    after = look(guest, wanted)
    old = {table.title: table for table in before.tables}
    diffs = [
        (table.title, table.space, diff(old[table.title].leaves, table.leaves))
        for table in after.tables
        if table.title in old
    ]
    return Changes(before, after, tuple(diffs))


class _Moment:
    """The machine while it is held."""

    def __init__(self, guest: Guest, wanted: Wanted) -> None:
        self.guest = guest
        self.wanted = wanted
        self.registers: Registers = guest.registers(wanted.cpu)
        self.halves: Spaces = guest.spaces(self.registers)

    @cached_property
    def linux(self) -> Linux:
        return self.guest.linux(self.registers)

    @cached_property
    def symbols_known(self) -> bool:
        return self.guest.build.symbols is not None and self.guest.build.layout is not None

    # Which tables.

    def spaces(self) -> Iterator[tuple[str, AddressSpace]]:
        """Yield (title, space) of what was asked for."""
        if self.wanted.tasks or self.wanted.all_tasks:
            yield from self._of_tasks()
            return
        for half in (self.wanted.half,) if self.wanted.half else HALVES:
            space: AddressSpace | None = getattr(self.halves, half)
            if space is None:
                if self.wanted.half:
                    raise WalkError(f"processor {self.wanted.cpu} translates no {half} addresses now")
                continue
            if self.wanted.root is not None:
                yield f"root {self.wanted.root:#x}, {half} half", with_root(space, self.wanted.root)
            else:
                yield f"processor {self.wanted.cpu}, {half} half", space

    def _of_tasks(self) -> Iterator[tuple[str, AddressSpace]]:
        if self.wanted.half == "kernel":
            yield "init_mm, kernel half", self.linux.kernel_space
            return
        seen = set()
        for task in self._tasks():
            if task.mm is None and not self.wanted.all_tasks:
                raise WalkError(
                    f"{task} has no address space of its own: a kernel thread, or a process that has exited",
                    remedy="--half kernel shows the kernel's",
                )
            if task.mm is not None and task.mm.address not in seen:
                seen.add(task.mm.address)
                yield f"{task.comm} (pid {task.pid})", task.mm.space
        if self.wanted.all_tasks and self.wanted.find is not None:
            yield "kernel", self.linux.kernel_space

    def _tasks(self) -> Iterator[Task]:
        if self.wanted.all_tasks:
            yield from self.linux.tasks()
        for name in self.wanted.tasks:
            yield from self._named(self.guest.nicknames.get(name, name))

    def _named(self, name: str) -> list[Task]:
        if name.isdigit():
            return [self.linux.task(int(name))]
        leaders = list(self.linux.tasks())
        found = [task for task in leaders if task.comm == name]
        if not found:
            some = [f"{task.comm} ({task.pid})" for task in leaders if task.mm is not None]
            more = f" and {len(some) - NAMED_MOST} more" if len(some) > NAMED_MOST else ""
            known = ", ".join(some[:NAMED_MOST]) + more
            raise WalkError(f"the guest has no task named {name!r}", remedy=f"processes: {known or 'none'}")
        return found

    # What of them.

    def walk(self, text: str) -> Named:
        """Walk one address, in the first of the spaces that translates it; a symbol in the kernel's own.

        The processor's may not have it: with page-table isolation it leads to the entry code only.
        """
        address, named = self._address(text)
        spaces = [] if named else [space for _, space in self.spaces()]
        if named or (self.wanted.tasks and self.halves.kernel is not None):
            spaces.append(self.linux.kernel_space)
        if not spaces:
            raise WalkError("the processor translates no addresses now")
        space = next((each for each in spaces if address in each), spaces[0])
        return Named(walk(self.guest.memory, space, address), self._symbol(address))

    def _address(self, text: str) -> tuple[int, bool]:
        """Return the address, and whether a symbol named it."""
        try:
            return int(text, 16), False
        except ValueError:
            pass
        name, _, offset = text.partition("+")
        try:
            return self.linux.symbols[name] + (int(offset, 16) if offset else 0), True
        except ValueError:
            raise UsageError(f"{text!r} is no address", remedy="give hexadecimal, or SYMBOL+OFFSET") from None
        except HostwalkError as error:
            raise UsageError(
                f"{text!r} is no address, and no symbol: {error.message}", remedy=error.remedy
            ) from None

    def _symbol(self, address: int) -> str:
        symbols = self.linux.symbols if self.symbols_known else None
        if not isinstance(symbols, NamedAddresses) or not address >> 63:
            return ""
        try:
            name, offset = symbols.nearest(address)
        except HostwalkError:
            return ""
        return f"{name}+{offset:#x}" if offset < 1 << 20 else ""

    def tables(self) -> Iterator[Table]:
        """Scan each space."""
        for title, space in self.spaces():
            ranges = self.wanted.ranges or ((space.start, space.end),)
            for start, end in ranges:
                if end <= space.start or start >= space.end:
                    continue
                leaves = scan(self.guest.memory, space, start, end, non_present=True)
                yield Table(title, space, self._kept(leaves))

    def _kept(self, leaves: Leaves) -> Leaves:
        if self.wanted.find is not None:
            leaves = find(leaves, self.wanted.find)
        for name in self.wanted.only:
            leaves = leaves[_holds(leaves, name)]
        return leaves

    def with_walks(self, table: Table) -> Table:
        """Walk to the first leaf in each of the tables: that names all the tables above."""
        leaves = table.leaves
        sizes = np.array([level.table_size for level in table.space.format.levels], dtype=np.uint64)[
            leaves.level
        ]
        tables = leaves.entry_phys - leaves.entry_phys % sizes
        begins = np.ones(len(leaves), dtype=bool)
        begins[1:] = tables[1:] != tables[:-1]
        firsts = leaves.virt_addr[begins].tolist()
        walks = tuple(walk(self.guest.memory, table.space, at) for at in firsts)
        return Table(table.title, table.space, leaves, walks)

    def page(self) -> Page | None:
        """Return what the kernel keeps about the page that is to be found, where that can be known."""
        if self.wanted.find is None or not self.symbols_known:
            return None
        try:
            return self.linux.page(self.wanted.find >> self.linux.kernel_space.format.page_shift)
        except WalkError:
            return None


def _holds(leaves: Leaves, name: str) -> Mask:
    if name in RIGHTS_FILTERS:
        column: Mask = (leaves.rights & RIGHTS_FILTERS[name]).astype(bool)
        return column
    if name == "large":
        return leaves.size > leaves.space.format.page_size
    if name == "absent":
        return ~leaves.present
    return leaves.linux(name)
