"""mprotect(2): what it leaves as it was."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.needs import soft_dirty, uffd_wp
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, refcount
from hostwalk.witness import Witness

PAGE = "mprotect(2)"
ONLY_PROTECTION = "mprotect() changes the access protections for the calling process's memory pages."


@claim(
    "mprotect.keep.1",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: dirty and young survive.",
    sabotage=entry_bit("dirty", set=False, at=3),
)
def test_dirty_and_young_survive(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for prot in ("r", "none", "rw", "rx", "rwx"):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert after.pfns == before.pfns
        assert (after.dirty, after.young) == (before.dirty, before.young) == (1, 1)


@claim(
    "mprotect.keep.2",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: clean pages stay clean beside dirty ones.",
    sabotage=entry_bit("dirty", set=True, at=2, page=0),
)
def test_clean_stays_clean_beside_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True, fd=subject.memfd(2)).load()
    area[1:].store()
    for prot in ("r", "none", "rw"):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert after.dirty == (0, 1)
        assert after.flag("PG_dirty")[1] in (0, 1)
    subject.must(subject.store(area.start))
    assert witness.pages(area).dirty == 1


@claim(
    "mprotect.keep.3",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: old pages stay old.",
    sabotage=entry_bit("young", set=True, at=2, page=0),
)
def test_old_stays_old(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.clear_young()
    for prot in ("r", "none", "rw"):
        subject.mprotect(area, prot)
        assert witness.pages(area).young == 0
    subject.must(subject.load(area.start))
    assert witness.pages(area).young == (1, 0)


@claim(
    "mprotect.keep.4",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: soft-dirty survives.",
    sabotage=entry_bit("soft_dirty", set=True, at=2, page=0),
)
def test_soft_dirty_survives(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.clear_soft_dirty()
    area[1:].touch()
    for prot in ("r", "none", "rw"):
        subject.mprotect(area, prot)
        assert witness.pages(area).soft_dirty == (0, 1)


@claim(
    "mprotect.keep.5",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: userfaultfd's write protection survives.",
    sabotage=entry_bit("uffd_wp", set=False, at=2, page=0),
)
def test_userfault_write_protection_survives(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    fd = uffd_wp(subject, area)
    subject.uffd_write_protect(fd, area[:1])
    for prot in ("r", "none", "rw"):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert after.uffd_wp == (1, 0)
        assert after.writable[0] == 0


@claim(
    "mprotect.keep.6",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: special entries stay special.",
    sabotage=entry_bit("special", set=False, at=2),
)
def test_special_entries_stay_special(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("compound", order=1)
    area = subject.insert("remap_pfn_range", pages, prot="rw", shared=True).area
    for prot, writable in (("r", 0), ("none", 0), ("rw", 1)):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert after.pfns == pages.pfns
        assert (after.special, after.writable) == (1, writable)


@claim(
    "mprotect.counts.1",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: references, map counts and RSS stay.",
    sabotage=refcount(+1, at=2),
)
def test_counts_stay(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before, mm = witness.pages(area), witness.mm(subject)
    for prot in ("r", "none", "rw"):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
        assert witness.mm(subject).rss_anon == mm.rss_anon


@claim(
    "mprotect.counts.2",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: PROT_NONE pages stay resident and counted.",
    sabotage=mapcount(+1, at=2),
)
def test_prot_none_pages_stay_resident(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).touch()
    before, mm = witness.pages(area), witness.mm(subject)
    subject.mprotect(area, "none")
    after = witness.pages(area)
    assert (after.present, after.prot_none) == (1, 1)
    assert (after.pfns, after.mapcounts) == (before.pfns, before.mapcounts)
    assert witness.mm(subject).rss_shmem == mm.rss_shmem


@claim(
    "mprotect.content.1",
    PAGE,
    ONLY_PROTECTION,
    reading="Nothing but the protection: the same pages with the same contents.",
    sabotage=entry_pfn(+1, at=2),
)
def test_the_same_pages_stay_with_their_contents(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.poke(area.start, b"as it was")
    before = witness.contents(area)
    subject.mprotect(area, "none")
    subject.mprotect(area, "r")
    after = witness.contents(area)
    assert before[:9] == b"as it was"
    assert after == before
    assert subject.peek(area.start, 9) == b"as it was"
