"""Huge pages of shared memory: what their entry notes of stores and accesses is not lost with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject, SyscallFailed
from hostwalk.sabotage import page_flag
from hostwalk.witness import Witness

SWITCH = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
PMD = "mm/huge_memory.c"


@contextmanager
def shared_huge(subject: Subject, witness: Witness) -> Iterator[Area]:
    """Map a huge page of shared memory that was read; ends the claim where none comes."""
    with subject.agent.spawn() as root:
        try:
            old = root.read_file(SWITCH).split(b"[")[1].split(b"]")[0]
            set_switch(root, b"advise")
            root.write(root.open("/proc/sys/vm/compact_memory", "O_WRONLY"), b"1")
        except SyscallFailed:
            not_applicable("this kernel has no huge pages of shared memory")
        try:
            size = subject.pmd_size // subject.page_size
            area = subject.mmap(pages=size, shared=True, fd=subject.memfd(size), aligned=subject.pmd_size)
            subject.madvise(area, "HUGEPAGE")
            area[:1].load()
            if witness.pages(area[:1]).huge != 1:
                not_applicable("no huge page was made")
            yield area
        finally:
            set_switch(root, old)


def set_switch(root: Subject, value: bytes) -> None:
    """Say when shared memory gets huge pages."""
    fd = root.open(SWITCH, "O_WRONLY")
    root.write(fd, value)
    root.close(fd)


@claim(
    "munmap.thp.3",
    PMD,
    "A huge page of shared memory that was written through a mapping is dirty when that goes.",
    code="zap_huge_pmd()",
    sabotage=page_flag("PG_dirty", set=False, at=3),
)
def test_a_huge_page_that_was_written_is_dirty(subject: Subject, witness: Witness) -> None:
    with shared_huge(subject, witness) as area:
        area[3:4].store()
        before = witness.pages(area[:1])
        subject.munmap(area)
        assert (before.dirty, before.writable, before.flag("PG_dirty")) == (1, 1, 0)
        assert witness.frames(before.pfns).flag("PG_dirty") == 1


@claim(
    "munmap.thp.4",
    PMD,
    "A young entry of a huge page of shared memory marks the page accessed when it goes; an old one does not.",
    code="zap_huge_pmd()",
    kernels=">=6.16",
    sabotage=page_flag("PG_referenced", set=False, at=3),
)
def test_a_huge_page_that_was_used_is_marked(subject: Subject, witness: Witness) -> None:
    marks = []
    for used in (True, False):
        with shared_huge(subject, witness) as area:
            subject.clear_young()
            subject.mprotect(area, "r")  # flushes what x86-64 leaves in the TLBs
            if used:
                area[3:4].load()
            before = witness.pages(area[:1])
            assert (before.young, before.flag("PG_referenced"), before.huge) == (used, 0, 1)
            subject.munmap(area)
            marks.append(witness.frames(before.pfns).flag("PG_referenced")[0])
    assert marks == [1, 0]


@claim(
    "munmap.thp.5",
    PMD,
    "A huge page of shared memory that was written and used is dirty and referenced when a part of its mapping goes.",
    code="__split_huge_pmd_locked()",
    sabotage=page_flag("PG_referenced", set=False, at=3),
)
def test_a_huge_page_of_which_a_part_goes_is_marked(subject: Subject, witness: Witness) -> None:
    with shared_huge(subject, witness) as area:
        subject.clear_young()
        subject.mprotect(area, "r")  # flushes what x86-64 leaves in the TLBs
        subject.mprotect(area, "rw")
        area[3:4].store()
        before = witness.pages(area[:1])
        subject.munmap(area[8:16])
        after = witness.frames(before.pfns)
        assert (before.young, before.dirty, before.flag("PG_referenced"), before.flag("PG_dirty")) == (
            1,
            1,
            0,
            0,
        )
        assert (after.flag("PG_referenced"), after.flag("PG_dirty")) == (1, 1)
