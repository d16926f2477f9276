"""fork(2): the memory of parent and child."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Subject
from hostwalk.needs import huge_page
from hostwalk.sabotage import committed, entry_bit, entry_pfn, mapcount, mm_counter, refcount, vm_flag
from hostwalk.target import Arch
from hostwalk.witness import NO_PFN, Witness

PAGE = "fork(2)"
SAME = "At the time of fork() both memory spaces have the same content."
SEPARATE = (
    "Memory writes, file mappings (mmap(2)), and unmappings (munmap(2)) performed by one of the processes do not "
    "affect the other."
)
COW = "Under Linux, fork() is implemented using copy-on-write pages."
REPLICATED = "The entire virtual address space of the parent is replicated in the child."
X86_WRITE_AND_DIRTY = 1 << 1 | 1 << 6


@claim(
    "fork.cow.1",
    PAGE,
    COW,
    reading="Parent and child map the same pages, and neither may write.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_both_sides_are_write_protected(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3).touch()
    before = witness.pages(area)
    with subject.fork() as child:
        ours, theirs = witness.pages(area), witness.pages(area, of=child)
        assert ours.pfns == theirs.pfns == before.pfns
        assert (ours.writable, theirs.writable) == (0, 0)
        assert ours.mapcounts == before.mapcounts + 1
        assert ours.refcounts == before.refcounts + 1
        assert ours.exclusive == 0


@claim(
    "fork.cow.2",
    PAGE,
    COW,
    reading="On both sides of the end of a page table.",
    sabotage=entry_bit("writable", set=True, at=3),
)
def test_the_child_s_entries_are_write_protected(subject: Subject, witness: Witness) -> None:
    area = subject.across_tables(pages=8).touch()
    before = witness.pages(area)
    with subject.fork() as child:
        ours, theirs = witness.pages(area), witness.pages(area, of=child)
        assert theirs.pfns == before.pfns
        assert (ours.writable, theirs.writable) == (0, 0)


@claim(
    "fork.write.1",
    PAGE,
    SEPARATE,
    reading="A write of the child.",
    sabotage=entry_pfn(+1, at=2, page=1),
)
def test_a_write_of_the_child_is_its_own(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x10)
    before = witness.pages(area)
    with subject.fork() as child:
        child.must(child.store(area.start, byte=0x20))
        ours, theirs = witness.pages(area), witness.pages(area, of=child)
        assert ours.pfns == before.pfns
        assert theirs.pfns[0] != ours.pfns[0]
        assert theirs.pfns[1] == ours.pfns[1]
        assert theirs.writable == (1, 0)
        assert subject.peek(area.start, 1) == b"\x10"
        assert child.peek(area.start, 1) == b"\x20"


@claim(
    "fork.write.2",
    PAGE,
    SEPARATE,
    reading="A write of the parent.",
    sabotage=refcount(+1, at=3),
)
def test_a_write_of_the_parent_is_its_own(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(0x10)
    old = witness.pages(area)
    with subject.fork() as child:
        area.store(0x30)
        ours, theirs = witness.pages(area), witness.pages(area, of=child)
        assert theirs.pfns == old.pfns
        assert all(new != before for new, before in zip(ours.pfns, old.pfns, strict=True))
        assert (ours.writable, ours.exclusive) == (1, 1)
        assert (theirs.refcounts, theirs.mapcounts) == (1, 1)
        assert child.peek(area.start, 1) == b"\x10"


@claim(
    "fork.reuse.1",
    "mm/memory.c",
    "The last process that has a page takes it back on its next write, without a copy.",
    code="wp_can_reuse_anon_folio()",
    sabotage=entry_pfn(+1, at=2),
)
def test_the_last_owner_keeps_the_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch(1)
    before = witness.pages(area)
    with subject.fork():
        pass
    area.store(2)
    after = witness.pages(area)
    assert after.pfns == before.pfns
    assert (after.writable, after.exclusive, after.mapcounts, after.refcounts) == (1, 1, 1, 1)


@claim(
    "fork.keep.1",
    PAGE,
    SAME,
    reading="Dirty pages are dirty on both sides.",
    sabotage=entry_bit("dirty", set=False, at=1),
)
def test_dirty_pages_stay_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2).touch()
    with subject.fork() as child:
        ours, theirs = witness.pages(area), witness.pages(area, of=child)
        assert (ours.dirty, ours.young) == (1, 1)
        assert theirs.dirty == 1


@claim(
    "fork.saved_dirty.1",
    "arch/x86/include/asm/pgtable.h",
    "Avoid accidentally creating shadow stack PTEs (Write=0,Dirty=1).",
    reading="ptep_set_wrprotect(), at fork: the dirty bit of what becomes read-only is kept in SavedDirty.",
    kernels=">=6.6",
    sabotage=entry_bit("dirty", set=True, at=2),
)
def test_a_write_protected_page_does_not_become_a_shadow_stack(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.X86_64:
        not_applicable("only x86-64 has shadow stacks in its page tables")
    area = subject.mmap(pages=2).touch()
    with subject.fork() as child:
        for seen in (witness.pages(area), witness.pages(area, of=child)):
            assert all(entry & X86_WRITE_AND_DIRTY == 0 for entry in seen.entries)
            assert seen.dirty == 1


@claim(
    "fork.shared.1",
    "mmap(2)",
    "Memory mapped by mmap() is preserved across fork(2), with the same attributes.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_shared_memory_stays_writable(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True).touch()
    before = witness.pages(area)
    with subject.fork() as child:
        child.must(child.load(area.start, stride=area.page_size, count=area.pages))
        ours, theirs = witness.pages(area), witness.pages(area, of=child)
        assert (ours.writable, ours.pfns) == (1, before.pfns)
        assert theirs.pfns == before.pfns
        assert ours.mapcounts == before.mapcounts + 1


@claim(
    "fork.vmas.1",
    PAGE,
    REPLICATED,
    reading="Every mapping, with its range and flags.",
    sabotage=vm_flag("VM_WRITE", at=2),
)
def test_every_mapping_is_replicated(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4).touch()
    subject.mprotect(area[1:2], "r")
    subject.mprotect(area[2:3], "rx")
    with subject.fork() as child:
        for page in range(4):
            assert witness.vma(area[page]) == witness.vma(area[page], of=child)


@claim(
    "fork.mm.1",
    PAGE,
    REPLICATED,
    reading="What is resident is counted in the child too.",
    sabotage=mm_counter("locked_vm", +1, at=2),
)
def test_what_is_resident_is_counted_in_the_child(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=5).touch()
    before = witness.mm(subject)
    with subject.fork() as child:
        theirs = witness.mm(child)
        mapped = witness.pages(area, of=child)
        assert mapped.present == 1
        assert theirs.locked_vm == 0
        assert theirs.rss_anon >= 5
        assert witness.mm(subject).rss_anon >= before.rss_anon
        child.munmap((area.start, area.length))
        assert witness.mm(child).rss_anon == theirs.rss_anon - 5


@claim(
    "fork.unmap.1",
    PAGE,
    SEPARATE,
    reading="An unmapping of the child.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_an_unmapping_of_the_child_is_its_own(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3).touch()
    before = witness.pages(area)
    with subject.fork() as child:
        child.munmap((area.start, area.length))
        ours = witness.pages(area)
        assert (ours.pfns, ours.mapcounts, ours.refcounts) == (
            before.pfns,
            before.mapcounts,
            before.refcounts,
        )
        assert witness.pages(area, of=child).pfns == NO_PFN
    area.touch().load()


@claim(
    "fork.dontfork.1",
    PAGE,
    "Memory mappings that have been marked with the madvise(2) MADV_DONTFORK flag are not inherited across a fork().",
    sabotage=entry_bit("present", set=True, at=2),
)
def test_dontfork_is_not_inherited(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=3).touch()
    subject.madvise(area[1:2], "DONTFORK")
    before = witness.pages(area)
    with subject.fork() as child:
        theirs = witness.pages(area, of=child)
        assert theirs.present == (1, 0, 1)
        assert not witness.vma(area[1], of=child).mapped
        ours = witness.pages(area)
        assert ours.writable == (0, 1, 0)
        assert ours.entries[1] == before.entries[1]
        with child.faults("SIGSEGV", "SEGV_MAPERR"):
            child.load(area.address(1))


@claim(
    "fork.wipe.1",
    PAGE,
    "Memory in address ranges that have been marked with the madvise(2) MADV_WIPEONFORK flag is zeroed in the "
    "child after a fork(). (The MADV_WIPEONFORK setting remains in place for those address ranges in the child.)",
    sabotage=entry_bit("present", set=True, at=1, page=1),
)
def test_wipeonfork_is_empty_in_the_child(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=3).touch(0x66)
    subject.madvise(area[1:2], "WIPEONFORK")
    with subject.fork() as child:
        assert witness.pages(area, of=child).present == (1, 0, 1)
        assert "VM_WIPEONFORK" in witness.vma(area[1], of=child).flags
        assert child.peek(area.address(1), 1) == b"\0"
        assert child.peek(area.address(2), 1) == b"\x66"
        assert witness.pages(area).writable == (0, 1, 0)
        assert subject.peek(area.address(1), 1) == b"\x66"


@claim(
    "fork.none.1",
    PAGE,
    REPLICATED,
    reading="What nobody may access is out of reach in the child too, and private.",
    sabotage=entry_bit("user", set=True, at=1),
)
def test_prot_none_stays_out_of_reach_in_the_child(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=2).touch(0x44)
    subject.mprotect(area, "none")
    with subject.fork() as child:
        theirs = witness.pages(area, of=child)
        assert (theirs.prot_none, theirs.user) == (1, 0)
        with child.faults("SIGSEGV", "SEGV_ACCERR"):
            child.load(area.start)
        child.mprotect((area.start, area.length), "rw")
        child.must(child.store(area.start, byte=0x55))
        subject.mprotect(area, "rw")
        assert subject.peek(area.start, 1) == b"\x44"
        assert child.peek(area.address(1), 1) == b"\x44"


@claim(
    "fork.charge.1",
    "kernel/fork.c",
    "Private writable memory is charged for the child too.",
    code="dup_mmap()",
    sabotage=committed(-1, at=2),
)
def test_the_child_is_charged(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=64).touch()
    before = witness.committed().pages
    with subject.fork() as child:
        charged = witness.committed().pages - before
        account = (
            sum(vma.end - vma.start for vma in witness.vmas(child).vmas if "VM_ACCOUNT" in vma.names)
            // area.page_size
        )
        assert charged == account >= 64
    assert witness.committed().pages == before


@claim(
    "fork.end.1",
    "mm/memory.c",
    "The end of a child gives back every reference and map count that fork() took.",
    code="zap_pte_range()",
    sabotage=mapcount(+1, at=2),
)
def test_the_end_of_a_child_leaves_the_counts(subject: Subject, witness: Witness) -> None:
    private, shared = subject.mmap(pages=2).touch(), subject.mmap(pages=2, shared=True).touch()
    before = [witness.pages(area) for area in (private, shared)]
    with subject.fork() as child:
        child.must(child.store(private.start))
    after = [witness.pages(area) for area in (private, shared)]
    for old, new in zip(before, after, strict=True):
        assert (new.pfns, new.refcounts, new.mapcounts) == (old.pfns, old.refcounts, old.mapcounts)


@claim(
    "fork.thp.1",
    PAGE,
    COW,
    reading="A huge page is shared until it is written.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_a_huge_page_is_shared_until_it_is_written(subject: Subject, witness: Witness) -> None:
    area = huge_page(subject, witness)
    part = area[:4].touch(0x21)
    with subject.fork() as child:
        ours, theirs = witness.pages(part), witness.pages(part, of=child)
        assert ours.pfns == theirs.pfns
        assert (ours.writable, theirs.writable) == (0, 0)
        child.must(child.store(part.start, byte=0x22))
        assert subject.peek(part.start, 1) == b"\x21"
        assert child.peek(part.address(1), 1) == b"\x21"
        assert witness.pages(part).pfns == ours.pfns
