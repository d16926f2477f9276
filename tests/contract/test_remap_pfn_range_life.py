"""What becomes of remapped memory: unmapped, moved, protected, copied by fork and by a write, never held."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Area, Pages, Subject, SyscallFailed
from hostwalk.sabotage import entry_bit, entry_pfn, mm_counter, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "remap_pfn_range(9)"
NO_PAGE = 'tells the core MM that the base pages are just raw PFN mappings, and do not have a "struct page"'


def remapped(subject: Subject, order: int = 1, *, shared: bool = True) -> tuple[Pages, Area]:
    """Map 2^order pages of the exerciser's; return both."""
    pages = subject.alloc_pages("split", order=order)
    return pages, subject.insert("remap_pfn_range", pages, shared=shared).area


@claim(
    "remap.munmap.1",
    "mm/memory.c",
    "VM_PFNMAP tells the core MM that the base pages are just raw PFN mappings, and do not have a "
    '"struct page" associated with them.',
    reading="munmap() removes the entries and frees no page.",
    sabotage=entry_pfn(+1, at=1),
)
def test_munmap_frees_no_page(subject: Subject, witness: Witness) -> None:
    pages, area = remapped(subject)
    assert witness.pages(area).pfns == pages.pfns
    area.store()
    subject.munmap(area)
    assert witness.pages(area).pfns == NO_PFN
    after = witness.frames(pages.pfns)
    assert (after.refcounts, after.mapcounts, after.flag("PG_dirty")) == (1, 0, 0)


@claim(
    "remap.munmap.2",
    "munmap(2)",
    "All pages containing a part of the indicated range are unmapped",
    reading="The rest of a remapped range keeps its entries.",
    sabotage=entry_pfn(+1, at=2),
)
def test_munmap_of_a_part_keeps_the_rest(subject: Subject, witness: Witness) -> None:
    pages, area = remapped(subject, order=2)
    before = witness.pages(area)
    subject.munmap(area[1:3])
    assert witness.pages(area).entries == (before.entries[0], 0, 0, before.entries[3])
    assert witness.frames(pages.pfns).refcounts == 1
    for part in (area[0], area[3]):
        assert witness.vma(part).flags >= {"VM_PFNMAP", "VM_IO"}


@claim(
    "remap.data.1",
    PAGE,
    "remap kernel memory to userspace",
    reading="What a user stores is in that memory.",
    sabotage=entry_bit("dirty", set=False, page=1),
)
def test_what_a_user_stores_is_in_the_memory(subject: Subject, witness: Witness) -> None:
    pages, area = remapped(subject)
    other = subject.insert("remap_pfn_range", pages).area
    area[1].store(0x99)
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.dirty) == (pages.pfns, (0, 1))
    assert subject.peek(other.address(1), 1) == b"\x99"


@claim(
    "remap.cow.3",
    "mm/memory.c",
    "There's a horrible special case to handle copy-on-write behaviour that some programs depend on.",
    reading="A store copies the page, and the memory stays as it was.",
    sabotage=entry_bit("special", set=True, at=1, page=0),
)
def test_a_store_to_a_private_mapping_copies(subject: Subject, witness: Witness) -> None:
    pages, area = remapped(subject, shared=False)
    original = subject.insert("remap_pfn_range", pages).area.store(6)
    rss = witness.mm(subject).rss_anon
    subject.must(subject.store(area.address(0, 1), byte=7))
    after = witness.pages(area)
    assert (after.anon, after.special, after.writable) == ((1, 0), (0, 1), (1, 0))
    assert after.pfns[1] == pages.pfns[1]
    assert after.pfns[0] not in pages.pfns
    assert witness.contents(area[0])[:2] == b"\x06\x07"
    assert witness.contents(original[0])[:2] == b"\x06\x00"
    assert witness.mm(subject).rss_anon == rss + 1
    subject.munmap(area)
    assert witness.frames(pages.pfns).refcounts == 1
    assert witness.mm(subject).rss_anon == rss


@claim(
    "remap.fork.1",
    "fork(2)",
    "The child process is an exact duplicate of the parent process",
    reading="It maps the same memory, counted by nobody.",
    sabotage=refcount(+1, at=2),
)
def test_fork_copies_the_entries(subject: Subject, witness: Witness) -> None:
    pages, area = remapped(subject)
    before, rss = witness.pages(area), witness.mm(subject).rss_file
    with subject.fork() as child:
        copied = witness.pages(area, of=child)
        assert (copied.pfns, copied.special, copied.writable) == (before.pfns, 1, 1)
        assert (copied.refcounts, copied.mapcounts) == (1, 0)
        assert witness.vma(area, of=child).flags == witness.vma(area).flags
        child.store(area.start, byte=0x21)
        assert subject.peek(area.start, 1) == b"\x21"
    assert witness.frames(pages.pfns).refcounts == 1
    assert witness.mm(subject).rss_file == rss


@claim(
    "remap.fork.2",
    "fork(2)",
    "The child process is an exact duplicate of the parent process",
    reading="A private mapping too, none of it writable.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_fork_of_a_private_mapping(subject: Subject, witness: Witness) -> None:
    pages, area = remapped(subject, shared=False)
    area[1].store(1)
    with subject.fork() as child:
        own, copied = witness.pages(area), witness.pages(area, of=child)
        assert (own.writable, copied.writable) == (0, 0)
        assert (own.pfns, own.pfns[0]) == (copied.pfns, pages.pfns[0])
        child.store(area.start, byte=2)
        assert witness.pages(area).pfns == own.pfns
        assert witness.pages(area, of=child).anon == (1, 1)


@claim(
    "remap.fork.3",
    "fork(2)",
    "The child process is an exact duplicate of the parent process",
    reading="Of a private mapping whose first page was written, too.",
    sabotage=entry_pfn(+1, at=1, page=1),
    departs=departure(
        "fails on x86-64 with ENOMEM: the memory type of the mapping is looked up at its first page, a copy by now",
        cites="get_pat_info() in arch/x86/mm/pat/memtype.c of 6.1 and 6.12: we're out of luck for now and have to fail "
        'fork(); gone in 6.16 with "x86/mm/pat: remove old pfnmap tracking interface"',
        shows="fork failed with ENOMEM",
        kernels="<6.16",
    ),
)
def test_fork_of_a_private_mapping_with_a_written_first_page(subject: Subject, witness: Witness) -> None:
    pages, area = remapped(subject, shared=False)
    area[0].store(1)
    try:
        child = subject.fork()
    except SyscallFailed as failed:
        raise AssertionError(f"fork failed with {failed.errno}") from failed
    with child:
        copied = witness.pages(area, of=child)
        assert (copied.anon, copied.pfns[1]) == ((1, 0), pages.pfns[1])


@claim(
    "remap.gup.1",
    "mm/memory.c",
    "VM_PFNMAP tells the core MM that the base pages are just raw PFN mappings, and do not have a "
    '"struct page" associated with them.',
    reading="get_user_pages() and pin_user_pages() are -EFAULT.",
    sabotage=refcount(+1, at=1),
)
def test_get_user_pages_refuses(subject: Subject, witness: Witness) -> None:
    _, area = remapped(subject)
    for call in (subject.get_user_pages, subject.get_user_pages_fast, subject.pin_user_pages):
        with subject.refuses("EFAULT"):
            call(area, write=True)
    mapped = witness.pages(area)
    assert (mapped.refcounts, mapped.dirty, mapped.special) == (1, 0, 1)


@claim(
    "remap.mremap.1",
    "mm/memory.c",
    "VM_DONTEXPAND Disable vma merging and expanding with mremap().",
    reading="It is -EFAULT, and the mapping stays as it was.",
    sabotage=entry_pfn(+1, at=2),
)
def test_mremap_cannot_expand(subject: Subject, witness: Witness) -> None:
    _, area = remapped(subject)
    before = witness.pages(area)
    with subject.refuses("EFAULT"):
        subject.mremap(area, 3)
    assert witness.pages(area).entries == before.entries


@claim(
    "remap.mremap.2",
    "mremap(2)",
    "mremap() expands (or shrinks) an existing memory mapping, potentially moving it at the same time",
    reading="The entries go along, and the memory is as uncounted as before.",
    sabotage=entry_bit("special", set=False, at=2),
)
def test_mremap_moves_the_entries(subject: Subject, witness: Witness) -> None:
    (_, area), room = remapped(subject), subject.mmap(2, "none")
    area[0].store()
    before = witness.pages(area)
    moved = subject.mremap(area, 2, fixed_at=room.start)
    after = witness.pages(moved)
    assert (after.pfns, after.special, after.dirty) == (before.pfns, 1, (1, 0))
    assert (after.refcounts, after.mapcounts) == (1, 0)
    assert witness.pages(area).entries == 0
    assert witness.vma(moved).flags >= {"VM_PFNMAP", "VM_IO", "VM_DONTEXPAND"}


@claim(
    "remap.mremap.3",
    "mremap(2)",
    "mremap() expands (or shrinks) an existing memory mapping",
    reading="What is cut off has no entry left.",
    sabotage=entry_bit("present", set=True, at=2),
)
def test_mremap_shrinks(subject: Subject, witness: Witness) -> None:
    pages, area = remapped(subject, order=2)
    before = witness.pages(area)
    subject.mremap(area, 1)
    assert witness.pages(area).entries == (before.entries[0], 0, 0, 0)
    assert witness.frames(pages.pfns).refcounts == 1


@claim(
    "remap.mprotect.1",
    "mprotect(2)",
    "changes the access protections for the calling process's memory pages",
    reading="Remapped memory stays special.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_mprotect_changes_the_entries(subject: Subject, witness: Witness) -> None:
    _, area = remapped(subject)
    before = witness.pages(area)
    subject.mprotect(area, "r")
    closed = witness.pages(area)
    assert (closed.pfns, closed.writable, closed.special) == (before.pfns, 0, 1)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area.store()
    subject.mprotect(area, "rw")
    opened = witness.pages(area)
    assert (opened.pfns, opened.writable, opened.special) == (before.pfns, 1, 1)
    assert (closed.memory_types, opened.memory_types) == (before.memory_types, before.memory_types)


@claim(
    "remap.mprotect.2",
    "mprotect(2)",
    "PROT_NONE: The memory cannot be accessed at all.",
    reading="The entries keep their pfns and stay special.",
    sabotage=entry_bit("special", set=False, at=2),
)
def test_mprotect_none_keeps_the_pfns(subject: Subject, witness: Witness) -> None:
    _, area = remapped(subject)
    before = witness.pages(area)
    subject.mprotect(area, "none")
    closed = witness.pages(area)
    assert (closed.pfns, closed.prot_none, closed.special) == (before.pfns, 1, 1)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area.load()
    subject.mprotect(area, "rw")
    area.store()
    assert witness.pages(area).pfns == before.pfns


@claim(
    "remap.madvise.1",
    "madvise(2)",
    "MADV_DONTNEED cannot be applied to locked pages, or VM_PFNMAP pages.",
    reading="It is EINVAL, and the entries stay.",
    sabotage=entry_pfn(+1, at=2),
)
def test_dontneed_is_einval(subject: Subject, witness: Witness) -> None:
    _, area = remapped(subject)
    before = witness.pages(area)
    with subject.refuses("EINVAL"):
        subject.madvise(area, "DONTNEED")
    assert witness.pages(area).entries == before.entries


@claim(
    "remap.mlock.1",
    "mm/mlock.c",
    "mlock() skips mappings that the kernel treats specially: it succeeds, locks nothing, and fills "
    "nothing in.",
    code="mlock_fixup()",
    sabotage=vm_flag("VM_LOCKED"),
)
def test_mlock_does_not_lock(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert("remap_pfn_range", pages, map_pages=2).area
    before = witness.mm(subject).locked_vm
    subject.mlock(area)
    assert not witness.vma(area).flags & {"VM_LOCKED", "VM_LOCKONFAULT"}
    assert witness.mm(subject).locked_vm == before
    assert witness.pages(area).pfns == (*pages.pfns, NO_PFN)


@claim(
    "remap.exit.1",
    "_exit(2)",
    "terminates the calling process",
    reading="Remapped memory is as it was, and others go on mapping it.",
    sabotage=mm_counter("map_count", +1, at=2),
)
def test_a_process_that_ends_takes_nothing_along(subject: Subject, witness: Witness) -> None:
    with subject.agent.spawn() as owner:
        pages, area = remapped(owner, shared=False)
        area[1].store()
        with owner.fork() as child:
            before = witness.mm(child)
            owner.reap()
            assert witness.mm(child) == before
            kept = witness.pages(area, of=child)
            assert (kept.pfns[0], kept.special, kept.anon[1]) == (pages.pfns[0], (1, 0), 1)
            assert witness.frames(pages.pfns).refcounts == 1
