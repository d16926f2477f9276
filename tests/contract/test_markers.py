"""Markers in page tables: guard regions, and protection by userfaultfd of pages that are not there."""

from __future__ import annotations

import struct

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.needs import uffd_wp
from hostwalk.sabotage import entry_bit
from hostwalk.witness import NO_PFN, Witness

GUARD = ">=6.13"
UFFDIO_COPY_MODE_WP = 2  # include/uapi/linux/userfaultfd.h


@claim(
    "guard.install.1",
    "include/uapi/asm-generic/mman-common.h",
    "fatal signal on access to range",
    reading="Pages that were there are gone, those beside it stay.",
    kernels=GUARD,
    sabotage=entry_bit("present", set=False, at=2, page=0),
)
def test_a_guard_region_takes_the_place_of_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4).touch(0x47)
    before, rss = witness.pages(area), witness.mm(subject).rss_anon
    subject.madvise(area[1:3], "GUARD_INSTALL")
    after = witness.pages(area)
    assert after.swaps == ("", "marker", "marker", "")
    assert (after.present, after.pfns[0], after.pfns[3]) == ((1, 0, 0, 1), before.pfns[0], before.pfns[3])
    assert witness.mm(subject).rss_anon == rss - 2
    with subject.faults("SIGSEGV"):
        area[1:2].load()
    with subject.faults("SIGSEGV"):
        area[2:3].store()
    assert witness.pages(area).entries == after.entries


@claim(
    "guard.keep.1",
    "mm/memory.c",
    "Ordinary zapping should not remove guard PTE markers. Only do so if we should remove PTE markers in general.",
    code="zap_nonpresent_ptes()",
    kernels=GUARD,
    sabotage=entry_bit("present", set=True, at=2, page=1),
)
def test_zapping_leaves_guard_regions(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3).touch(0x47)
    subject.madvise(area[1:2], "GUARD_INSTALL")
    guarded = witness.pages(area).entries[1]
    subject.madvise(area, "DONTNEED")
    zapped = witness.pages(area)
    assert (zapped.pfns, zapped.swaps) == (NO_PFN, ("", "marker", ""))
    for prot in ("none", "r", "rw"):
        subject.mprotect(area, prot)
    assert witness.pages(area).entries == (0, guarded, 0)
    subject.madvise(area, "GUARD_REMOVE")
    area.touch()
    assert witness.pages(area).present == 1


@claim(
    "guard.gup.1",
    "include/uapi/asm-generic/mman-common.h",
    "fatal signal on access to range",
    reading="get_user_pages() takes what lies before it, and populating fails.",
    kernels=GUARD,
    sabotage=entry_bit("present", set=False, at=1, page=0),
)
def test_guard_regions_are_not_held(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3).touch(0x47)
    subject.madvise(area[1:2], "GUARD_INSTALL")
    before = witness.pages(area)
    assert before.present == (1, 0, 1)
    with subject.get_user_pages(area) as pins:
        assert (pins.returned, pins.pfns) == (1, before.pfns[:1])
    with subject.get_user_pages(area[1:], write=True) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
    with subject.refuses("EFAULT"):
        subject.madvise(area, "POPULATE_READ")
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.uffd_wp.4",
    "mm/mprotect.c",
    "For file-backed mem, we need to be able to wr-protect a none pte, because even if the pte is none, the page/swap "
    "cache could exist. Doing that by install a marker.",
    reading="The page that comes is protected.",
    kernels=">=5.19",
    sabotage=entry_bit("uffd_wp", set=False, at=2, page=0),
)
def test_pages_of_files_that_are_not_there_are_protected(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, shared=True, fd=subject.memfd(3))
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area[:2])
    assert witness.pages(area).swaps == ("marker", "marker", "")
    assert subject.load(area.start, subject.page_size, area.pages).fault is None
    after = witness.pages(area)
    assert (after.present, after.uffd_wp) == (1, (1, 1, 0))
    assert after.writable[:2] == 0


@claim(
    "uffd.copy.1",
    "ioctl_userfaultfd(2)",
    "UFFDIO_COPY_MODE_WP Copy the page with read-only permission. This allows the user to trap the next write to the "
    "page",
    reading="What is copied without that mode may be written.",
    sabotage=entry_bit("writable", set=True, page=0),
)
def test_a_page_that_is_copied_in_is_protected(subject: Subject, witness: Witness) -> None:
    area, source = subject.mmap(pages=2), subject.mmap(pages=1).touch(0x5A)
    fd = uffd_wp(subject, area)
    for page, mode in enumerate((UFFDIO_COPY_MODE_WP, 0)):
        payload = struct.pack("<5Q", area.address(page), source.start, area.page_size, mode, 0)
        subject.call("ioctl", fd, subject.agent.abi["UFFDIO_COPY"], subject.scratch, payload=payload)
    pages = witness.pages(area)
    assert (pages.present, pages.uffd_wp, pages.writable) == (1, (1, 0), (0, 1))
    assert (pages.exclusive, pages.mapcounts) == (1, 1)
    assert subject.peek(area.start, 1) + subject.peek(area.address(1), 1) == b"\x5a\x5a"
