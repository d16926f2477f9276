"""Conditions under which a subject's calls are made: privileges, limits, settings, file systems, user faults."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from hostwalk.errors import UsageError
from hostwalk.guest import code
from hostwalk.guest.area import Area, Range, span
from hostwalk.guest.failures import SyscallFailed
from hostwalk.guest.operations import Operations
from hostwalk.guest.tap import own_agent, tapped
from hostwalk.target import Arch

NOBODY = 65534
MNT_DETACH = 2
_ENTRY_SIZE = 8
_SYSCTL = "/proc/sys/"
_COMPACT = "/proc/sys/vm/compact_memory"
_THP = "/sys/kernel/mm/transparent_hugepage/enabled"


@tapped(own_agent)
class Conditions(Operations):
    """A subject whose surroundings can be arranged."""

    @property
    def arch(self) -> Arch:
        """The guest's architecture, told by a system call that only one of the two has."""
        return Arch.X86_64 if "__NR_arch_prctl" in self.agent.abi else Arch.ARM64

    @property
    def pmd_size(self) -> int:
        """Bytes that one entry of a pmd maps: PMD_SIZE."""
        return 1 << self.agent.layout["PMD_SHIFT"]

    def across_tables(self, pages: int = 8, prot: str = "rw", *, level: int = 0) -> Area:
        """Map pages of which half are the last of one page table and half the first of the next.

        ``level`` 1 puts them across the border of two pmd tables, 2 of two pud tables; raises SyscallFailed where
        user space has none (ENOMEM).
        """
        size = self.pmd_size << level * ((self.page_size // _ENTRY_SIZE).bit_length() - 1)
        room = self.mmap(pages=2 * size // self.page_size, prot="none", aligned=size)
        middle = room.start + size - pages // 2 * self.page_size
        return self.mmap(pages=pages, prot=prot, fixed_at=middle, replace=True)

    def apart(self, pages: int, prot: str = "rw", *, shared: bool = False, fd: int = -1) -> Area:
        """Map pages between two that nobody may access, so that the mapping has no neighbour to merge with."""
        room = self.mmap(pages=pages + 2, prot="none")
        return self.mmap(pages=pages, prot=prot, shared=shared, fd=fd, fixed_at=room.address(1), replace=True)

    def huge_page(self) -> Area | None:
        """Map and touch what one pmd entry can map; return it if a huge page came of it, else None.

        Transparent huge pages are allowed meanwhile: with less than 512 MiB the kernel starts without them. Memory
        is compacted first, so that whether one can be had does not depend on what went before. With 64 KiB pages one
        takes 512 MiB, which a small machine does not even promise.
        """
        try:
            area = self.mmap(pages=self.pmd_size // self.page_size, aligned=self.pmd_size)
        except SyscallFailed as failed:
            if failed.errno == "ENOMEM":
                return None
            raise
        with self.agent.spawn() as root:
            try:
                old = root.read_file(_THP).split(b"[")[1].split(b"]")[0]
                self.madvise(area, "HUGEPAGE")
                _write_file(root, _THP, b"madvise")
                _write_file(root, _COMPACT, b"1")
            except SyscallFailed:
                return None
            area[:1].touch()
            _write_file(root, _THP, old)
        return area if self.mincore(area[-1]) == (1,) else None

    def drop_privileges(self) -> None:
        """Become nobody: no capability stays, CAP_IPC_LOCK among them."""
        self.call("setresuid", NOBODY, NOBODY, NOBODY)

    def prctl(self, option: str, *args: int) -> int:
        """Make a prctl by the option's name, ``"SET_MDWE"``."""
        padded = (*args, *[0] * (4 - len(args)))
        return self.call("prctl", self.agent.names.number(option, "PR_"), *padded).value

    @contextmanager
    def sysctl(self, name: str, value: int) -> Iterator[int]:
        """Set ``vm/max_map_count`` while the block runs; yields what the kernel then says it is."""
        with self.agent.spawn() as root:
            old = root.read_file(_SYSCTL + name)
            try:
                _write_file(root, _SYSCTL + name, b"%d\n" % value)
                yield int(root.read_file(_SYSCTL + name))
            finally:
                _write_file(root, _SYSCTL + name, old)

    @contextmanager
    def file_system(self, kind: str, flags: int = 0) -> Iterator[str]:
        """Mount an empty file system, ``"ramfs"``, while the block runs; yields where."""
        where = f"/tmp/{kind}-{self.pid}"  # noqa: S108
        with self.agent.spawn() as root:
            root.call(
                "mkdirat", self.agent.abi["AT_FDCWD"], root.scratch, 0o755, payload=where.encode() + b"\0"
            )
            _mount(root, kind, where, flags)
            try:
                yield where
            finally:
                root.call("umount2", root.scratch, MNT_DETACH, payload=where.encode() + b"\0")

    def clear_soft_dirty(self) -> None:
        """Have the kernel forget which pages were written: /proc/self/clear_refs."""
        _write_file(self, "/proc/self/clear_refs", b"4\n")

    def clear_young(self) -> None:
        """Have the kernel forget which pages were accessed: /proc/self/clear_refs."""
        _write_file(self, "/proc/self/clear_refs", b"1\n")

    def pkey_alloc(self, rights: int = 0) -> int:
        """Return a new protection key; ``rights`` are PKEY_DISABLE_ values. Raises SyscallFailed."""
        return self.call("pkey_alloc", 0, rights).value

    def pkey_mprotect(self, place: Range, prot: str, pkey: int) -> None:
        """Change the protection and the protection key of an area."""
        self.call("pkey_mprotect", *span(place), self.protection(prot), pkey)

    def mseal(self, place: Range) -> None:
        """Seal an area against changes."""
        self.call("mseal", *span(place), 0)

    def register_uffd_wp(self, area: Area) -> int | None:
        """Register an area for write-protection by userfaultfd; return its file, None where there is no such mode."""
        try:
            fd = self.call("userfaultfd", self.agent.abi["O_CLOEXEC"]).value
            feature = self.agent.abi["UFFD_FEATURE_PAGEFAULT_FLAG_WP"]
            self._uffd(fd, "UFFDIO_API", self.agent.abi["UFFD_API"], feature, 0)
            mode = self.agent.abi["UFFDIO_REGISTER_MODE_WP"]
            self._uffd(fd, "UFFDIO_REGISTER", area.start, area.length, mode, 0)
        except SyscallFailed as failed:
            if failed.errno in ("EINVAL", "ENOSYS"):
                return None
            raise
        return fd

    def uffd_write_protect(self, fd: int, area: Area, *, protect: bool = True) -> None:
        """Write-protect an area that is registered, or let it be written again."""
        mode = self.agent.abi["UFFDIO_WRITEPROTECT_MODE_WP"] if protect else 0
        self._uffd(fd, "UFFDIO_WRITEPROTECT", area.start, area.length, mode)

    def _uffd(self, fd: int, request: str, *words: int) -> None:
        payload = struct.pack(f"<{len(words)}Q", *words)
        self.call(
            "ioctl", fd, self.agent.abi[request], self.scratch, payload=payload, shown=f"{fd}, {request}"
        )

    def code(self, text: bytes) -> Area:
        """Return a page that holds machine code, ready for :meth:`execute`."""
        if len(text) > self.page_size:
            raise UsageError(f"{len(text)} bytes of code do not fit in a page")
        area = self.mmap(pages=1, prot="rw")
        self.poke(area.start, text)
        self.mprotect(area, "rx")
        return area

    def returning(self) -> bytes:
        """Return the instruction that returns from a function."""
        return code.returning(self.arch)


def _write_file(who: Operations, path: str, data: bytes) -> None:
    fd = who.open(path, "O_WRONLY")
    try:
        who.write(fd, data)
    finally:
        who.close(fd)


def _mount(root: Operations, kind: str, where: str, flags: int) -> None:
    source, target = kind.encode() + b"\0", where.encode() + b"\0"
    root.call(
        "mount", root.scratch, root.scratch + len(source), root.scratch, flags, 0,
        payload=source + target, shown=f"{kind} on {where}",
    )  # fmt: skip
