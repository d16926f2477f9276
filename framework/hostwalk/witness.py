"""The witness: what the host sees of a subject, in guest physical memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest

from hostwalk.audit import Audit, collect, judge
from hostwalk.cost import Cost
from hostwalk.deadline import Deadline
from hostwalk.errors import GuestCrashError, HostwalkError
from hostwalk.guest import Area, Probe, probing
from hostwalk.guest.tap import tapped
from hostwalk.linux import Mm, Node
from hostwalk.linux.mm import percpu_sum
from hostwalk.linux.node import NODE_STATS
from hostwalk.machine.reports import Report
from hostwalk.memory import covers
from hostwalk.moment import Moment
from hostwalk.observed import NOTHING, Observed, comparable, printed
from hostwalk.paging import walk
from hostwalk.readings import (
    NO_PFN,
    CommittedReading,
    Contents,
    CountersReading,
    Frames,
    MmReading,
    Pages,
    Reading,
    Record,
    VmaReading,
    VmasReading,
)
from hostwalk.report.story import Comparison, Operation, Story
from hostwalk.telling import tell
from hostwalk.watching import Wanted, Watch, begin

if TYPE_CHECKING:
    from hostwalk.cells import Cell
    from hostwalk.claim import Claim
    from hostwalk.guest.process import Process, Reply
    from hostwalk.sabotage import Saboteur

Seen = TypeVar("Seen", bound=Reading)
STORY_READINGS = 3


class ClaimBrokenError(AssertionError):
    """What breaks a claim without an assertion of its own: a warning of the kernel."""


class WarnedError(ClaimBrokenError):
    """The kernel warned: ``report``."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"the kernel warned: {report.title}\n{report.text}")
        self.report = report


class BreachedError(ClaimBrokenError):
    """What must hold at every moment does not: ``audit``."""

    def __init__(self, audit: Audit) -> None:
        super().__init__(f"the claim was kept, but not what must hold at every moment\n{audit}")
        self.audit = audit


@tapped(
    lambda witness: witness.cell.agent,
    "pages", "frames", "vma", "vmas", "committed", "mm", "counters", "contents", "probe", "audit",
)  # fmt: skip
class Witness:
    """Reads guest memory from outside, the machine held still meanwhile.

    Before each reading the guest's per-CPU batches of pages are flushed, for they hold references of their own.
    Every reading is kept: ``readings``; so is what was done in the guest meanwhile: ``operations``.
    """

    def __init__(self, cell: Cell, saboteur: Saboteur | None = None) -> None:
        self.cell = cell
        self.machine = cell.machine
        self.layout = cell.prepared.image.layout
        self.saboteur = saboteur
        self.readings: list[Reading] = []
        self.observed = NOTHING
        self.operations: list[Operation] = []
        cell.agent.listener = self._heard
        self._reports = len(self.machine.reports)
        self._printed = self.machine.console.printed

    def __repr__(self) -> str:
        """Return the name that claims use, for assertions quote it."""
        return "witness"

    def _heard(self, who: Process, reply: Reply) -> None:
        if who.number != self.cell.janitor.number:
            done = Operation(reply.call, reply.outcome, len(self.readings), reply.details)
            self.operations.append(done)

    @contextmanager
    def moment(self) -> Iterator[Moment]:
        """Hold the machine still and look around in it."""
        with self.machine.stopped():
            yield self.cell.moment()

    @property
    def zero_pfn(self) -> int:
        """The page frame of the shared zero page."""
        with self.moment() as moment:
            return moment.zero_pfn

    def pages(self, area: Area, *, of: Process | None = None) -> Pages:
        """Return the entries and struct pages of an area, seen through its subject's tables or those ``of`` another."""
        who = of or area.subject

        def read(moment: Moment) -> Pages:
            return _pages(
                moment, moment.mm(who.pid), area, f"{area.pages} pages at {area.start:#x} of pid {who.pid}"
            )

        return self._see(read)

    def frames(self, pfns: Iterable[int]) -> Frames:
        """Return the struct pages of page frames, mapped or not."""
        wanted = [int(pfn) for pfn in pfns]

        def read(moment: Moment) -> Frames:
            pages = moment.linux.pages(wanted)
            return Frames(
                "frames", f"{len(wanted)} page frames", tuple(Record(page.pfn, page) for page in pages)
            )

        return self._see(read)

    def vma(self, area: Area, *, of: Process | None = None) -> VmaReading:
        """Return the mapping that holds the area's start."""
        who = of or area.subject

        def read(moment: Moment) -> VmaReading:
            found = moment.mm(who.pid).vma(area.start)
            title = f"vma at {area.start:#x} of pid {who.pid}"
            return VmaReading("vma", title, (), found.address if found else 0, found)

        return self._see(read)

    def vmas(self, subject: Process) -> VmasReading:
        """Return all mappings of a subject."""

        def read(moment: Moment) -> VmasReading:
            vmas = moment.mm(subject.pid).vmas()
            first = vmas[0].address if vmas else 0
            return VmasReading("vma", f"mappings of pid {subject.pid}", (), first, vmas)

        return self._see(read)

    def committed(self) -> CommittedReading:
        """Return how many pages the kernel has promised to all processes: vm_committed_as.

        Skips the running test where the kernel's symbols do not tell where that is (no CONFIG_KALLSYMS_ALL).
        """

        def read(moment: Moment) -> CommittedReading:
            if "vm_committed_as" not in moment.linux.symbols:
                pytest.skip("this kernel's symbols do not tell where vm_committed_as is")
            address = moment.linux.symbols["vm_committed_as"]
            return CommittedReading(
                "committed", "vm_committed_as", (), address, percpu_sum(moment.linux, address)
            )

        return self._see(read)

    def mm(self, subject: Process) -> MmReading:
        """Return the counters of a subject's address space."""
        return self._see(lambda moment: _mm(moment.mm(subject.pid), f"mm of pid {subject.pid}"))

    def counters(self) -> CountersReading:
        """Return the counters of node 0."""

        def read(moment: Moment) -> CountersReading:
            node = Node.first(moment.linux)
            values = tuple((name, node.stat(name)) for name in NODE_STATS)
            return CountersReading("counters", "counters of node 0", (), node.address, values)

        return self._see(read)

    def audit(self, *subjects: Process) -> Audit:
        """Hold the address spaces of some subjects, by default of all processes, against the standing invariants.

        What is found is looked at once more, for the kernel may have been at work; only what stays is reported.
        """
        pids = frozenset(subject.pid for subject in subjects) or None
        first = self._audit_now(pids)
        return first or first.confirmed_by(self._audit_now(pids))

    def watch(
        self, pid: int | Process, *, every: float | None = None, at: Iterable[str] = (), children: bool = True,
        deadline: Deadline | None = None,
    ) -> Watch:  # fmt: skip
        """Watch a process: an iterator of samples, each with what changed in its page tables and mappings, and why.

        It is stopped ``every`` so many seconds, else ``at`` functions of the kernel or system calls by name, else at
        all system calls that alter an address space (hostwalk.watching.CALLS); ``children`` are watched, too. Enter it
        as a context manager: until its end the machine runs on only while the next sample is asked for, so let a
        subject's call be a pending one (``start_syscall``). It ends with the processes, or at the deadline (ten
        minutes unless given). Raises UsageError for a name that the kernel has not, WalkError for no such process.
        """
        wanted = Wanted(every, tuple(at), children)
        return begin(self.cell, pid if isinstance(pid, int) else pid.pid, wanted, deadline)

    def probe(self, area: Area, access: str = "store") -> AbstractContextManager[Probe]:
        """Access an area by two threads before and after the block: see :func:`hostwalk.guest.probing`."""
        return probing(area.subject, area, access)

    def _audit_now(self, pids: frozenset[int] | None) -> Audit:
        self.cell.settle()
        with self.moment() as moment:
            return judge(collect(moment), pids)

    def contents(self, area: Area) -> bytes:
        """Return the bytes of an area's pages, from physical memory; a page that is not there gives zeros."""

        def read(moment: Moment) -> Contents:
            pages = _pages(moment, moment.mm(area.subject.pid), area, f"contents of {area}")
            data = b"".join(_bytes_of(moment, record, area.page_size) for record in pages.records)
            return Contents(pages.kind, pages.title, pages.records, data=data)

        return self._see(read).data

    def _see(self, read: Callable[[Moment], Seen]) -> Seen:
        self.cell.settle()
        with self.machine.stopped():
            seen = read(self.cell.moment())
            if self.saboteur is not None:
                with self.saboteur.strike(self.cell.moment(), seen) as struck:
                    seen = read(self.cell.moment()) if struck else seen
        self.readings.append(seen)
        return seen

    def story(self) -> list[str]:
        """Return the last readings as lines, for the explanation of a broken claim."""
        lines = ["what the witness saw, last reading first:"] if self.readings else []
        for reading in reversed(self.readings[-STORY_READINGS:]):
            lines += [f"  {line}" for line in reading.lines()]
        return lines

    def told(self, failure: str, comparison: Comparison | None) -> Story:
        """Return what was done and seen, for the reports; ``failure`` says in words what came of it."""
        return tell(failure, self.operations, self.readings, comparison, self.machine.console.tail())

    def require(self, claim: Claim) -> None:
        """Skip the running test where the claim says nothing about this kernel."""
        code = self.layout["LINUX_VERSION_CODE"]
        if not claim.kernels.include(code):
            pytest.skip(f"the sentence is about kernels {claim.kernels}")

    def reported(self) -> tuple[Report, ...]:
        """Return what the kernel has reported since the witness came; raises GuestCrashError for a crash."""
        self.machine.watch()
        return self.machine.reports[self._reports :]

    def check_console(self, claim: Claim | None) -> None:
        """Raise GuestCrashError for a crash, WarnedError for a warning that the claim did not provoke."""
        for report in self.reported():
            if claim is None or not claim.warns or not re.search(claim.warns, report.text):
                raise WarnedError(report)

    @contextmanager
    def observing(self, claim: Claim, subject: Process | None) -> Iterator[None]:
        """Leave in ``observed`` what the block has read, what it has cost the subject, and what the kernel printed."""
        before = Cost.of(self, subject) if subject is not None else None
        try:
            yield
        finally:
            after = Cost.of(self, subject) if subject is not None and before is not None else None
            costs = after.since(before) if before is not None and after is not None else ()
            text, reports = self.machine.console.since(self._printed), self.machine.reports[self._reports :]
            self.observed = Observed(comparable(self.readings), costs, printed(text, reports, claim.warns))

    def check_invariants(self) -> None:
        """Raise BreachedError for an invariant that does not hold of some process."""
        audit = self.audit()
        if not audit:
            raise BreachedError(audit)

    def prefer_crash(self, error: BaseException) -> None:
        """Raise GuestCrashError in place of an error that a crash of the kernel explains."""
        try:
            self.machine.watch()
        except GuestCrashError as crash:
            if crash is not error and not isinstance(error, GuestCrashError):
                raise crash from error
        except HostwalkError:
            return

    def aftermath(self, claim: Claim) -> Exception | None:
        """Return what ``check_console`` finds now, after the end of the claim's subject; nothing in a sabotage run."""
        if self.saboteur is not None:
            return None
        try:
            self.check_console(claim)
        except (HostwalkError, ClaimBrokenError) as error:
            return error
        return None


def _pages(moment: Moment, mm: Mm, area: Area, title: str) -> Pages:
    walks = [walk(moment.memory, mm.space, address) for address in area]
    pfns = [seen.pfn for seen in walks]
    present = sorted({pfn for pfn in pfns if pfn is not None and _has_page(moment, pfn, area.page_size)})
    frames = dict(zip(present, moment.linux.pages(present), strict=True)) if present else {}
    records = (
        Record(NO_PFN if pfn is None else pfn, frames.get(pfn) if pfn is not None else None, seen)
        for pfn, seen in zip(pfns, walks, strict=True)
    )
    return Pages("pages", title, tuple(records))


def _has_page(moment: Moment, pfn: int, size: int) -> bool:
    return covers(moment.memory.regions, pfn * size, size)


def _mm(mm: Mm, title: str) -> MmReading:
    rss = mm.rss
    return MmReading(
        "mm", title, (), mm.address,
        rss_file=rss.file, rss_anon=rss.anon, rss_swap=rss.swap, rss_shmem=rss.shmem,
        total_vm=mm.total_vm, locked_vm=mm.locked_vm, pinned_vm=mm.pinned_vm, map_count=mm.map_count,
        pgtables_bytes=mm.pgtables_bytes, mmap_lock=mm.mmap_lock, flag_names=_mmf_names(mm),
        def_flags=frozenset(name for name, mask in mm.linux.vm_flags.items() if mm.def_flags & mask),
        data_vm=mm.get("data_vm"),
    )  # fmt: skip


def _mmf_names(mm: Mm) -> frozenset[str]:
    layout = mm.linux.layout
    return frozenset(key for key in layout if key.startswith("MMF_") and mm.flags >> layout[key] & 1)


def _bytes_of(moment: Moment, record: Record, size: int) -> bytes:
    return moment.memory.read(record.pfn * size, size) if record.pfn != NO_PFN else bytes(size)
