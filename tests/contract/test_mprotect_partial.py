"""mprotect(2): what stands when a call failed in the middle of its range, and PROT_GROWSDOWN."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit
from hostwalk.witness import Pages, Witness

PAGE = "mprotect(2)"
NOT_MAPPED = (
    "ENOMEM: Addresses in the range [addr, addr+len-1] are invalid for the address space of the process, or specify "
    "one or more pages that are not mapped."
)
SUNOS = (
    "If the error is at addr2, then all whole pages in the range [addr, addr2) will have been changed (SunOS page of "
    "mprotect(2))."
)


@claim(
    "mprotect.enomem.1",
    PAGE,
    NOT_MAPPED,
    reading="A hole: the pages before it have changed, those behind it have not.",
    sabotage=entry_bit("writable", set=True, at=1, page=0),
)
def test_a_hole_is_enomem_after_the_pages_before_it(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=5, prot="rw").touch()
    subject.munmap(area[2:3])
    with subject.refuses("ENOMEM"):
        subject.mprotect(area, "r")
    after = witness.pages(area)
    assert after.present == (1, 1, 0, 1, 1)
    assert after.writable == (0, 0, 0, 1, 1)
    assert "VM_WRITE" not in witness.vma(area[:2]).flags
    assert "VM_WRITE" in witness.vma(area[3:]).flags


@claim(
    "mprotect.enomem.4",
    PAGE,
    NOT_MAPPED,
    reading="The first page is missing: nothing changes.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_an_unmapped_first_page_is_enomem_and_changes_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    subject.munmap(area[:1])
    before = witness.pages(area)
    with subject.refuses("ENOMEM"):
        subject.mprotect(area, "r")
    with subject.refuses("ENOMEM"):
        subject.mprotect(area[:1], "r")
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.enomem.5",
    PAGE,
    NOT_MAPPED,
    reading="The last page is missing: all others have changed.",
    sabotage=entry_bit("writable", set=True),
)
def test_an_unmapped_last_page_is_enomem_after_all_others(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    subject.munmap(area[3:])
    with subject.refuses("ENOMEM"):
        subject.mprotect(area, "r")
    assert witness.pages(area).writable == 0
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        subject.store(area.address(2))


@claim(
    "mprotect.partial.1",
    "mprotect(SunOS)",
    "If the error occurs on some page at addr2, then the protections of all whole pages in the range "
    "[addr, addr2] will have been changed.",
    reading="A mapping that cannot be given the right: all pages before it have changed, none behind it.",
    sabotage=entry_bit("writable", set=True, page=0),
)
def test_eacces_comes_after_the_pages_before_it(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rx").load()
    read_only = subject.open(f"/proc/self/fd/{subject.memfd(1)}", "O_RDONLY")
    subject.mmap(pages=1, prot="r", shared=True, fd=read_only, fixed_at=area.address(2), replace=True).load()
    with subject.refuses("EACCES"):
        subject.mprotect(area, "rw")
    after = witness.pages(area)
    assert after.executable == (0, 0, 0, 1)
    assert after.writable == 0
    changed = [{"VM_WRITE", "VM_EXEC"} & witness.vma(area[page]).flags for page in range(4)]
    assert changed == [{"VM_WRITE"}, {"VM_WRITE"}, set(), {"VM_EXEC"}]


@claim(
    "mprotect.partial.2",
    "Documentation/userspace-api/mseal.rst",
    "mprotect, pkey_mprotect, madvise: partial update might happen, e.g. when mprotect over multiple VMAs, mprotect "
    "might update the beginning VMAs before reaching the sealed VMA and return -EPERM.",
    kernels=">=6.12",
    sabotage=entry_bit("writable", set=True, page=1),
)
def test_eperm_comes_after_the_pages_before_it(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    subject.mseal(area[2:3])
    with subject.refuses("EPERM"):
        subject.mprotect(area, "r")
    assert witness.pages(area).writable == (0, 0, 1, 1)


@claim(
    "mprotect.partial.3",
    "mprotect(POSIX)",
    "If mprotect() fails for reasons other than [EINVAL], the protections on some of the pages in the range "
    "[addr,addr+len) may have been changed.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_einval_leaves_every_page_as_it_was(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    unknown = subject.protection("r") | 1 << 20
    for start, prot in ((area.start + 1, subject.protection("r")), (area.start, unknown)):
        with subject.refuses("EINVAL"):
            subject.call("mprotect", start, area.length, prot)
    assert witness.pages(area).entries == before.entries


def _stack(subject: Subject) -> Area:
    return subject.mmap(pages=4, prot="rw", growsdown=True).touch()


def _apply(subject: Subject, area: Area, prot: str) -> None:
    subject.call("mprotect", area.start, area.length, subject.agent.names.flags(prot, "PROT_"))


@claim(
    "mprotect.growsdown.1",
    PAGE,
    "PROT_GROWSDOWN: Apply the protection mode down to the beginning of a mapping that grows downward.",
    sabotage=entry_bit("writable", set=True, page=0),
)
def test_growsdown_reaches_the_beginning(subject: Subject, witness: Witness) -> None:
    area = _stack(subject)
    _apply(subject, area[2:3], "READ|GROWSDOWN")
    after: Pages = witness.pages(area)
    assert after.writable == (0, 0, 0, 1)
    assert witness.vma(area).end == area.address(3)


@claim(
    "mprotect.growsdown.2",
    PAGE,
    "PROT_GROWSDOWN Apply the protection mode down to the beginning of a mapping that grows downward "
    "(which should be a stack segment or a segment mapped with the MAP_GROWSDOWN flag set).",
    reading="Of any other mapping it is EINVAL, and nothing changes.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_growsdown_elsewhere_is_einval(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.refuses("EINVAL"):
        _apply(subject, area[2:3], "READ|GROWSDOWN")
    assert witness.pages(area).entries == before.entries


@claim(
    "mprotect.growsup.1",
    PAGE,
    "PROT_GROWSUP Apply the protection mode up to the end of a mapping that grows upwards. (Such "
    "mappings are created for the stack area on architectures [...] that have an upwardly growing "
    "stack.)",
    reading="On these architectures it is EINVAL, and nothing changes.",
    sabotage=entry_bit("writable", set=False, at=2),
)
def test_growsup_is_einval_where_nothing_grows_up(subject: Subject, witness: Witness) -> None:
    area = _stack(subject)
    before = witness.pages(area)
    with subject.refuses("EINVAL"):
        _apply(subject, area[1:2], "READ|GROWSUP")
    assert witness.pages(area).entries == before.entries
