"""mmap(2) of files: shared, private, short ones, and MAP_FIXED."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, refcount, vm_edge, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "mmap(2)"
SHARED = (
    "MAP_SHARED: Updates to the mapping are visible to other processes mapping the same region, and (in the case of "
    "file-backed mappings) are carried through to the underlying file."
)
PRIVATE = (
    "MAP_PRIVATE: Create a private copy-on-write mapping. Updates to the mapping are not visible to other processes "
    "mapping the same file, and are not carried through to the underlying file."
)
FIXED = (
    "MAP_FIXED: If the memory region specified by addr and length overlaps pages of any existing mapping(s), then the "
    "overlapped part of the existing mapping(s) will be discarded."
)


@claim(
    "mmap.shared.1",
    PAGE,
    "MAP_SHARED Share this mapping. Updates to the mapping are visible to other processes mapping the "
    "same region",
    reading="Another process sees what is written, for it maps the same pages.",
    sabotage=entry_pfn(+1, at=2),
)
def test_shared_mappings_are_the_same_pages(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    first, second = (subject.mmap(pages=2, shared=True, fd=fd).load() for _ in range(2))
    first.store(0x31)
    one, two = witness.pages(first), witness.pages(second)
    assert one.pfns == two.pfns
    assert (one.anon, one.writable, one.mapcounts) == (0, 1, 2)
    assert subject.peek(second.start, 1) == subject.read(fd, 1, 0) == b"\x31"


@claim(
    "mmap.shared.2",
    PAGE,
    "MAP_SHARED Share this mapping. Updates to the mapping [...] (in the case of file-backed "
    "mappings) are carried through to the underlying file.",
    reading="read(2) of the file sees what is written.",
    sabotage=entry_pfn(+1, at=2),
)
def test_a_child_shares_the_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True).touch()
    with subject.fork() as child:
        child.must(child.store(area.start, byte=0x77))
        child.must(child.load(area.address(1)))
        assert witness.pages(area).pfns == witness.pages(area, of=child).pfns
        assert witness.pages(area, of=child).writable[0] == 1
        assert subject.peek(area.start, 1) == b"\x77"


@claim(
    "mmap.private.1",
    PAGE,
    PRIVATE,
    reading="What is only read is the file's page.",
    sabotage=entry_bit("writable", set=True, at=1),
)
def test_a_private_mapping_reads_the_file_s_page(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    shared = subject.mmap(pages=2, shared=True, fd=fd).touch(0x11)
    area = subject.mmap(pages=2, fd=fd).load()
    before = witness.pages(area)
    assert (before.writable, before.anon) == (0, 0)
    assert before.pfns == witness.pages(shared).pfns
    area[:1].store(0x22)
    after = witness.pages(area)
    assert after.anon == (1, 0)
    assert (after.writable, after.pfns[1]) == ((1, 0), before.pfns[1])
    assert after.pfns[0] != before.pfns[0]
    assert subject.read(fd, 1, 0) == b"\x11"


@claim(
    "mmap.private.2",
    PAGE,
    PRIVATE,
    reading="A copy lets go of the file's page.",
    sabotage=refcount(+1, at=2),
)
def test_a_private_copy_lets_go_of_the_file_s_page(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(1)
    shared = subject.mmap(pages=1, shared=True, fd=fd).touch()
    before, mm = witness.pages(shared), witness.mm(subject)
    area = subject.mmap(pages=1, fd=fd).load().store(9)
    after, own = witness.pages(shared), witness.pages(area)
    assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
    assert (own.exclusive, own.mapcounts, own.refcounts) == (1, 1, 1)
    counted = witness.mm(subject)
    assert (counted.rss_anon, counted.rss_shmem) == (mm.rss_anon + 1, mm.rss_shmem)


@claim(
    "mmap.close.1",
    PAGE,
    "After the mmap() call has returned, the file descriptor, fd, can be closed immediately without invalidating "
    "the mapping.",
    sabotage=entry_bit("present", set=False),
)
def test_the_descriptor_can_be_closed(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    area = subject.mmap(pages=2, shared=True, fd=fd)
    subject.close(fd)
    area.touch()
    assert witness.pages(area).present == 1


@claim(
    "mmap.offset.1",
    PAGE,
    "The contents of a file mapping [...] are initialized using length bytes starting at offset "
    "offset in the file",
    reading="The pages are those of the file from the offset on.",
    sabotage=entry_pfn(+1),
)
def test_a_mapping_begins_at_its_offset(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(4)
    whole = subject.mmap(pages=4, shared=True, fd=fd).touch()
    for page in range(4):
        subject.store(whole.address(page), byte=page + 1)
    part = subject.mmap(pages=2, prot="r", shared=True, fd=fd, offset=2 * subject.page_size).load()
    assert witness.pages(part).pfns == witness.pages(whole).pfns[2:]
    assert witness.contents(part)[:: part.page_size] == b"\3\4"


@claim(
    "mmap.sigbus.1",
    PAGE,
    "SIGBUS: Attempted access to a page of the buffer that lies beyond the end of the mapped file.",
    reading="A page behind the end is not mapped.",
    sabotage=entry_bit("present", set=True),
)
def test_an_access_beyond_the_end_is_sigbus(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, shared=True, fd=subject.memfd(2))
    area[:2].touch()
    for access in (subject.load, subject.store):
        with subject.faults("SIGBUS", "BUS_ADRERR"):
            access(area.address(2))
    assert witness.pages(area).present == (1, 1, 0)


@claim(
    "mmap.sigbus.2",
    PAGE,
    "SIGBUS: Attempted access to a page of the buffer that lies beyond the end of the mapped file.",
    reading="A file that shrinks takes its pages along.",
    sabotage=entry_bit("present", set=True, at=2),
)
def test_a_file_that_shrinks_takes_its_pages_along(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(3)
    shared = subject.mmap(pages=3, shared=True, fd=fd).touch()
    private = subject.mmap(pages=3, fd=fd).touch()
    pfns = witness.pages(shared).pfns
    subject.ftruncate(fd, 1)
    assert witness.pages(shared).pfns == (pfns[0], NO_PFN, NO_PFN)
    assert witness.pages(private).present == (1, 0, 0)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        subject.load(shared.address(1))


@claim(
    "mmap.tail.1",
    PAGE,
    "For a file that is not a multiple of the page size, the remaining bytes in the partial page at the end of the "
    "mapping are zeroed when mapped, and modifications to that region are not written out to the file.",
    sabotage=entry_pfn(+1),
)
def test_the_rest_of_the_last_page_is_zero(subject: Subject, witness: Witness) -> None:
    with subject.file_system("ramfs") as where:
        fd = subject.open(f"{where}/file", "O_RDWR|O_CREAT")
        subject.write(fd, b"seven b")
        area = subject.mmap(pages=1, shared=True, fd=fd).load()
        data = witness.contents(area)
        subject.store(area.address(0, 100), byte=0x41)
        size = len(subject.read(fd, 1000, 0))
        subject.munmap(area)
        subject.close(fd)
    assert data == b"seven b".ljust(area.page_size, b"\0")
    assert size == 7


@claim(
    "mmap.readonly.1",
    "mm/mmap.c",
    "A shared mapping of a file that is open for reading can never become writable.",
    code="do_mmap(): vm_flags &= ~(VM_MAYWRITE | VM_SHARED)",
    sabotage=vm_flag("VM_MAYWRITE"),
)
def test_a_read_only_descriptor_gives_no_write(subject: Subject, witness: Witness) -> None:
    read_only = subject.open(f"/proc/self/fd/{subject.memfd(1)}", "O_RDONLY")
    area = subject.mmap(pages=1, prot="r", shared=True, fd=read_only).load()
    flags = witness.vma(area).flags
    assert "VM_MAYSHARE" in flags
    assert flags.isdisjoint({"VM_SHARED", "VM_MAYWRITE", "VM_WRITE"})
    assert witness.pages(area).writable == 0


@claim(
    "mmap.notify.1",
    "mm/mmap.c",
    "A file system that wants to know of writes gets a fault for the first write to each page.",
    code="vma_wants_writenotify()",
    sabotage=entry_bit("writable", set=True),
)
def test_the_first_write_is_noticed(subject: Subject, witness: Witness) -> None:
    with subject.file_system("ramfs") as where:
        fd = subject.open(f"{where}/file", "O_RDWR|O_CREAT")
        subject.ftruncate(fd, 2)
        area = subject.mmap(pages=2, shared=True, fd=fd).load()
        clean = witness.pages(area)
        area[1:].store()
        dirty = witness.pages(area)
        subject.munmap(area)
        subject.close(fd)
    assert (clean.writable, clean.dirty) == (0, 0)
    assert (dirty.writable, dirty.dirty) == ((0, 1), (0, 1))
    assert dirty.pfns == clean.pfns


@claim(
    "mmap.fixed.1",
    PAGE,
    "MAP_FIXED [...] If the memory region specified by addr and length overlaps pages of any existing "
    "mapping(s), then the overlapped part of the existing mapping(s) will be discarded.",
    sabotage=entry_bit("present", set=True, at=2, page=1),
)
def test_fixed_replaces_what_was_there(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4).touch(3)
    before, rss = witness.pages(area), witness.mm(subject).rss_anon
    new = subject.mmap(pages=2, prot="r", fixed_at=area.address(1), replace=True)
    after = witness.pages(area)
    assert new.start == area.address(1)
    assert after.pfns == (before.pfns[0], NO_PFN, NO_PFN, before.pfns[3])
    assert witness.frames(before.pfns[1:3]).refcounts == 0
    assert witness.mm(subject).rss_anon == rss - 2
    assert "VM_WRITE" not in witness.vma(new).flags


@claim(
    "mmap.fixed.2",
    PAGE,
    "MAP_FIXED: Don't interpret addr as a hint: place the mapping at exactly that address.",
    sabotage=vm_edge("vm_end", +1),
)
def test_fixed_is_exact(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(pages=6, prot="none")
    area = subject.mmap(pages=2, fixed_at=room.address(2), replace=True)
    vma = witness.vma(area)
    assert (vma.start, vma.end) == (room.address(2), room.address(4))
    with subject.refuses("EINVAL"):
        subject.mmap(pages=1, fixed_at=room.start + 1, replace=True)


@claim(
    "mmap.noreplace.1",
    PAGE,
    "MAP_FIXED_NOREPLACE never clobbers a preexisting mapped range. If the requested range would collide with an "
    "existing mapping, then this call fails with the error EEXIST.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_noreplace_clobbers_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=4).touch()
    subject.munmap(area[2:3])
    before = witness.pages(area)
    for start, pages in ((1, 1), (2, 2), (0, 4)):
        with subject.refuses("EEXIST"):
            subject.mmap(pages=pages, fixed_at=area.address(start))
    assert witness.pages(area).entries == before.entries
    assert subject.mmap(pages=1, fixed_at=area.address(2)).start == area.address(2)


@claim(
    "mmap.hint.1",
    PAGE,
    "If another mapping already exists there, the kernel picks a new address that may or may not depend on the hint.",
    sabotage=entry_bit("present", set=False, at=2),
)
def test_a_hint_clobbers_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.apart(pages=2).touch()
    before = witness.pages(area)
    hinted = subject.call(
        "mmap", area.start, area.length, subject.protection("rw"),
        subject.agent.names.flags("PRIVATE|ANONYMOUS", "MAP_"), -1, 0,
    ).value  # fmt: skip
    assert not area.start - area.length < hinted < area.end
    assert witness.pages(area).entries == before.entries
