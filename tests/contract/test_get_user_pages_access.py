"""get_user_pages: which mappings it may enter, and what it leaves untouched where it may not."""

from __future__ import annotations

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit, entry_pfn, refcount
from hostwalk.witness import NO_PFN, Witness

PAGE = "get_user_pages(9)"
GUP = "mm/gup.c"
DOC = "get_user_pages_remote(9)"


@claim(
    "gup.access.1", GUP, "if (!(vm_flags & VM_WRITE)) { if (!(gup_flags & FOLL_FORCE)) return -EFAULT;",
    sabotage=entry_bit("writable", set=True, at=2),
)  # fmt: skip
def test_write_to_a_read_only_mapping_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="r").load()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.refcounts == before.refcounts
        assert after.writable == 0


@claim(
    "gup.access.2", GUP, "else if (!(vm_flags & VM_READ)) { if (!(gup_flags & FOLL_FORCE)) return -EFAULT;",
    sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_prot_none_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.mprotect(area, "none")
    before = witness.pages(area)
    with subject.get_user_pages(area) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts


@claim(
    "gup.access.3", GUP, "gups are always data accesses, not instruction fetches",
    sabotage=entry_bit("present", set=True),
)  # fmt: skip
def test_execute_only_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="x")
    with subject.get_user_pages(area) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(area).pfns == NO_PFN


@claim(
    "gup.access.4",
    GUP,
    "Is there actually any vma we can reach here which does not have VM_MAYREAD set?",
    sabotage=entry_pfn(+1, at=2),
)
def test_force_reads_prot_none(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    subject.mprotect(area, "none")
    with subject.get_user_pages(area, force=True) as pins:
        held = witness.pages(area)
        assert pins.pfns == before.pfns
        assert held.pfns == before.pfns
        assert held.refcounts == before.refcounts + 1
        assert held.prot_none == 1


@claim(
    "gup.force.1", PAGE, "force: whether to force access even when user mapping is currently protected (but never "
    "forces write access to shared mapping).",
    sabotage=entry_bit("writable", set=True, at=2),
)  # fmt: skip
def test_force_writes_a_private_copy_and_leaves_the_mapping_read_only(
    subject: Subject, witness: Witness
) -> None:
    area = subject.mmap(pages=1, prot="r", fd=subject.memfd(1)).load()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True, force=True) as pins:
        held = witness.pages(area)
        assert pins.returned == 1
        assert held.pfns == pins.pfns
        assert held.pfns != before.pfns
        assert held.anon == 1
        assert held.exclusive == 1
        assert held.writable == 0


@claim(
    "gup.force.2",
    PAGE,
    "This will result in the page being COWed even in MAP_SHARED mappings.",
    reading="force, before 3.15",
    sabotage=entry_bit("writable", set=True, at=2),
    departs=departure(
        "FOLL_FORCE with FOLL_WRITE on a mapping that is not copy-on-write is -EFAULT since 3.15",
        cites="cda540ace6a1 (mm: get_user_pages(write,force) refuse to COW in shared areas)",
        shows="a forced write to a shared mapping is EFAULT",
        kernels=">=3.15",
    ),
)
def test_force_in_a_shared_mapping(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="r", shared=True, fd=subject.memfd(1)).load()
    with subject.get_user_pages(area, write=True, force=True) as pins:
        held = witness.pages(area)
        assert pins.errno is None, f"a forced write to a shared mapping is {pins.errno}"
        assert pins.returned == 1
        assert held.anon == 1


@claim(
    "gup.force.3", GUP, "Anon pages in shared mappings are surprising: now just reject it.",
    sabotage=entry_pfn(+1, at=2),
)  # fmt: skip
def test_force_leaves_a_shared_mapping_alone(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="r", shared=True, fd=subject.memfd(1)).load()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True, force=True) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.anon == 0
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts


@claim(
    "gup.force.4",
    GUP,
    "FOLL_FORCE can write to even unwritable PTEs in COW mappings.",
    reading="An exclusive page is written where it is.",
    sabotage=entry_pfn(+1, at=2),
)
def test_force_writes_an_exclusive_page_where_it_is(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.mprotect(area, "r")
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True, force=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.pfns == before.pfns
        assert held.writable == 0


@claim(
    "gup.force.5",
    GUP,
    "FOLL_FORCE can write to even unwritable PTEs in COW mappings.",
    reading="What is written is a private copy, the file's page stays.",
    sabotage=refcount(+1, at=3),
)
def test_force_leaves_the_file_as_it_was(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(1)
    shared = subject.mmap(pages=1, prot="rw", shared=True, fd=fd).load()
    area = subject.mmap(pages=1, prot="r", fd=fd)
    before, rss = witness.pages(shared), witness.mm(subject)
    area.load()
    assert witness.pages(area).pfns == before.pfns
    with subject.get_user_pages(area, write=True, force=True) as pins:
        after = witness.pages(shared)
        assert pins.returned == 1
        assert (after.refcounts, after.mapcounts) == (before.refcounts, before.mapcounts)
        assert after.entries == before.entries
        assert witness.mm(subject).rss_anon == rss.rss_anon + 1
        assert witness.mm(subject).rss_shmem == rss.rss_shmem


@claim(
    "gup.pfnmap.1",
    GUP,
    "if (vm_flags & (VM_IO | VM_PFNMAP)) return -EFAULT;",
    reading="check_vma_flags() refuses a remapped range and leaves its entries alone.",
    sabotage=entry_bit("dirty", set=True, at=2),
)
def test_a_pfn_mapping_is_efault(subject: Subject, witness: Witness) -> None:
    inserted = subject.insert("remap_pfn_range", subject.alloc_pages("order0", nr=1), prot="rw", shared=True)
    before = witness.pages(inserted.area)
    assert witness.vma(inserted.area).flags >= {"VM_IO", "VM_PFNMAP"}
    with subject.get_user_pages(inserted.area, force=True) as pins:
        after = witness.pages(inserted.area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts


def special_entry(subject: Subject, witness: Witness) -> Area:
    """Return two pages of a VM_MIXEDMAP mapping, the first with a special entry: no struct page for Linux."""
    inserted = subject.insert(
        "vmf_insert_mixed", subject.alloc_pages("order0", nr=2), when="fault", mixedmap=True
    )
    inserted.area.load()
    assert witness.pages(inserted.area).special == 1
    return inserted.area


@claim(
    "gup.special.1",
    GUP,
    "Proper page table entry exists, but no corresponding struct page",
    reading="It is -EEXIST when pages are asked for.",
    sabotage=refcount(+1, at=3),
)
def test_a_special_entry_is_eexist(subject: Subject, witness: Witness) -> None:
    area = special_entry(subject, witness)
    before = witness.pages(area)
    with subject.get_user_pages(area) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EEXIST", 0)
        assert after.pfns == before.pfns
        assert after.refcounts == before.refcounts


@claim(
    "gup.special.2", GUP, "If the caller expects **pages to be filled in, bail out now, because that can't be done",
    sabotage=refcount(+1, at=3),
)  # fmt: skip
def test_a_special_entry_counts_where_no_pages_are_wanted(subject: Subject, witness: Witness) -> None:
    area = special_entry(subject, witness)
    before = witness.pages(area)
    with subject.get_user_pages(area, no_pages=True) as pins:
        after = witness.pages(area)
        assert pins.returned == 2
        assert after.young == 1
        assert after.refcounts == before.refcounts


@claim(
    "gup.stack.1", GUP, "GUP no longer grows the stack",
    sabotage=entry_bit("present", set=True),
)  # fmt: skip
def test_the_stack_is_not_grown(subject: Subject, witness: Witness) -> None:
    stack = subject.mmap(pages=64, prot="rw")
    subject.munmap(stack)
    top = subject.mmap(pages=1, prot="rw", fixed_at=stack[-1:].start, growsdown=True).touch()
    with subject.get_user_pages(stack[-2:-1]) as pins:
        below = witness.pages(stack[-2:-1])
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert below.pfns == NO_PFN
        assert witness.vma(top).start == top.start


@claim(
    "gup.eof.1", DOC, "Again, this may be less than nr_pages.", sabotage=refcount(-1, at=2),
)  # fmt: skip
def test_the_end_of_a_file_ends_the_walk(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw", shared=True, fd=subject.memfd(2))
    within = area[:2].touch()
    before = witness.pages(within)
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(within)
        assert (pins.returned, pins.filled) == (2, 2)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1
        assert witness.pages(area[2:]).pfns == NO_PFN


@claim(
    "gup.eof.2",
    DOC,
    "If nr_pages is >0, but no pages were pinned, returns -errno.",
    reading="A page behind the end of a file is -EFAULT.",
    sabotage=entry_bit("present", set=True),
)
def test_past_the_end_of_a_file_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw", shared=True, fd=subject.memfd(1))
    with subject.get_user_pages(area[1:]) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(area[1:]).pfns == NO_PFN


@claim(
    "gup.secretmem.1",
    GUP,
    "if (vma_is_secretmem(vma)) return -EFAULT;",
    reading="check_vma_flags(): secret memory is not held, and its count stays.",
    sabotage=refcount(+1, at=2),
)
def test_secret_memory_is_efault(subject: Subject, witness: Witness) -> None:
    made = subject.syscall("memfd_secret", 0)
    if made.errno is not None:
        not_applicable(f"memfd_secret(2) is {made.errno}: no secret memory here")
    subject.ftruncate(made.value, 2)
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=made.value).touch()
    before = witness.pages(area)
    for call in (subject.get_user_pages, subject.get_user_pages_fast, subject.pin_user_pages_fast):
        with call(area) as pins:
            assert (pins.errno, pins.filled) == ("EFAULT", 0)
    with subject.get_user_pages_fast_only(area) as pins:
        assert (pins.returned, pins.filled) == (0, 0)
    after = witness.pages(area)
    assert after.entries == before.entries
    assert after.refcounts == before.refcounts


def denied_by_key(subject: Subject) -> Area:
    """Return two touched pages whose protection key the subject's own register denies."""
    key = subject.syscall("pkey_alloc", 0, subject.agent.abi["PKEY_DISABLE_ACCESS"])
    if key.errno is not None:
        not_applicable(f"pkey_alloc(2) is {key.errno}: no protection keys here")
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.call("pkey_mprotect", area.start, area.length, subject.protection("rw"), key.value)
    return area


@claim(
    "gup.pkey.1", GUP, "The architecture might have a hardware protection mechanism other than read/write that can "
    "deny access.", sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_a_denied_protection_key_is_efault(subject: Subject, witness: Witness) -> None:
    area = denied_by_key(subject)
    before = witness.pages(area)
    with subject.faults("SIGSEGV", "SEGV_PKUERR"):
        area.load()
    with subject.get_user_pages(area) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.refcounts == before.refcounts


@claim(
    "gup.pkey.2",
    "arch/x86/include/asm/mmu_context.h",
    "allow access if the VMA is not one from this process",
    reading="arch_vma_access_permitted(): a remote call heeds no protection key.",
    sabotage=refcount(-1, at=2),
)
def test_a_remote_call_heeds_no_protection_key(subject: Subject, witness: Witness) -> None:
    area = denied_by_key(subject)
    before = witness.pages(area)
    with subject.get_user_pages_remote(subject, area) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1


def ramfs_file(subject: Subject, pages: int) -> Area:
    """Return a shared mapping of a file of ramfs, whose pages are tracked when they get dirty."""
    mount(subject, "ramfs", "/tmp/gup-ramfs")
    fd = subject.open("/tmp/gup-ramfs/file", "O_RDWR|O_CREAT")
    subject.ftruncate(fd, pages)
    return subject.mmap(pages=pages, prot="rw", shared=True, fd=fd).touch()


@claim(
    "gup.tracked.1", GUP, "Writing to file-backed mappings which require folio dirty tracking using GUP is a "
    "fundamentally broken operation [...] A long term pin is the most egregious case so this is the case we disallow.",
    kernels=">=6.5", sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_no_longterm_write_to_a_file_that_tracks_dirty_pages(subject: Subject, witness: Witness) -> None:
    area = ramfs_file(subject, 2)
    before = witness.pages(area)
    for call in (subject.pin_user_pages, subject.pin_user_pages_fast, subject.pin_user_pages_unlocked):
        with call(area, write=True, longterm=True) as pins:
            assert (pins.errno, pins.filled) == ("EFAULT", 0)
    after = witness.pages(area)
    assert after.entries == before.entries
    assert after.refcounts == before.refcounts


@claim(
    "gup.tracked.2", GUP, "If we aren't pinning then no problematic write can occur. A long term pin is the most "
    "egregious case so this is the case we disallow.", sabotage=refcount(-1, at=2),
)  # fmt: skip
def test_short_pins_and_longterm_reads_of_such_a_file(subject: Subject, witness: Witness) -> None:
    area = ramfs_file(subject, 2)
    before = witness.pages(area)
    with (
        subject.pin_user_pages(area, write=True) as short,
        subject.pin_user_pages(area, longterm=True) as read,
    ):
        held = witness.pages(area)
        assert short.pfns == read.pfns
        assert held.pfns == short.pfns
        assert held.refcounts == before.refcounts + 2 * witness.layout["GUP_PIN_COUNTING_BIAS"]


def mount(subject: Subject, kind: str, path: str) -> None:
    """Mount a file system of a kind on a new directory, unless that was done before."""
    where, words = subject.scratch, (path.encode() + b"\0", kind.encode() + b"\0")
    made = subject.syscall("mkdirat", subject.agent.abi["AT_FDCWD"], where, 0o700, payload=words[0])
    if made.errno is None:
        kind_at = where + len(words[0])
        subject.call("mount", kind_at, where, kind_at, 0, 0, payload=b"".join(words))
