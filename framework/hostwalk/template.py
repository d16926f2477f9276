"""Templates: targets that were booted once, proven, and frozen; a fork of one is a fresh machine in a moment.

A template is an entry of the cache: the RAM, the devices' state and some facts (see machine/frozen.py), keyed by
everything that shapes them. It is used only if it is what its maker left there; else it is made again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from hostwalk import entropy
from hostwalk.cache import Cache, key_of
from hostwalk.cell import BOOT_SECONDS, Cell, Prepared, boot, find_linux
from hostwalk.deadline import Deadline
from hostwalk.errors import CacheError, HostwalkError, MachineError, Phase
from hostwalk.guest import Agent, Subject
from hostwalk.linux import Linux
from hostwalk.linux.code import Mask, code_blocks
from hostwalk.machine import Accel, Frozen, Machine, Plan, Rewinder, choose, freeze, thaw
from hostwalk.machine.accel import host_processor
from hostwalk.machine.command import Payload, Wiring, kernel_cmdline, qemu_args
from hostwalk.machine.frozen import BLOCK, RAM_FILE, STATE_FILE, digest_of, own_memory
from hostwalk.machine.qemu import find_qemu
from hostwalk.memory import ProcessVm, Region, SharedMap, file_ranges
from hostwalk.target import Arch

KIND = "template"
RECIPE = "template-5"
FACTS_FILE = "facts.json"
FORK_SECONDS = 20.0
DOOR_SECONDS = 60.0
SPARES = 2
QUIET_NANOSECONDS = 300_000_000
NEW_KEY_SECONDS = 3.0
GREED = 3
AHEAD_SECONDS = 4.0
Made = tuple[int, int, int, int]


class NoTemplateError(HostwalkError):
    """The target boots, but cannot be frozen and forked; machines of it are to be booted."""

    default_phase = Phase.LAUNCH


@dataclass(frozen=True)
class Facts:
    """What is known of a template besides its files.

    ``janitor`` and ``spares`` are subjects of it (number, pid, scratch, scratch size); ``devices`` and ``ram``
    digests of its state and of its RAM; ``boot_seconds`` what its boot took; ``fork_bytes`` the
    memory that a fork had for itself when it had just begun.
    """

    regions: tuple[Region, ...]
    janitor: Made
    spares: tuple[Made, ...]
    devices: str
    ram: str
    boot_seconds: float
    fork_bytes: int = 0

    def save(self, directory: Path) -> None:
        """Write them into the template's directory."""
        (directory / FACTS_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read them; raises OSError, ValueError, TypeError, KeyError for damaged ones."""
        values: dict[str, Any] = json.loads((directory / FACTS_FILE).read_text(encoding="utf-8"))
        values["regions"] = tuple(Region(**region) for region in values["regions"])
        values["janitor"] = tuple(values["janitor"])
        values["spares"] = tuple(tuple(spare) for spare in values["spares"])
        return cls(**values)


@dataclass(frozen=True)
class Template:
    """A frozen machine that can be forked; ``fork`` and ``reset`` both give a cell in the template's state."""

    prepared: Prepared
    accel: Accel
    frozen: Frozen
    facts: Facts
    _rewinders: dict[Machine, Rewinder] = field(default_factory=dict, repr=False, compare=False)
    _codes: list[Mask] = field(default_factory=list, repr=False, compare=False)
    _kernels: list[Linux] = field(default_factory=list, repr=False, compare=False)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False, compare=False)

    @property
    def name(self) -> str:
        """Short: the beginning of its key."""
        return self.frozen.directory.name[:8]

    def fork(self, seed: int | entropy.Fresh | None = None, *, seconds: float = FORK_SECONDS) -> Cell:
        """Return a new machine that goes on where the template stopped; the caller closes it.

        Its random numbers are those of every other fork, or follow ``seed``, or are fresh ones (see entropy.py).
        Raises LaunchError, BootError, AgentError, WalkError, CacheError.
        """
        deadline, number = Deadline.after(seconds), next(self._numbers)
        name = self._name_of(number)
        plan = Plan(self.prepared.target, self.prepared.kernel, self.prepared.image, self.accel)
        with ExitStack() as stack:
            try:
                machine = stack.enter_context(thaw(plan, self.frozen, name, deadline=deadline))
            except FileNotFoundError as error:
                raise CacheError(f"template {self.name} has gone from the cache") from error
            try:
                cell = self._greet(machine, number, deadline, stack)
                if seed is not None:
                    entropy.reseed(cell, seed)
            except HostwalkError as error:
                raise machine.explain(error) from error
            return replace(cell, resources=stack.pop_all())
        raise AssertionError("unreachable: fork either returns or raises")

    def reset(self, cell: Cell, seed: int | entropy.Fresh | None = None) -> Cell:
        """Return a cell in the template's state like a new fork's, in the same process where that can be.

        The old cell and its subjects are not to be used any more. A fork that cannot be taken back is ended, and
        a new one takes its place. Raises what :meth:`fork` raises.
        """
        try:
            return self._rewound(cell, seed)
        except (HostwalkError, OSError, ValueError):
            cell.close()
            return self.fork(seed)

    def _rewound(self, cell: Cell, seed: int | entropy.Fresh | None) -> Cell:
        """Take a fork back; raises OSError, QmpCommandError, MachineError and what an agent raises."""
        cell.machine.check()
        cell.machine.hang_up()
        if self._keeps_its_time(cell) and cell.machine.ran.seconds > AHEAD_SECONDS:
            raise MachineError(
                "its time-stamp counter, which does not go back, is far ahead of the template's"
            )
        own = self._rewinder(cell).rewind()
        if own * BLOCK > GREED * max(self.facts.fork_bytes, 1 << 20):
            raise MachineError(
                f"{own} pages have become the process's own for good: a new one takes less memory"
            )
        number = next(self._numbers)
        cell.machine.name = self._name_of(number)
        agent = self._agent(cell.machine)
        agent.hello(Deadline.after(FORK_SECONDS), fork=number)
        again = replace(cell, agent=agent, janitor=Subject(agent, *self.facts.janitor))
        if seed is not None:
            entropy.reseed(again, seed)
        return again

    def _keeps_its_time(self, cell: Cell) -> bool:
        """Whether a time-stamp counter goes on over a reset: QEMU's own never turns back, KVM's is set."""
        return self.accel.name == "tcg" and cell.target.arch is Arch.X86_64

    def _rewinder(self, cell: Cell) -> Rewinder:
        """Return what takes a machine back; it ends with the machine."""
        machine = cell.machine
        if machine not in self._rewinders:
            made = self._rewinders[machine] = Rewinder(machine, self.frozen, self._code())
            cell.resources.callback(made.close)
            cell.resources.callback(self._rewinders.pop, machine, None)
        return self._rewinders[machine]

    def _code(self) -> Mask | None:
        """Return which blocks of the RAM file hold code; None where nothing is translated.

        Raises MachineError where not all of it is known: users of a login run files whose pages nobody has mapped.
        """
        if self.accel.name != "tcg":
            return None
        if self.prepared.image.login:
            raise MachineError("a machine that others have logged in to is not taken back")
        if not self._codes:
            ram = self.frozen.open_ram()
            try:
                with SharedMap(ram, self.facts.regions) as memory:
                    self._codes.append(code_blocks(self._kernels[0].anew(memory), BLOCK))
            finally:
                os.close(ram)
        return self._codes[0]

    def _name_of(self, number: int) -> str:
        return f"fork {number} of template {self.name} of {self.prepared.target}"

    def _greet(self, machine: Machine, number: int, deadline: Deadline, stack: ExitStack) -> Cell:
        agent = self._agent(machine)
        agent.hello(deadline, fork=number)
        machine.phase = Phase.OPERATION
        memory = self._memory(machine)
        linux = self._linux(machine, memory)
        janitor = Subject(agent, *self.facts.janitor)
        origin = f"forked from template {self.name}"
        return Cell(self.prepared, machine, agent, janitor, memory, linux, stack, origin)

    def _agent(self, machine: Machine) -> Agent:
        image = self.prepared.image
        agent = Agent(machine.port, image.abi, image.layout, watch=machine.watch)
        agent.adopt(self.facts.spares)
        return agent

    def _memory(self, machine: Machine) -> ProcessVm:
        ram = self.frozen.open_ram()
        try:
            return ProcessVm(machine.pid, file_ranges(machine.pid, ram, self.facts.regions))
        finally:
            os.close(ram)

    def _linux(self, machine: Machine, memory: ProcessVm) -> Linux:
        """Return the fork's kernel; the first fork's registers serve all, for all begin alike."""
        if not self._kernels:
            self._kernels.append(find_linux(machine, memory, self.prepared))
        return self._kernels[0].anew(memory)


def template_of(prepared: Prepared) -> Template:
    """Return the template of a prepared target: from the cache, or made, which takes a boot.

    Raises NoTemplateError where this QEMU or this guest cannot be frozen, CacheError, and what a boot raises.
    """
    cache = prepared.kernel.cache
    accel = choose(prepared.target, cache)
    key = template_key(prepared, accel)
    for _ in range(2):
        path = cache.entry(KIND, key, lambda directory: _make(prepared, accel, directory))
        facts = _intact(path)
        if facts is not None:
            cache.trim(KIND, keep=key)
            return Template(prepared, accel, Frozen.of(path), facts)
        cache.drop(path)
    raise CacheError(f"the template {key} is damaged as soon as it is made", remedy="look at the disk")


def template_key(prepared: Prepared, accel: Accel) -> str:
    """Return the key over all that shapes a template."""
    target, qemu, image = prepared.target, find_qemu(prepared.target.arch), prepared.image
    cmdline = kernel_cmdline(target, image.cmdline)
    payload = Payload(Path("kernel"), Path("initramfs"), cmdline, image.login)
    words = qemu_args(target, qemu, accel.name, payload, Wiring(0, 0, 0, 0))
    processor = host_processor() if accel.name == "kvm" else ""
    parts = (RECIPE, prepared.kernel.identity, image.identity, qemu.identity, processor)
    return key_of(*parts, "\0".join(words))


def _make(prepared: Prepared, accel: Accel, directory: Path) -> None:
    """Boot, come to rest, freeze, and prove a fork of it."""
    start = Deadline.after(BOOT_SECONDS)
    cell = boot(prepared)
    boot_seconds = start.seconds - start.remaining
    try:
        facts = _frozen(cell, directory, boot_seconds)
        fork_bytes = _proven(Template(prepared, accel, Frozen(directory), facts))
    except HostwalkError as error:
        raise NoTemplateError(f"no fork can be made: {error.message}", evidence=error.evidence) from error
    finally:
        cell.close()
    replace(facts, fork_bytes=fork_bytes).save(directory)


def _frozen(cell: Cell, directory: Path, boot_seconds: float) -> Facts:
    """Bring a booted machine to rest and freeze it."""
    spares = tuple(_made(cell.agent.spawn()) for _ in range(SPARES))
    cell.settle()
    if cell.prepared.image.login:
        cell.machine.await_door(Deadline.after(DOOR_SECONDS))
    _rest(cell.janitor)
    entropy.await_new_key(cell, Deadline.after(NEW_KEY_SECONDS))
    cell.machine.check()
    freeze(cell.machine, directory)
    regions, digests = tuple(cell.memory.regions), _digests(directory)
    return Facts(regions, _made(cell.janitor), spares, *digests, boot_seconds)


def _proven(template: Template) -> int:
    """Fork once and have the fork work; return the bytes that it had for itself."""
    cell = template.fork()
    try:
        cell.settle()
        cell.machine.check()
        return own_memory(cell.machine.pid)
    except HostwalkError as error:
        cell.machine.check()
        raise cell.machine.explain(error) from None
    finally:
        cell.close()


def _made(subject: Subject) -> Made:
    return (subject.number, subject.pid, subject.scratch, subject.scratch_size)


def _rest(janitor: Subject) -> None:
    """Let the guest idle for a while, so that what boot has left to do is done."""
    nap = QUIET_NANOSECONDS.to_bytes(8, "little")
    janitor.syscall("nanosleep", janitor.scratch, 0, payload=bytes(8) + nap)


def _digests(directory: Path) -> tuple[str, str]:
    """Return the digests of the devices' state and of the RAM."""
    devices = hashlib.sha256((directory / STATE_FILE).read_bytes()).hexdigest()
    return devices, digest_of(directory / RAM_FILE)


def _intact(directory: Path) -> Facts | None:
    """Return the facts of a template that is what its maker left, else None."""
    facts = _facts(directory)
    try:
        return facts if facts and _digests(directory) == (facts.devices, facts.ram) else None
    except (OSError, ValueError):
        return None


def _facts(directory: Path) -> Facts | None:
    try:
        return Facts.load(directory)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def measured_forks() -> tuple[int, ...]:
    """Return the bytes that a fork of each template in the cache had for itself when it began."""
    try:
        facts = [_facts(entry.path) for entry in Cache.user().entries(KIND)]
    except CacheError:
        return ()
    return tuple(each.fork_bytes for each in facts if each is not None)
