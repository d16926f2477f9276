"""A cell: one target, running, with its agent and all that the host knows of its kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from hostwalk.cache import Cache
from hostwalk.deadline import Deadline
from hostwalk.errors import (
    UNTESTABLE,
    BuildError,
    BuildInterruptedError,
    HostwalkError,
    MachineError,
    Phase,
    WalkError,
)
from hostwalk.guest import Agent, Subject
from hostwalk.image import Image, build_image, build_login_image
from hostwalk.kernels import Kernel, Progress, resolve
from hostwalk.kernels.progress import telling_of_waits
from hostwalk.linux import Linux
from hostwalk.machine import Machine, launch
from hostwalk.machine.command import RAM
from hostwalk.machine.qemu import find_qemu
from hostwalk.memory import HeldMemory, SharedMap, WritableMemory, ram_map
from hostwalk.moment import Moment
from hostwalk.options import CheckOptions
from hostwalk.paging import spaces
from hostwalk.target import Target, is_from_source

BOOT_SECONDS = 180.0
ROOT_TRIES, ROOT_MILLISECONDS = 20, 20


@dataclass(frozen=True)
class Prepared:
    """All that a machine of a target is made of."""

    target: Target
    kernel: Kernel
    image: Image


@dataclass(frozen=True)
class Cell:
    """One running target with its agent, and a subject that only flushes the kernel's per-CPU page batches.

    ``origin`` says in a few words how it came to run; ``likely`` are the blocks of memory that one looks at.
    """

    prepared: Prepared
    machine: Machine
    agent: Agent
    janitor: Subject
    memory: WritableMemory
    linux: Linux
    resources: ExitStack
    origin: str = "booted"
    likely: set[int] = field(default_factory=set)

    @property
    def target(self) -> Target:
        """The target as asked for."""
        return self.prepared.target

    @property
    def identity(self) -> str:
        """What was really booted, in one line."""
        kernel, accel = self.prepared.kernel, self.machine.accel
        qemu = find_qemu(self.target.arch).version
        pages = self.linux.user_space.format.name if self.linux.user_space else "no user space"
        return f"Linux {kernel.release} ({kernel.identity[:12]}), {pages}, QEMU {qemu}, {accel}"

    @property
    def broken(self) -> bool:
        """Whether machine or agent failed once, so that nothing more is to be asked of them."""
        return self.machine.broken is not None or bool(self.agent.broken)

    def moment(self) -> Moment:
        """Return the machine's present moment; it is to be stopped."""
        held = HeldMemory(self.memory, self.likely)
        return Moment(self.target.arch, held, self.linux.anew(held))

    def settle(self) -> None:
        """Have the kernel give up the references that its per-CPU batches hold (mm/swap.c, lru_add_drain_all).

        A guest that somebody holds still is left as it is: it could not answer.
        """
        if self.machine.course.answers(self.machine):
            self.janitor.settle()

    def close(self) -> None:
        """End the machine and everything that belongs to it."""
        self.resources.close()


def prepare(
    target: Target, options: CheckOptions, progress: Progress, cache: Cache, *, login: bool = False
) -> Prepared:
    """Get the kernel and build the image, with ``login`` the one that one can log in to.

    Raises FetchError, ResolveError, BuildError.
    """
    cache = telling_of_waits(cache, progress)
    with untestable_if_built(target):
        kernel = _kernel(target, options, progress, cache)
        if login:
            image = build_login_image(kernel, cache, mirror=options.mirror, progress=progress)
        else:
            image = build_image(kernel, cache, progress=progress)
    return Prepared(target, kernel, image)


def _kernel(target: Target, options: CheckOptions, progress: Progress, cache: Cache) -> Kernel:
    return resolve(
        target.kernel,
        target.arch,
        cache=cache,
        mirror=options.mirror,
        progress=progress,
        headers=options.headers,
        symbols=options.symbols,
        page_format=target.format,
    )


Start = Callable[[Prepared, Deadline], AbstractContextManager[Machine]]


def started(prepared: Prepared, deadline: Deadline) -> AbstractContextManager[Machine]:
    """Return a machine of a prepared target that begins to boot."""
    return launch(prepared.target, prepared.kernel, prepared.image, deadline=deadline)


def boot(prepared: Prepared, seconds: float = BOOT_SECONDS, start: Start = started) -> Cell:
    """Boot a prepared target up to its answering agent; raises LaunchError, BootError, AgentError, WalkError."""
    deadline = Deadline.after(seconds)
    with untestable_if_built(prepared.target), ExitStack() as stack:
        machine = stack.enter_context(start(prepared, deadline))
        try:
            agent = Agent(machine.port, prepared.image.abi, prepared.image.layout, watch=machine.watch)
            agent.hello(deadline)
            machine.phase = Phase.OPERATION
            regions = ram_map(machine.qmp.hmp("info mtree -f"), RAM)
            memory = stack.enter_context(SharedMap(machine.ram_fd, regions))
            linux = find_linux(machine, memory, prepared)
            janitor = agent.spawn()
            check_root(machine, linux, janitor)
        except HostwalkError as error:
            raise machine.explain(error) from error
        return Cell(prepared, machine, agent, janitor, memory, linux, stack.pop_all())
    raise AssertionError("unreachable: boot either returns or raises")


@contextmanager
def untestable_if_built(target: Target) -> Iterator[None]:
    """Mark what keeps a kernel that was built from source from its first answer: git bisect can skip it."""
    try:
        yield
    except (BuildError, MachineError) as error:
        if is_from_source(target.kernel) and not isinstance(error, BuildInterruptedError):
            error.exit_status = UNTESTABLE
        raise


def find_linux(machine: Machine, memory: WritableMemory, prepared: Prepared) -> Linux:
    """Return the guest's kernel, its own page tables reached from a processor's registers."""
    with machine.stopped():
        return Linux.of(memory, machine.registers(), prepared.kernel.symbols, prepared.image.layout)


def check_root(machine: Machine, linux: Linux, subject: Subject) -> None:
    """Prove the way in: while a subject runs, a processor's root must be the one that its mm_struct names.

    The subject runs longer each time, and is given longer to begin, for a busy host may not come to run it. Raises
    WalkError when no processor shows it.
    """
    seen: set[int] = set()
    for attempt in range(ROOT_TRIES):
        with subject.spin((attempt + 1) * ROOT_MILLISECONDS):
            machine.console.drain(Deadline.after(attempt * ROOT_MILLISECONDS / 2000))
            with machine.stopped():
                mm = linux.anew().task(subject.pid).mm
                users = [spaces(machine.registers(cpu)).user for cpu in range(machine.target.cpus)]
        seen = {user.root for user in users if user is not None}
        if mm is not None and seen & {mm.space.root, mm.pgd_phys}:
            return
    found = ", ".join(f"{root:#x}" for root in sorted(seen))
    raise WalkError(f"no processor has the root of {subject} while it runs; their roots are {found or 'off'}")
