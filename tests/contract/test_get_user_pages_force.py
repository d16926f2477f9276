"""get_user_pages with FOLL_FORCE where a write fault is needed all the same."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Area, Subject
from hostwalk.needs import soft_dirty, uffd_wp
from hostwalk.sabotage import entry_bit, refcount
from hostwalk.witness import Witness

GUP = "mm/gup.c"
NEEDED = "... and a write-fault isn't required for other reasons."


@claim(
    "gup.force.7",
    GUP,
    NEEDED,
    reading="A page whose next write is to be noticed is soft-dirty then; its entry stays read-only.",
    code="can_follow_write_pte()",
    sabotage=entry_bit("soft_dirty", set=False, at=2, page=0),
)
def test_a_forced_write_is_noticed(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area = subject.mmap(pages=2).touch()
    subject.mprotect(area, "r")
    subject.clear_soft_dirty()
    before = witness.pages(area)
    assert before.soft_dirty == 0
    with subject.get_user_pages(area[:1], write=True, force=True) as pins:
        after = witness.pages(area)
        assert (after.pfns[:1], after.pfns) == (pins.pfns, before.pfns)
        assert (after.soft_dirty, after.writable) == ((1, 0), 0)


@claim(
    "gup.force.8",
    GUP,
    NEEDED,
    reading="A page that userfaultfd protects is not written: nobody can be asked, and nothing is held.",
    code="can_follow_write_pte()",
    sabotage=refcount(+1, at=2, page=0),
)
def test_force_does_not_get_past_userfaultfd(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    fd = uffd_wp(subject, area)
    subject.mprotect(area, "r")
    subject.uffd_write_protect(fd, area[:1])
    before = witness.pages(area)
    with subject.get_user_pages(area[:1], write=True, force=True) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert (after.entries, after.refcounts) == (before.entries, before.refcounts)
        assert after.uffd_wp == (1, 0)


def unshared(subject: Subject) -> Area:
    """Return two pages of which a pin for reading has made the first exclusive again, after a child has gone."""
    area = subject.mmap(pages=2).touch(0x2E)
    with subject.fork():
        pass
    with subject.pin_user_pages(area[:1]):
        pass
    return area


@claim(
    "gup.force.9",
    GUP,
    "... or already writable ones that just need to take a write fault",
    reading="A read-only entry of a writable mapping is writable and dirty afterwards, as after a store.",
    code="can_follow_write_pte(), can_follow_write_common()",
    sabotage=entry_bit("writable", set=False, at=2, page=0),
)
def test_force_takes_the_write_fault_of_a_writable_mapping(subject: Subject, witness: Witness) -> None:
    area = unshared(subject)
    before = witness.pages(area)
    assert (before.exclusive[0], before.writable) == (1, 0)
    with subject.get_user_pages(area[:1], write=True, force=True) as pins:
        after = witness.pages(area)
        assert (after.pfns[:1], after.pfns) == (pins.pfns, before.pfns)
        assert (after.writable, after.dirty[0]) == ((1, 0), 1)


@claim(
    "pin.unshare.4",
    "mm/memory.c",
    "GUP wants to take a R/O pin on a possibly shared anonymous page",
    reading="A page that nobody else has any more is exclusive then, and neither copied nor made writable.",
    code="do_wp_page()",
    sabotage=entry_bit("writable", set=True, at=2, page=0),
)
def test_a_page_that_is_no_longer_shared_is_pinned_as_it_is(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x2E)
    with subject.fork():
        pass
    before = witness.pages(area)
    with subject.pin_user_pages(area[:1]) as pins:
        after = witness.pages(area)
        assert (after.pfns[:1], after.entries) == (pins.pfns, before.entries)
        assert (after.exclusive, after.writable) == ((1, 0), 0)


@claim(
    "pin.uffd_wp.1",
    "mm/memory.c",
    "A page that is unshared for a pin stays protected by userfaultfd: nobody has written it.",
    code="wp_page_copy(): pte_uffd_wp(), pte_uffd()",
    sabotage=entry_bit("uffd_wp", set=False, at=1, page=0),
)
def test_unsharing_keeps_the_protection_of_userfaultfd(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area[:1])
    with subject.fork(), subject.pin_user_pages(area) as pins:
        mine = witness.pages(area)
        assert mine.pfns == pins.pfns
        assert (mine.exclusive, mine.uffd_wp, mine.writable) == (1, (1, 0), 0)


@claim(
    "gup.force.10",
    GUP,
    "FOLL_FORCE can write to even unwritable PTEs in COW mappings.",
    reading="A page that is not there yet comes as the process's own, and read-only as its mapping is.",
    sabotage=entry_bit("writable", set=True, page=0),
)
def test_a_forced_write_brings_a_page_that_stays_read_only(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="r")
    area[1:].load()
    with subject.get_user_pages(area, write=True, force=True) as pins:
        after = witness.pages(area)
        assert after.pfns == pins.pfns
        assert (after.anon, after.exclusive, after.writable) == (1, 1, 0)


@claim(
    "gup.force.11",
    "mm/memory.c",
    "A page that nobody else has any more is dirty when it is written by force where it is, though it may not be "
    "written.",
    code="do_wp_page(), wp_page_reuse(): pte_mkdirty()",
    sabotage=entry_bit("dirty", set=False, at=2),
)
def test_a_forced_write_leaves_a_dirty_entry(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    subject.madvise(area, "FREE")
    subject.mprotect(area, "r")
    with subject.fork():
        pass
    subject.settle()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True, force=True) as pins:
        after = witness.pages(area)
        assert (before.dirty, before.writable, before.exclusive) == (0, 0, 0)
        assert (after.pfns, before.pfns) == (pins.pfns, pins.pfns)
        assert (after.dirty, after.writable, after.exclusive) == (1, 0, 1)
