"""mprotect(2), seen in the page tables: which entries change, and what must survive in them."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit
from hostwalk.target import Arch
from hostwalk.witness import Witness

PAGE = "mprotect(2)"
RANGE = (
    "mprotect() changes the access protections for the calling process's memory pages containing any part of the "
    "address range in the interval [addr, addr+len-1]."
)
X86_WRITE, X86_DIRTY, X86_SAVED_DIRTY = 1 << 1, 1 << 6, 1 << 58
ARM64_RDONLY, ARM64_WRITE, ARM64_DIRTY = 1 << 7, 1 << 51, 1 << 55
ARM64_STATE = ARM64_RDONLY | ARM64_WRITE | ARM64_DIRTY


@claim(
    "mprotect.round.1",
    PAGE,
    RANGE,
    reading="Whole pages change, and no neighbour.",
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
    "mprotect.round.2",
    PAGE,
    RANGE,
    reading="One byte is one page.",
    sabotage=entry_bit("writable", set=True, page=1),
)
def test_one_byte_is_one_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    subject.mprotect((area.address(1), 1), "r")
    assert witness.pages(area).writable == (1, 0, 1)


@claim(
    "mprotect.tables.1",
    PAGE,
    RANGE,
    reading="A range over two page tables.",
    sabotage=entry_bit("writable", set=True, at=2, page=4),
)
def test_a_range_over_two_page_tables(subject: Subject, witness: Witness) -> None:
    area = subject.across_tables(pages=8).touch()
    before = witness.pages(area)
    assert before.records[4].entry_phys % area.page_size == 0
    subject.mprotect(area[1:7], "r")
    after = witness.pages(area)
    assert after.writable == (1, 0, 0, 0, 0, 0, 0, 1)
    assert after.pfns == before.pfns
    assert (after.entries[0], after.entries[7]) == (before.entries[0], before.entries[7])


@claim(
    "mprotect.tables.2",
    PAGE,
    RANGE,
    reading="A range up to the end of a page table.",
    sabotage=entry_bit("writable", set=False, at=2, page=2),
)
def test_a_range_up_to_the_end_of_a_page_table(subject: Subject, witness: Witness) -> None:
    area = subject.across_tables(pages=4).touch()
    before = witness.pages(area)
    subject.mprotect(area[:2], "none")
    after = witness.pages(area)
    assert after.prot_none == (1, 1, 0, 0)
    assert after.entries[2:] == before.entries[2:]
    subject.mprotect(area[2:], "none")
    assert witness.pages(area).prot_none == 1


@claim(
    "mprotect.tables.3",
    PAGE,
    RANGE,
    reading="Page tables that are not there are passed over.",
    sabotage=entry_bit("writable", set=True, page=7),
)
def test_page_tables_that_are_not_there_are_passed_over(subject: Subject, witness: Witness) -> None:
    area = subject.across_tables(pages=8)
    area[7:].touch()
    subject.mprotect(area, "r")
    after = witness.pages(area)
    assert after.present == (0, 0, 0, 0, 0, 0, 0, 1)
    assert after.writable == 0


@claim(
    "mprotect.private.1",
    "mm/mprotect.c",
    "Writable MAP_PRIVATE mapping: We can only special-case on exclusive anonymous pages, because we know that our "
    "write-fault handler similarly would map them writable without any additional checks while holding the PT lock.",
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
    "mprotect.private.2",
    "mm/mprotect.c",
    "In all writable, private mappings, we have to properly handle COW.",
    sabotage=entry_bit("writable", set=True),
)
def test_a_page_shared_with_a_child_does_not_become_writable(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch(5)
    with subject.fork() as child:
        for prot in ("r", "none", "rw"):
            subject.mprotect(area, prot)
        shared = witness.pages(area)
        assert (shared.writable, shared.exclusive) == (0, 0)
        area.touch(9)
        assert witness.pages(area).pfns != shared.pfns
        assert child.peek(area.start, 1) == b"\x05"


@claim(
    "mprotect.shared.1",
    PAGE,
    "PROT_WRITE: The memory can be modified.",
    reading="Shared memory becomes writable at once, without a fault.",
    sabotage=entry_bit("writable", set=False, at=3),
)
def test_shared_memory_becomes_writable_at_once(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="r", shared=True, fd=subject.memfd(2)).load()
    assert witness.pages(area).writable == 0
    before = witness.pages(area)
    subject.mprotect(area, "rw")
    after = witness.pages(area)
    assert after.writable == 1
    assert after.pfns == before.pfns
    assert after.dirty == before.dirty == 0


@claim(
    "mprotect.writenotify.1",
    "mm/mprotect.c",
    'Writable MAP_SHARED mapping: "clean" might indicate that the FS still needs a real write-fault '
    'for writenotify [...] If "dirty", the assumption is [...] the FS was already notified and we can '
    "simply mark the PTE writable",
    reading="A clean page of ramfs stays read-only until it is written.",
    sabotage=entry_bit("writable", set=True, page=0),
)
def test_a_clean_page_of_a_file_system_waits_for_its_write_fault(subject: Subject, witness: Witness) -> None:
    with subject.file_system("ramfs") as where:
        fd = subject.open(f"{where}/file", "O_RDWR|O_CREAT")
        subject.ftruncate(fd, 2)
        area = subject.mmap(pages=2, shared=True, fd=fd).load()
        area[1:].store()
        subject.mprotect(area, "r")
        subject.mprotect(area, "rw")
        after = witness.pages(area)
        area.store()
        noticed = witness.pages(area)
        subject.munmap(area)
        subject.close(fd)
    assert after.dirty == (0, 1)
    assert after.writable[0] == 0
    assert (noticed.writable, noticed.dirty) == (1, 1)


@claim(
    "mprotect.same.1",
    "mm/mprotect.c",
    "The same protection again changes no entry.",
    code="mprotect_fixup(): if (newflags == oldflags)",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_the_same_protection_changes_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    before, count = witness.pages(area), witness.mm(subject).map_count
    subject.mprotect(area[1:2], "rw")
    assert witness.pages(area).entries == before.entries
    assert witness.mm(subject).map_count == count


@claim(
    "mprotect.saved_dirty.1",
    "arch/x86/include/asm/pgtable_types.h",
    "The hardware requires shadow stack to be Write=0,Dirty=1. [...] the _PAGE_SAVED_DIRTY bit is "
    'used instead of the HW-dirty bit, to avoid creating a wrong "shadow stack" PTEs.',
    reading=(
        "What mprotect() makes read-only is dirty by SavedDirty, and by the hardware's bit again when it "
        "becomes writable."
    ),
    kernels=">=6.6",
    sabotage=entry_bit("dirty", set=True),
)
def test_a_dirty_page_does_not_become_a_shadow_stack(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.X86_64:
        not_applicable("only x86-64 has shadow stacks in its page tables")
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.mprotect(area, "r")
    for entry in witness.pages(area).entries:
        assert entry & (X86_WRITE | X86_DIRTY | X86_SAVED_DIRTY) == X86_SAVED_DIRTY
    subject.mprotect(area, "rw")
    for entry in witness.pages(area).entries:
        assert entry & (X86_WRITE | X86_DIRTY | X86_SAVED_DIRTY) == X86_WRITE | X86_DIRTY


def marked_by_hardware(subject: Subject) -> Area:
    """Return pages that the processor alone has made dirty, where it can: MADV_FREE cleans them, a store follows."""
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.madvise(area, "FREE")
    return area.touch()


@claim(
    "mprotect.hw_dirty.1",
    "arch/arm64/include/asm/pgtable.h",
    "If hardware-dirty (PTE_WRITE/DBM bit set and PTE_RDONLY clear), set the PTE_DIRTY bit.",
    sabotage=entry_bit("dirty", set=False),
)
def test_the_hardware_dirty_state_is_kept_in_software(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.ARM64:
        not_applicable("only arm64 tells the dirty state by PTE_RDONLY")
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.mprotect(area, "r")
    for entry in witness.pages(area).entries:
        assert entry & ARM64_STATE == ARM64_DIRTY | ARM64_RDONLY
    subject.mprotect(area, "rw")
    for entry in witness.pages(area).entries:
        assert entry & (ARM64_WRITE | ARM64_RDONLY) == ARM64_WRITE
    shared = marked_by_hardware(subject)
    with subject.fork() as child:
        for seen in (witness.pages(shared), witness.pages(shared, of=child)):
            assert {entry & ARM64_STATE for entry in seen.entries} == {ARM64_DIRTY | ARM64_RDONLY}
    protected = marked_by_hardware(subject)
    subject.mprotect(protected, "r")
    assert {entry & ARM64_STATE for entry in witness.pages(protected).entries} == {ARM64_DIRTY | ARM64_RDONLY}


@claim(
    "mprotect.later.1",
    PAGE,
    RANGE,
    reading="Pages that come later get it too.",
    sabotage=entry_bit("writable", set=True),
)
def test_pages_that_come_later_get_the_new_protection(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, shared=True, fd=subject.memfd(2))
    subject.mprotect(area, "r")
    area.load()
    assert witness.pages(area).writable == 0
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.store(area.start)
    fresh = subject.mmap(pages=2, prot="none", shared=True, fd=subject.memfd(2))
    subject.mprotect(fresh, "rw")
    fresh.store()
    assert witness.pages(fresh).writable == 1
