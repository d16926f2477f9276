"""Entries of pages that hardware has lost: madvise(MADV_HWPOISON), and who meets them afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject, SubjectDied, SyscallFailed
from hostwalk.sabotage import entry_bit
from hostwalk.witness import NO_PFN, Witness

ADVICE = "madvise(2)"
ACTION_SIZE, SIGSET_SIZE, SIG_IGN = 32, 8, 1  # struct sigaction of the kernel, the same on both architectures


@contextmanager
def deaf_to_sigbus(subject: Subject) -> Iterator[None]:
    """Ignore SIGBUS while the block runs: whoever maps a dirty page that is lost is told so."""
    number, size = subject.agent.abi["SIGBUS"], SIGSET_SIZE
    old = subject.call("rt_sigaction", number, 0, subject.scratch, size, reply=ACTION_SIZE).payload
    ignore = SIG_IGN.to_bytes(ACTION_SIZE, "little")
    subject.call("rt_sigaction", number, subject.scratch, 0, size, payload=ignore)
    yield
    subject.call("rt_sigaction", number, subject.scratch, 0, size, payload=old[:ACTION_SIZE])


def poisoned(subject: Subject) -> Area:
    """Return three pages, the middle one of which is poisoned; ends the claim where that cannot be done.

    A child poisons it, for who does that himself may be killed for it.
    """
    area = subject.mmap(pages=3).touch(0x4E)
    with deaf_to_sigbus(subject), suppress(SubjectDied), subject.fork() as child:
        try:
            child.madvise((area.address(1), area.page_size), "HWPOISON")
        except SyscallFailed as failed:
            not_applicable(f"this kernel poisons no memory: {failed.errno}")
    return area


@claim(
    "poison.entry.1",
    ADVICE,
    "Poison the pages in the range specified by addr and length and handle subsequent references to those pages like "
    "a hardware memory corruption.",
    reading="The page is mapped no more, its entry says why, and an access is SIGBUS; its neighbours stay.",
    sabotage=entry_bit("present", set=False, page=1),
)
def test_a_poisoned_page_is_out_of_reach(subject: Subject, witness: Witness) -> None:
    area = poisoned(subject)
    pages = witness.pages(area)
    assert (pages.swaps, pages.present) == (("", "hwpoison", ""), (1, 0, 1))
    with subject.faults("SIGBUS", "BUS_MCEERR_AR"):
        subject.load(area.address(1))
    assert subject.peek(area.start, 1) + subject.peek(area.address(2), 1) == b"\x4e\x4e"


@claim(
    "poison.mprotect.1",
    "mm/mprotect.c",
    "mprotect() leaves the entry of a poisoned page as it is.",
    code="change_pte_range()",
    sabotage=entry_bit("present", set=False, at=2, page=1),
)
def test_mprotect_leaves_a_poisoned_entry(subject: Subject, witness: Witness) -> None:
    area = poisoned(subject)
    before = witness.pages(area)
    for prot in ("none", "r", "rw"):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert (after.swaps, after.entries[1]) == (before.swaps, before.entries[1])
    with subject.faults("SIGBUS", "BUS_MCEERR_AR"):
        subject.store(area.address(1))


@claim(
    "poison.fork.1",
    "fork(2)",
    "The child process is an exact duplicate of the parent process",
    reading="A poisoned page is out of the child's reach too.",
    sabotage=entry_bit("present", set=False, at=1, page=1),
)
def test_the_child_has_the_poisoned_entry(subject: Subject, witness: Witness) -> None:
    area = poisoned(subject)
    with subject.fork() as child:
        theirs, ours = witness.pages(area, of=child), witness.pages(area)
        assert theirs.swaps == ours.swaps == ("", "hwpoison", "")
        assert theirs.entries[1] == ours.entries[1]
        with child.faults("SIGBUS", "BUS_MCEERR_AR"):
            child.load(area.address(1))


@claim(
    "poison.gup.1",
    "__get_user_pages(9)",
    "This may be fewer than the number requested.",
    reading="A poisoned page ends the walk; alone it is -EFAULT, and its entry stays.",
    sabotage=entry_bit("present", set=False, at=1, page=1),
)
def test_get_user_pages_ends_at_a_poisoned_page(subject: Subject, witness: Witness) -> None:
    area = poisoned(subject)
    for call in (subject.get_user_pages, subject.get_user_pages_fast, subject.pin_user_pages):
        with call(area) as pins:
            assert (pins.returned, pins.filled) == (1, 1)
        with call(area[1:2]) as pins:
            assert (pins.errno, pins.filled) == ("EFAULT", 0)
    pages = witness.pages(area)
    assert pages.swaps == ("", "hwpoison", "")
    assert (pages.refcounts[0], pages.refcounts[2]) == (1, 1)


@claim(
    "poison.munmap.1",
    "munmap(2)",
    "The munmap() system call deletes the mappings for the specified address range",
    reading="The entry of a poisoned page goes, and nothing is counted for it.",
    sabotage=entry_bit("present", set=True, at=1, page=1),
)
def test_munmap_removes_a_poisoned_entry(subject: Subject, witness: Witness) -> None:
    area = poisoned(subject)
    rss = witness.mm(subject).rss_anon
    subject.munmap(area[1:2])
    pages = witness.pages(area)
    assert (pages.present, pages.swaps, pages.pfns[1]) == ((1, 0, 1), ("", "", ""), NO_PFN)
    assert witness.mm(subject).rss_anon == rss
