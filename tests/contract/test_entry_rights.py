"""What the entries of each kind of mapping allow the processor: user space as asked, the kernel no execution."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject, SyscallFailed
from hostwalk.sabotage import entry_bit
from hostwalk.target import Arch
from hostwalk.witness import NO_PFN, Witness

RIGHTS = ("r", "w", "x", "rw", "rx", "wx", "rwx")
ARM64_NG, ARM64_PXN, ARM64_GP = 1 << 11, 1 << 53, 1 << 50
X86_GLOBAL = 1 << 8
PROT_BTI = 0x10  # arch/arm64/include/uapi/asm/mman.h


def each(subject: Subject) -> list[tuple[str, Area]]:
    """Return a page in use for each right, private and shared, of a file that holds a return instruction."""
    fd = subject.memfd(1)
    file = subject.mmap(pages=1, shared=True, fd=fd)
    subject.poke(file.start, subject.returning())
    areas = [
        (prot, subject.mmap(pages=1, prot=prot, shared=shared, fd=fd))
        for prot in RIGHTS
        for shared in (False, True)
    ]
    for prot, area in areas:
        if "w" in prot:
            subject.poke(area.start, subject.returning())
        elif "r" in prot:
            area.load()
        else:
            subject.must(subject.execute(area.start))
    return areas


@claim(
    "mmap.exec.2",
    "mmap(2)",
    "PROT_EXEC Pages may be executed.",
    reading="With and without the other rights, private and shared; and no others may.",
    sabotage=entry_bit("executable", set=False, at=5),
)
def test_pages_may_be_executed_where_asked(subject: Subject, witness: Witness) -> None:
    for prot, area in each(subject):
        assert witness.pages(area).executable == ("x" in prot), prot
        if "x" in prot:
            subject.must(subject.execute(area.start))
    rights = subject.mmap(pages=1, shared=True)
    subject.poke(rights.start, subject.returning())
    for prot in RIGHTS:
        subject.mprotect(rights, prot)
        assert witness.pages(rights).executable == ("x" in prot), prot
        if "x" in prot:
            subject.must(subject.execute(rights.start))


@claim(
    "mmap.exec.3",
    "arch/arm64/mm/fault.c",
    "If EPAN is absent then exec implies read",
    reading="Of a page that is not there yet, too.",
    sabotage=entry_bit("executable", set=False),
)
def test_what_may_be_executed_is_read(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.ARM64:
        not_applicable("EPAN is arm64's")
    fd = subject.memfd(2)
    file = subject.mmap(pages=2, shared=True, fd=fd)
    for address in file:
        subject.poke(address, subject.returning())
    area = subject.mmap(pages=2, prot="x", fd=fd)
    subject.must(subject.execute(area.start))
    known = witness.pages(area)
    if known.user[0] == 0:
        not_applicable("this processor has EPAN")
    assert known.executable[0] == 1
    subject.madvise(area, "DONTNEED")
    assert witness.pages(area).pfns == NO_PFN
    assert subject.load(area.start).fault is None
    assert witness.pages(area).executable[0] == 1


@claim(
    "mmap.entry.1",
    "arch/arm64/mm/mmap.c",
    "No entry of user space is global, or lets the kernel execute the page.",
    code="vm_get_page_prot()",
    sabotage=entry_bit("global", set=True, at=5),
)
def test_entries_are_never_the_kernels(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.ARM64:
        not_applicable("PXN and nG are bits of arm64")
    for prot, area in each(subject):
        pages = witness.pages(area)
        assert (pages.present, pages.executable) == (1, "x" in prot), prot
        assert pages.entries[0] & ARM64_PXN, prot
        assert pages.entries[0] & ARM64_NG, prot


@claim(
    "mmap.entry.2",
    "arch/x86/mm/pgprot.c",
    "No entry of user space is global.",
    code="vm_get_page_prot()",
    sabotage=entry_bit("global", set=True, at=5),
)
def test_entries_are_never_global(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.X86_64:
        not_applicable("_PAGE_GLOBAL is a bit of x86")
    for prot, area in each(subject):
        pages = witness.pages(area)
        assert (pages.present, pages.executable) == (1, "x" in prot), prot
        assert not pages.entries[0] & X86_GLOBAL, prot


@claim(
    "mprotect.bti.1",
    "arch/arm64/mm/mmap.c",
    "PROT_BTI makes the entries guarded, and without it they are no more.",
    code="vm_get_page_prot(): VM_ARM64_BTI, PTE_GP",
    sabotage=entry_bit("executable", set=False, at=2),
)
def test_guarded_pages(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.ARM64:
        not_applicable("PROT_BTI is arm64's")
    area = subject.code(subject.returning())
    seen = [witness.pages(area)]
    try:
        subject.call("mprotect", area.start, area.length, subject.protection("rx") | PROT_BTI)
    except SyscallFailed as failed:
        if failed.errno == "EINVAL":
            not_applicable("this processor or kernel has no branch target identification")
        raise
    seen.append(witness.pages(area))
    subject.mprotect(area, "rx")
    seen.append(witness.pages(area))
    assert [bool(pages.entries[0] & ARM64_GP) for pages in seen] == [False, True, False]
    assert all(pages.executable == 1 for pages in seen)


@claim(
    "mmap.write.1",
    "mmap(2)",
    "On some hardware architectures (e.g., i386), PROT_WRITE implies PROT_READ.",
    reading="On these: a page of PROT_WRITE memory is read, before and after it was written.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_what_may_be_written_is_read(subject: Subject, witness: Witness) -> None:
    for shared in (False, True):
        area = subject.mmap(pages=2, prot="w", shared=shared)
        assert subject.load(area.start).fault is None
        assert witness.pages(area).present == (1, 0)
        area.store(0x21)
        assert subject.peek(area.start, 1) == b"\x21"
        pages = witness.pages(area)
        assert (pages.writable, pages.user) == (1, 1)
