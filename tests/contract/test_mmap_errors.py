"""mmap(2), ERRORS: each error, and that nothing was mapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import Sabotage, committed, entry_bit, mm_counter
from hostwalk.witness import Witness

PAGE = "mmap(2)"
MS_NOEXEC = 8
SPARE_MAPPINGS = 40
MORE_THAN_ANYONE_HAS = 1 << 35  # half of the smallest address space, of 36 bits
ONE_MORE: Sabotage = mm_counter("total_vm", +1, at=2)
UNSUITABLE = (
    "EINVAL: We don't like addr, length, or offset (e.g., they are too large, or not aligned on a page "
    "boundary)."
)
TYPES = "EINVAL: flags contained none of MAP_PRIVATE, MAP_SHARED, or MAP_SHARED_VALIDATE."
ACCESS = (
    "EACCES: A file mapping was requested, but fd is not open for reading. Or MAP_SHARED was requested and "
    "PROT_WRITE is set, but fd is not open in read/write (O_RDWR) mode."
)


@contextmanager
def _nothing_is_mapped(subject: Subject, witness: Witness) -> Iterator[None]:
    """Hold the address space against what it was before the block."""
    before = witness.mm(subject)
    yield
    after = witness.mm(subject)
    assert (after.total_vm, after.map_count, after.locked_vm) == (
        before.total_vm,
        before.map_count,
        before.locked_vm,
    )


def _raw(
    subject: Subject, flags: str, *, addr: int = 0, length: int = 0, fd: int = -1, offset: int = 0
) -> None:
    value = subject.agent.names.flags(flags, "MAP_")
    subject.call("mmap", addr, length or subject.page_size, subject.protection("r"), value, fd, offset)


@claim("mmap.einval.1", PAGE, "EINVAL: (since Linux 2.6.12) length was 0.", sabotage=ONE_MORE)
def test_length_zero_is_einval(subject: Subject, witness: Witness) -> None:
    with _nothing_is_mapped(subject, witness), subject.refuses("EINVAL"):
        subject.mmap(pages=0)


@claim(
    "mmap.einval.2",
    PAGE,
    UNSUITABLE,
    reading="An offset that is not aligned.",
    sabotage=ONE_MORE,
)
def test_an_unaligned_offset_is_einval(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(2)
    with _nothing_is_mapped(subject, witness):
        for offset in (1, subject.page_size // 2):
            with subject.refuses("EINVAL"):
                subject.mmap(pages=1, fd=fd, offset=offset)
        with subject.refuses("EINVAL"):
            _raw(subject, "PRIVATE|ANONYMOUS|FIXED", addr=(1 << 30) + 1)


@claim("mmap.einval.3", PAGE, TYPES, sabotage=ONE_MORE)
def test_no_type_is_einval(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(1)
    with _nothing_is_mapped(subject, witness):
        with subject.refuses("EINVAL"):
            _raw(subject, "ANONYMOUS")
        with subject.refuses("EINVAL"):
            _raw(subject, "NORESERVE", fd=fd)


@claim(
    "mmap.enomem.1",
    PAGE,
    "ENOMEM: We don't like addr, because it exceeds the virtual address space of the CPU.",
    sabotage=ONE_MORE,
)
def test_an_address_beyond_the_space_is_enomem(subject: Subject, witness: Witness) -> None:
    with _nothing_is_mapped(subject, witness):
        with subject.refuses("ENOMEM"):
            _raw(subject, "PRIVATE|ANONYMOUS|FIXED", addr=1 << 62)
        with subject.refuses("ENOMEM"):
            _raw(subject, "PRIVATE|ANONYMOUS", length=1 << 62)


@claim("mmap.enomem.2", PAGE, "ENOMEM: No memory is available.", sabotage=committed(+1, at=2))
def test_more_than_there_is_is_enomem(subject: Subject, witness: Witness) -> None:
    charged = witness.committed().pages
    with _nothing_is_mapped(subject, witness), subject.refuses("ENOMEM"):
        subject.mmap(pages=MORE_THAN_ANYONE_HAS // subject.page_size)
    assert witness.committed().pages == charged


@claim(
    "mmap.enomem.3",
    PAGE,
    "ENOMEM: The process's maximum number of mappings would have been exceeded.",
    sabotage=ONE_MORE,
)
def test_too_many_mappings_is_enomem(subject: Subject, witness: Witness) -> None:
    room = subject.mmap(pages=SPARE_MAPPINGS)
    for page in range(1, SPARE_MAPPINGS, 2):
        subject.mprotect(room[page], "none")
    fd, limit = subject.memfd(4), witness.mm(subject).map_count - 1
    with subject.sysctl("vm/max_map_count", limit):
        first, second = witness.mm(subject), None
        with subject.refuses("ENOMEM"):
            subject.mmap(pages=1, prot="r", shared=True, fd=fd)
        second = witness.mm(subject)
    assert (first.total_vm, first.map_count) == (second.total_vm, second.map_count)


@claim(
    "mmap.enomem.4",
    PAGE,
    "ENOMEM: (since Linux 4.7) The process's RLIMIT_DATA limit, described in getrlimit(2), would have been exceeded.",
    sabotage=mm_counter("data_vm", +1, at=2),
)
def test_more_data_than_the_limit_is_enomem(subject: Subject, witness: Witness) -> None:
    data = witness.mm(subject).data_vm
    subject.rlimit("DATA", (data + 4) * subject.page_size)
    with subject.refuses("ENOMEM"):
        subject.mmap(pages=5)
    assert witness.mm(subject).data_vm == data
    subject.mmap(pages=5, prot="r")
    subject.mmap(pages=4)
    assert witness.mm(subject).data_vm == data + 4


@claim(
    "mmap.enomem.5",
    "getrlimit(2)",
    "RLIMIT_AS This is the maximum size of the process's virtual memory (address space). [...] This "
    "limit affects calls to brk(2), mmap(2), and mremap(2), which fail with the error ENOMEM upon "
    "exceeding this limit.",
    sabotage=ONE_MORE,
)
def test_more_space_than_the_limit_is_enomem(subject: Subject, witness: Witness) -> None:
    area, total = subject.mmap(pages=1), witness.mm(subject).total_vm
    subject.rlimit("AS", (total + 3) * subject.page_size)
    with subject.refuses("ENOMEM"):
        subject.mmap(pages=4, prot="none")
    with subject.refuses("ENOMEM"):
        subject.mremap(area, 5)
    assert witness.mm(subject).total_vm == total
    subject.mmap(pages=3, prot="none")
    assert witness.mm(subject).total_vm == total + 3


@claim(
    "mmap.eacces.1",
    PAGE,
    "EACCES [...] a file mapping was requested, but fd is not open for reading.",
    sabotage=ONE_MORE,
)
def test_the_descriptor_must_allow_the_access(subject: Subject, witness: Witness) -> None:
    path = f"/proc/self/fd/{subject.memfd(1)}"
    read, write = subject.open(path, "O_RDONLY"), subject.open(path, "O_WRONLY")
    with _nothing_is_mapped(subject, witness):
        for prot, shared, fd in (
            ("rw", True, read),
            ("r", True, write),
            ("r", False, write),
            ("w", True, write),
        ):
            with subject.refuses("EACCES"):
                subject.mmap(pages=1, prot=prot, shared=shared, fd=fd)


@claim(
    "mmap.eacces.2",
    PAGE,
    "EACCES [...] Or MAP_SHARED was requested and PROT_WRITE is set, but fd is not open in read/write "
    "(O_RDWR) mode.",
    sabotage=entry_bit("writable", set=False),
)
def test_a_private_mapping_needs_to_read_only(subject: Subject, witness: Witness) -> None:
    read = subject.open(f"/proc/self/fd/{subject.memfd(1)}", "O_RDONLY")
    area = subject.mmap(pages=1, prot="rw", fd=read).touch()
    pages = witness.pages(area)
    assert (pages.writable, pages.anon) == (1, 1)


@claim(
    "mmap.ebadf.1",
    PAGE,
    "EBADF: fd is not a valid file descriptor (and MAP_ANONYMOUS was not set).",
    sabotage=ONE_MORE,
)
def test_a_bad_descriptor_is_ebadf(subject: Subject, witness: Witness) -> None:
    with _nothing_is_mapped(subject, witness):
        for fd in (999, -1):
            with subject.refuses("EBADF"):
                _raw(subject, "SHARED", fd=fd)


@claim(
    "mmap.enodev.1",
    PAGE,
    "ENODEV: The underlying filesystem of the specified file does not support memory mapping.",
    sabotage=ONE_MORE,
)
def test_a_file_that_cannot_be_mapped_is_enodev(subject: Subject, witness: Witness) -> None:
    with _nothing_is_mapped(subject, witness):
        for path in ("/proc/self/status", "/proc"):
            with subject.refuses("ENODEV", "EIO"):
                subject.mmap(pages=1, prot="r", fd=subject.open(path, "O_RDONLY"))


@claim(
    "mmap.eagain.1",
    PAGE,
    "EAGAIN: The file has been locked, or too much memory has been locked (see setrlimit(2)).",
    sabotage=ONE_MORE,
)
def test_too_much_locked_memory_is_eagain(subject: Subject, witness: Witness) -> None:
    subject.rlimit("MEMLOCK", 2 * subject.page_size)
    subject.drop_privileges()
    with _nothing_is_mapped(subject, witness), subject.refuses("EAGAIN"):
        subject.mmap(pages=3, locked=True)
    subject.mmap(pages=2, locked=True)
    assert witness.mm(subject).locked_vm == 2


@claim(
    "mmap.eperm.1",
    "mm/mmap.c",
    "MAP_LOCKED without CAP_IPC_LOCK and with RLIMIT_MEMLOCK 0 is EPERM.",
    code="do_mmap(): if (!can_do_mlock())",
    sabotage=ONE_MORE,
)
def test_locking_without_privilege_is_eperm(subject: Subject, witness: Witness) -> None:
    subject.rlimit("MEMLOCK", 0)
    subject.drop_privileges()
    with _nothing_is_mapped(subject, witness), subject.refuses("EPERM"):
        subject.mmap(pages=1, locked=True)


@claim(
    "mmap.eperm.2",
    PAGE,
    "EPERM: The prot argument asks for PROT_EXEC but the mapped area belongs to a file on a filesystem that was "
    "mounted no-exec.",
    sabotage=ONE_MORE,
)
def test_execute_from_a_noexec_mount_is_eperm(subject: Subject, witness: Witness) -> None:
    with subject.file_system("ramfs", MS_NOEXEC) as where:
        fd = subject.open(f"{where}/code", "O_RDWR|O_CREAT")
        subject.ftruncate(fd, 1)
        with _nothing_is_mapped(subject, witness), subject.refuses("EPERM"):
            subject.mmap(pages=1, prot="rx", fd=fd)
        subject.close(fd)


@claim(
    "mmap.eperm.3",
    PAGE,
    "EPERM: The operation was prevented by a file seal; see fcntl(2).",
    sabotage=ONE_MORE,
)
def test_writing_to_a_sealed_file_is_eperm(subject: Subject, witness: Witness) -> None:
    abi, fd = subject.agent.abi, subject.memfd(1, "ALLOW_SEALING")
    subject.call("fcntl", fd, abi["F_ADD_SEALS"], abi["F_SEAL_WRITE"])
    with _nothing_is_mapped(subject, witness), subject.refuses("EPERM"):
        subject.mmap(pages=1, shared=True, fd=fd)


@claim(
    "mmap.eopnotsupp.1",
    PAGE,
    "By contrast, when creating a mapping using MAP_SHARED_VALIDATE, the kernel verifies all passed flags are "
    "known and fails the mapping with the error EOPNOTSUPP for unknown flags.",
    sabotage=ONE_MORE,
)
def test_unknown_flags_are_refused_when_validated(subject: Subject, witness: Witness) -> None:
    fd, unknown = subject.memfd(1), 1 << 24
    validate = subject.agent.abi["MAP_SHARED_VALIDATE"] | unknown
    sync = subject.agent.names.flags("SHARED_VALIDATE|SYNC", "MAP_")
    with _nothing_is_mapped(subject, witness):
        for flags in (validate, sync):
            with subject.refuses("EOPNOTSUPP"):
                subject.call("mmap", 0, subject.page_size, subject.protection("r"), flags, fd, 0)
    area = subject.mmap(pages=1, shared=True, fd=fd, flags=unknown).touch()
    assert witness.pages(area).present == 1


@claim(
    "mmap.eoverflow.1",
    "mm/mmap.c",
    "An offset so large that the end of the mapping wraps is EOVERFLOW.",
    code="do_mmap()",
    sabotage=ONE_MORE,
)
def test_an_offset_that_overflows_is_eoverflow(subject: Subject, witness: Witness) -> None:
    fd, far = subject.memfd(1), (1 << 64) - 2 * subject.page_size
    with _nothing_is_mapped(subject, witness), subject.refuses("EOVERFLOW"):
        subject.mmap(pages=4, prot="r", shared=True, fd=fd, offset=far)
