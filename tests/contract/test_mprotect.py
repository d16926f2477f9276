"""mprotect(2): which pages change, how, and what an error leaves behind."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, refcount, vm_flag
from hostwalk.witness import Witness

PAGE = "mprotect(2)"


@claim(
    "mprotect.deny.1",
    PAGE,
    "After PROT_READ no entry grants a write, and a write is SIGSEGV.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_read_only_takes_the_write_away(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    assert witness.pages(area).writable == 1
    subject.mprotect(area, "r")
    assert witness.pages(area).writable == 0
    assert "VM_WRITE" not in witness.vma(area).flags
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.store(area.start)


@claim(
    "mprotect.none.1",
    PAGE,
    "PROT_NONE: the memory cannot be accessed at all, but stays resident.",
    sabotage=entry_bit("user", set=True, at=2),
)
def test_prot_none_keeps_pages_out_of_reach(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    subject.mprotect(area, "none")
    after = witness.pages(area)
    assert after.pfns == before.pfns
    assert (after.prot_none, after.user, after.writable) == (1, 0, 0)
    assert after.refcounts == before.refcounts
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.load(area.start)


@claim(
    "mprotect.round.1",
    PAGE,
    "All pages containing any part of [addr, addr+len-1] change, and no other.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_whole_pages_change_and_no_neighbour(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    subject.mprotect((area[1:].start, area.page_size + 1), "r")
    after = witness.pages(area)
    assert after.writable == (1, 0, 0, 1)
    assert after.entries[0] == before.entries[0]
    assert after.entries[3] == before.entries[3]


@claim(
    "mprotect.einval.1",
    PAGE,
    "EINVAL: addr is not a multiple of the page size.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_an_unaligned_address_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.refuses("EINVAL"):
        subject.mprotect((area.start + 1, area.page_size), "r")
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.len0.1",
    PAGE,
    "len 0 succeeds and changes nothing.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_length_zero_changes_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    subject.mprotect((area.start, 0), "none")
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.enomem.1",
    PAGE,
    "ENOMEM: the range holds an unmapped page; pages before it have been changed.",
    sabotage=entry_bit("writable", set=True, at=2, page=0),
)
def test_a_hole_is_enomem_after_the_pages_before_it(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=5, prot="rw").touch()
    subject.munmap(area[2:3])
    witness.pages(area)
    with subject.refuses("ENOMEM"):
        subject.mprotect(area, "r")
    after = witness.pages(area)
    assert after.present == (1, 1, 0, 1, 1)
    assert after.writable == (0, 0, 0, 1, 1)
    assert "VM_WRITE" not in witness.vma(area[:2]).flags
    assert "VM_WRITE" in witness.vma(area[3:]).flags


@claim(
    "mprotect.eacces.1",
    PAGE,
    "EACCES: the memory cannot be given the access (a shared mapping of a read-only file).",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_write_to_a_read_only_file_is_eacces(subject: Subject, witness: Witness) -> None:
    read_only = subject.open(f"/proc/self/fd/{subject.memfd(1)}", "O_RDONLY")
    area = subject.mmap(pages=1, prot="r", shared=True, fd=read_only).load()
    before = witness.pages(area)
    with subject.refuses("EACCES"):
        subject.mprotect(area, "rw")
    after = witness.pages(area)
    assert after.entries == before.entries
    assert witness.vma(area).flags.isdisjoint({"VM_WRITE", "VM_SHARED", "VM_MAYWRITE"})


@claim(
    "mprotect.private.1",
    PAGE,
    "A private page becomes writable at once only if it is this process's own: the zero page and file pages do not.",
    sabotage=entry_bit("writable", set=True, at=4),
)
def test_only_exclusive_pages_become_writable(subject: Subject, witness: Witness) -> None:
    zero = subject.mmap(pages=1, prot="r").load()
    file = subject.mmap(pages=1, prot="r", fd=subject.memfd(1)).load()
    own = subject.mmap(pages=1, prot="rw").touch()
    subject.mprotect(own, "r")
    before = [witness.pages(area).pfns for area in (zero, file, own)]
    for area in (zero, file, own):
        subject.mprotect(area, "rw")
    after = [witness.pages(area) for area in (zero, file, own)]
    assert [reading.pfns for reading in after] == before
    assert [reading.writable for reading in after] == [(0,), (0,), (1,)]


@claim(
    "mprotect.shared.1",
    PAGE,
    "A shared mapping becomes writable at once.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_a_shared_mapping_becomes_writable(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="r", shared=True, fd=subject.memfd(2)).load()
    before = witness.pages(area)
    assert before.writable == 0
    subject.mprotect(area, "rw")
    after = witness.pages(area)
    assert after.writable == 1
    assert after.pfns == before.pfns


@claim(
    "mprotect.exec.1",
    PAGE,
    "PROT_EXEC can be granted and taken away.",
    sabotage=entry_bit("executable", set=True, at=1),
)
def test_execute_is_granted_and_taken(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    assert witness.pages(area).executable == 0
    subject.mprotect(area, "rx")
    assert witness.pages(area).executable == 1
    subject.mprotect(area, "r")
    assert witness.pages(area).executable == 0


@claim(
    "mprotect.keep.1",
    PAGE,
    "Only the protection changes: page, dirty and accessed state survive a round trip.",
    sabotage=entry_bit("dirty", set=False, at=3),
)
def test_dirty_and_young_survive(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for prot in ("r", "none", "rw"):
        subject.mprotect(area, prot)
        after = witness.pages(area)
        assert after.pfns == before.pfns
        assert (after.dirty, after.young) == (before.dirty, before.young) == (1, 1)


@claim("mprotect.counts.1", PAGE, "No reference or map count changes.", sabotage=refcount(+1, at=2))
def test_counts_stay(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before, mm = witness.pages(area), witness.mm(subject)
    subject.mprotect(area, "r")
    after = witness.pages(area)
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.mm(subject).rss_anon == mm.rss_anon


@claim(
    "mprotect.vma.1",
    PAGE,
    "The mapping is split where the protection changes, and merged when it is equal again.",
    sabotage=vm_flag("VM_WRITE", at=2),
)
def test_the_mapping_splits_and_merges(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    count = witness.mm(subject).map_count
    subject.mprotect(area[1:2], "r")
    assert witness.mm(subject).map_count == count + 2
    middle = witness.vma(area[1:2])
    assert (middle.start, middle.end) == (area[1:2].start, area[1:2].end)
    assert "VM_WRITE" in witness.vma(area[2:]).flags
    subject.mprotect(area[1:2], "rw")
    assert witness.mm(subject).map_count == count


@claim(
    "mprotect.content.1",
    PAGE,
    "The contents of the memory are untouched.",
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
