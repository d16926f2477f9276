"""mmap_lock and *locked: who holds it, who waits, and what a wait leaves behind."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from hostwalk.claim import claim
from hostwalk.guest import Area, Subject, SubjectDied
from hostwalk.guest.gup import PendingPins
from hostwalk.sabotage import entry_bit, entry_pfn, mm_counter, refcount
from hostwalk.witness import NO_PFN, Witness

OLD_PAGE = "__get_user_pages(9)"
DOC = "get_user_pages_remote(9)"
FAST = "get_user_pages_fast(9)"
GUP = "mm/gup.c"
FLAGS = "include/linux/mm_types.h"
READER = 1 << 8  # RWSEM_READER_BIAS, kernel/locking/rwsem.c
EVENT_SIZE = 32  # struct uffd_msg


@dataclass(frozen=True)
class Missing:
    """Pages that stay away until they are given: userfaultfd(2) over an area."""

    area: Area
    fd: int

    @classmethod
    def watch(cls, area: Area) -> Missing:
        """Register an area for missing pages; the descriptor blocks."""
        subject, abi = area.subject, area.subject.agent.abi
        fd = subject.call("userfaultfd", abi["O_CLOEXEC"]).value
        missing = cls(area, fd)
        missing.ioctl(subject, "UFFDIO_API", abi["UFFD_API"], 0, 0)
        mode = abi["UFFDIO_REGISTER_MODE_MISSING"]
        missing.ioctl(subject, "UFFDIO_REGISTER", area.start, area.length, mode, 0)
        return missing

    def ioctl(self, subject: object, request: str, *words: int) -> None:
        """Make a request with a structure of 64-bit words."""
        assert isinstance(subject, Subject)
        payload = struct.pack(f"<{len(words)}Q", *words)
        subject.call(
            "ioctl", self.fd, subject.agent.abi[request], subject.scratch, payload=payload, shown=request
        )

    def await_fault(self, thread: Subject) -> int:
        """Wait in a thread until somebody needs a page; return its address."""
        return int(struct.unpack_from("<Q", thread.read(self.fd, EVENT_SIZE), 16)[0])

    def give(self, thread: Subject, page: Area) -> None:
        """Give a page of zeros."""
        self.ioctl(thread, "UFFDIO_ZEROPAGE", page.start, page.length, 0, 0)


@claim(
    "gup.lock.1",
    OLD_PAGE,
    "Must be called with mmap_sem held for read or write.",
    reading="Every call leaves the lock as it was.",
    sabotage=mm_counter("mmap_lock", +READER, at=2),
)
def test_every_call_leaves_the_lock_as_it_was(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=8, prot="rw")
    subject.munmap(area[6:])
    before = witness.mm(subject)
    with (
        subject.get_user_pages(area[:1]), subject.get_user_pages_fast(area[1:2]),
        subject.get_user_pages_unlocked(area[2:3]), subject.get_user_pages_remote(subject, area[3:4]),
        subject.pin_user_pages(area[4:5], write=True), subject.get_user_pages_unlocked(area),
        subject.get_user_pages_fast(area[6:]), subject.get_user_pages_remote(subject, area[6:]),
    ):  # fmt: skip
        assert witness.mm(subject).mmap_lock == before.mmap_lock


@claim(
    "gup.lock.2",
    OLD_PAGE,
    "Must be called with mmap_sem held for read or write.",
    reading="The lock may be held for writing.",
    sabotage=mm_counter("mmap_lock", +1),
)
def test_the_lock_may_be_held_for_writing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.get_user_pages(area, write=True, write_lock=True) as pins:
        assert witness.mm(subject).mmap_lock in (0, -1)
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == 2


@claim(
    "fast.lock.1",
    FAST,
    "Attempt to pin user pages in memory without taking mm->mmap_lock.",
    reading="It succeeds while another holds mmap_lock for writing.",
    sabotage=refcount(-1, at=2),
)
def test_the_fast_walk_takes_no_lock(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before = witness.pages(area)
    with (
        subject.get_user_pages_fast(area, write=True, write_lock=True) as got,
        subject.pin_user_pages_fast(area, write=True, write_lock=True) as pinned,
    ):
        held = witness.pages(area)
        assert got.pfns == pinned.pfns
        assert held.pfns == got.pfns
        assert held.refcounts == before.refcounts + 1 + witness.layout["GUP_PIN_COUNTING_BIAS"]


@claim(
    "fast.lock.2",
    "get_user_pages_fast_only(9)",
    "it won't fall back to the regular GUP",
    reading="It returns while another holds mmap_lock for writing, also where a page is missing.",
    sabotage=entry_bit("present", set=True),
)
def test_fast_only_takes_no_lock_for_missing_pages_either(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.get_user_pages_fast_only(area, write=True, write_lock=True) as pins:
        assert (pins.returned, pins.filled) == (0, 0)
        assert witness.pages(area).pfns == NO_PFN


@claim(
    "gup.locked.1", DOC, "locked: pointer to lock flag indicating whether lock is held",
    sabotage=mm_counter("mmap_lock", +READER),
)  # fmt: skip
def test_locked_stays_set_when_nobody_waits(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.get_user_pages_remote(subject, area, write=True) as pins:
        assert pins.locked == 1
        assert witness.mm(subject).mmap_lock in (0, -1)
        assert witness.pages(area).pfns == pins.pfns


@claim(
    "gup.locked.2", OLD_PAGE, "If this happens *@locked will be set to 0 on return.",
    sabotage=mm_counter("mmap_lock", +READER),
)  # fmt: skip
def test_a_wait_drops_the_lock_and_clears_locked(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    missing = Missing.watch(area)
    with subject.thread() as thread:
        missing.give(thread, area[0])
        call = subject.start_gup("get_user_pages_remote", area[:2], of=thread)
        assert missing.await_fault(thread) == area.address(1)
        assert witness.mm(thread).mmap_lock in (0, -1)
        missing.give(thread, area[1])
        with call.result() as pins:
            assert (pins.returned, pins.locked) == (2, 0)
            assert witness.mm(thread).mmap_lock in (0, -1)
            assert witness.pages(area[:2]).pfns == pins.pfns


@claim(
    "gup.locked.3", DOC, "whether lock is held and subsequently whether VM_FAULT_RETRY functionality can be utilised",
    sabotage=entry_bit("present", set=True),
)  # fmt: skip
def test_without_locked_nobody_waits(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    Missing.watch(area)
    with subject.get_user_pages_remote(subject, area, no_locked=True) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(area).pfns == NO_PFN


@claim(
    "gup.locked.4", GUP, "VM_FAULT_RETRY triggered, so seek to the faulting offset.", sabotage=refcount(-1, at=2),
)  # fmt: skip
def test_a_wait_in_the_middle_loses_no_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=5, prot="rw")
    for page in (0, 1, 3, 4):
        area[page].touch(page + 1)
    missing = Missing.watch(area)
    before = witness.pages(area)
    with subject.thread() as thread:
        call = subject.start_gup("get_user_pages_unlocked", area, write=True)
        assert missing.await_fault(thread) == area.address(2)
        waiting = witness.pages(area)
        assert waiting.refcounts == before.refcounts + (1, 1, 0, 0, 0)
        missing.give(thread, area[2])
        with call.result() as pins:
            held = witness.pages(area)
            assert pins.returned == 5
            assert held.pfns == pins.pfns
            assert held.refcounts[:2] == before.refcounts[:2] + 1
            assert held.refcounts[3:] == before.refcounts[3:] + 1


@claim(
    "gup.nowait.1", GUP, "0 return value is possible when the fault would need to be retried.",
    sabotage=entry_bit("present", set=True),
)  # fmt: skip
def test_nowait_returns_0_where_it_would_have_to_wait(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    Missing.watch(area)
    with subject.get_user_pages(area, nowait=True) as pins:
        assert (pins.returned, pins.filled) == (0, 0)
        assert witness.pages(area).pfns == NO_PFN


@claim(
    "gup.nowait.2",
    OLD_PAGE,
    "This may be fewer than the number requested.",
    reading="FOLL_NOWAIT keeps what it got before it would have to wait.",
    sabotage=refcount(-1, at=2),
)
def test_nowait_keeps_what_it_got_before(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    mapped = area[:2].touch()
    Missing.watch(area)
    before = witness.pages(mapped)
    with subject.get_user_pages(area, nowait=True) as pins:
        held = witness.pages(mapped)
        assert pins.returned == 2
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1


@claim(
    "gup.nowait.3",
    FLAGS,
    "if a disk transfer is needed, start the IO and return without waiting upon it",
    reading="FOLL_NOWAIT: memory that needs no disk is faulted in and taken.",
    sabotage=entry_pfn(+1),
)
def test_nowait_faults_in_what_needs_no_wait(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.get_user_pages(area, write=True, nowait=True) as pins:
        assert pins.returned == 2
        assert witness.pages(area).pfns == pins.pfns


@claim(
    "gup.killed.1", GUP, "GUP can be interrupted by fatal signals", sabotage=refcount(+1, at=3),
)  # fmt: skip
def test_a_killed_caller_keeps_no_reference(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=fd)
    area[:1].touch()
    before = witness.pages(area[:1])
    with subject.fork() as caller, caller.thread() as thread:
        missing = Missing.watch(Area(caller, area.start, 2, area.page_size))
        call = caller.start_gup("get_user_pages_unlocked", area)
        missing.await_fault(thread)
        waiting = witness.pages(area[:1])
        assert waiting.refcounts == before.refcounts + waiting.mapcounts - before.mapcounts + 1
        subject.call("kill", caller.pid, subject.agent.abi["SIGKILL"])
        ended = refused(call)
        assert "SIGKILL" in ended
    after = witness.pages(area[:1])
    assert after.refcounts == before.refcounts
    assert after.mapcounts == before.mapcounts


@claim(
    "gup.interruptible.1",
    FLAGS,
    "allow interrupts from generic signals",
    reading="FOLL_INTERRUPTIBLE changes nothing where no signal comes.",
    kernels=">=6.3",
    sabotage=refcount(-1, at=2),
)
def test_interruptible_is_accepted(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages_unlocked(area, interruptible=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1


def refused(call: PendingPins) -> str:
    """Wait for a call whose caller dies; return how it died."""
    with pytest.raises(SubjectDied) as died:
        call.result()
    return str(died.value)
