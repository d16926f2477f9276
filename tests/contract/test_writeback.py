"""msync(2) of a file that has a disk behind it: what is written back is clean, until the next store."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, page_flag
from hostwalk.witness import Witness

PAGE = "msync(2)"
FLUSHES = (
    "msync() flushes changes made to the in-core copy of a file that was mapped into memory using mmap(2) back to the "
    "filesystem."
)


@claim(
    "msync.clean.1",
    PAGE,
    FLUSHES,
    reading="What is written back is clean and read-only, so that the next store is noticed, and written back too.",
    sabotage=entry_bit("writable", set=True, at=2, page=0),
)
def test_a_store_after_msync_is_noticed(disk: str, subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True, fd=subject.open(disk, "O_RDWR")).touch(0x41)
    before = witness.pages(area)
    subject.msync(area)
    clean = witness.pages(area)
    area[1:].store(0x42)
    again = witness.pages(area)
    subject.msync(area)
    after = witness.pages(area)
    assert (before.writable, before.dirty, before.flag("PG_dirty")) == (1, 1, 1)
    assert (clean.present, clean.writable, clean.dirty, clean.flag("PG_dirty")) == (1, 0, 0, 0)
    assert (again.writable, again.dirty, again.flag("PG_dirty")) == ((0, 1), (0, 1), (0, 1))
    assert (after.pfns, after.writable, after.dirty, after.flag("PG_dirty")) == (before.pfns, 0, 0, 0)


@claim(
    "msync.clean.2",
    PAGE,
    FLUSHES,
    reading="What another process has written through its own mapping, too.",
    sabotage=page_flag("PG_dirty", set=True, at=2, page=0),
)
def test_another_process_notices_too(disk: str, subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True, fd=subject.open(disk, "O_RDWR")).touch(0x41)
    with subject.fork() as child:
        child.must(child.store(area.start, byte=0x42))
        theirs = witness.pages(area, of=child)
        subject.msync(area)
        ours, clean = witness.pages(area), witness.pages(area, of=child)
        child.must(child.store(area.start, byte=0x43))
        again = witness.pages(area, of=child)
    assert (theirs.writable, theirs.dirty) == ((1, 0), (1, 0))
    assert (ours.writable, ours.dirty, ours.flag("PG_dirty")) == (0, 0, 0)
    assert (clean.writable, clean.dirty) == (0, 0)
    assert (again.writable[0], again.dirty[0], again.flag("PG_dirty")[0]) == (1, 1, 1)
