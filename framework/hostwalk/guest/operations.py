"""The system calls of memory management, in the words of their manual pages.

A call that fails raises SyscallFailed; ``with subject.refuses("EINVAL"):`` expects that.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hostwalk.errors import UsageError
from hostwalk.guest.area import Area, Range, span
from hostwalk.guest.process import Process
from hostwalk.guest.tap import own_agent, tapped

_PROTECTIONS = {"r": "PROT_READ", "w": "PROT_WRITE", "x": "PROT_EXEC"}
_READ_SIZE = 1 << 16
_PAGEMAP_ENTRY = 8


@dataclass(frozen=True)
class Rss:
    """Resident memory by kind, in bytes, as /proc/self/status says."""

    anon: int
    file: int
    shmem: int


@tapped(own_agent)
class Operations(Process):
    """System calls of a subject."""

    def mmap(
        self,
        pages: int = 1,
        prot: str = "rw",
        *,
        shared: bool = False,
        fd: int = -1,
        offset: int = 0,
        populate: bool = False,
        locked: bool = False,
        hugetlb: bool = False,
        growsdown: bool = False,
        fixed_at: int | None = None,
        replace: bool = False,
        aligned: int = 0,
        flags: int = 0,
    ) -> Area:
        """Map ``pages`` base pages; anonymous without ``fd``. ``offset`` is in bytes.

        ``fixed_at`` refuses to replace a mapping unless ``replace``; ``aligned`` is the alignment of the
        start in bytes. ``flags`` are more MAP_ values.
        """
        wanted = {
            "MAP_POPULATE": populate, "MAP_LOCKED": locked, "MAP_HUGETLB": hugetlb,
            "MAP_GROWSDOWN": growsdown, "MAP_ANONYMOUS": fd < 0,
            "MAP_FIXED": fixed_at is not None and replace,
            "MAP_FIXED_NOREPLACE": (fixed_at is not None or aligned > 0) and not replace,
            "MAP_SHARED": shared, "MAP_PRIVATE": not shared,
        }  # fmt: skip
        for name in (name for name, on in wanted.items() if on):
            flags |= self.agent.abi[name]
        length = pages * self.page_size
        start = self._hole(length, aligned) if aligned else fixed_at or 0
        reply = self.call("mmap", start, length, self.protection(prot), flags, fd, offset)
        return self.area(reply.value, pages)

    def area(self, start: int, pages: int) -> Area:
        """Return an area of base pages at an address."""
        return Area(self, start, pages, self.page_size)

    def protection(self, prot: str) -> int:
        """Return the PROT_ bits of ``"none"`` or of letters of ``"rwx"``."""
        unknown = set(prot) - set(_PROTECTIONS) if prot != "none" else set()
        if unknown:
            raise UsageError(
                f"protection {prot!r} has unknown letters", remedy='use "none" or letters of "rwx"'
            )
        return sum(self.agent.abi[_PROTECTIONS[letter]] for letter in prot if prot != "none")

    def munmap(self, place: Range) -> None:
        """Unmap an area, or (address, bytes)."""
        self.call("munmap", *span(place))

    def mprotect(self, place: Range, prot: str) -> None:
        """Change the protection of an area, or of (address, bytes)."""
        self.call("mprotect", *span(place), self.protection(prot))

    def mlock(self, place: Range) -> None:
        """Lock pages."""
        self.call("mlock", *span(place))

    def mlock2(self, place: Range, *, onfault: bool = False) -> None:
        """Lock pages, those that are not there yet when they come."""
        self.call("mlock2", *span(place), self.agent.abi["MLOCK_ONFAULT"] if onfault else 0)

    def munlock(self, place: Range) -> None:
        """Unlock pages."""
        self.call("munlock", *span(place))

    def mlockall(self, *which: str) -> None:
        """Lock all: any of ``"current"``, ``"future"``, ``"onfault"``."""
        self.call("mlockall", sum(self.agent.names.number(name, "MCL_") for name in which))

    def munlockall(self) -> None:
        """Unlock all."""
        self.call("munlockall")

    def madvise(self, place: Range, advice: str) -> None:
        """Give advice: ``"DONTNEED"``."""
        self.call("madvise", *span(place), self.agent.names.number(advice, "MADV_"))

    def msync(self, place: Range, flags: str = "SYNC") -> None:
        """Write back: ``"SYNC"``, ``"ASYNC"``, ``"SYNC|INVALIDATE"``."""
        self.call("msync", *span(place), self.agent.names.flags(flags, "MS_"))

    def mremap(
        self,
        area: Area,
        pages: int,
        *,
        may_move: bool = True,
        fixed_at: int | None = None,
        dont_unmap: bool = False,
    ) -> Area:
        """Resize or move a mapping; return where it is."""
        flags = self.agent.abi["MREMAP_MAYMOVE"] if may_move or fixed_at is not None else 0
        flags |= self.agent.abi["MREMAP_DONTUNMAP"] if dont_unmap else 0
        flags |= self.agent.abi["MREMAP_FIXED"] if fixed_at is not None else 0
        reply = self.call("mremap", area.start, area.length, pages * area.page_size, flags, fixed_at or 0)
        return self.area(reply.value, pages)

    def mincore(self, area: Area) -> tuple[int, ...]:
        """Return one number per page: bit 0 says that it is resident."""
        reply = self.call("mincore", area.start, area.length, self.scratch, reply=area.pages)
        return tuple(reply.payload)

    def memfd(self, pages: int = 0, flags: str = "") -> int:
        """Return a file of ``pages`` pages without a name; ``flags`` such as ``"HUGETLB"``."""
        value = self.agent.names.flags(flags, "MFD_") if flags else 0
        fd = self.call(
            "memfd_create", self.scratch, value, payload=b"hostwalk\0", shown=f'"hostwalk", {value}'
        ).value
        if pages:
            self.ftruncate(fd, pages)
        return fd

    def ftruncate(self, fd: int, pages: int) -> None:
        """Set the size of a file, in pages."""
        self.call("ftruncate", fd, pages * self.page_size)

    def open(self, path: str, flags: str = "O_RDWR") -> int:
        """Open a file; ``flags`` such as ``"O_RDWR|O_CREAT"`` (mode 0600). Return its descriptor."""
        directory, value = self.agent.abi["AT_FDCWD"], self.agent.names.flags(flags, "O_")
        payload = path.encode() + b"\0"
        return self.call(
            "openat", directory, self.scratch, value, 0o600, payload=payload, shown=f'"{path}", {flags}'
        ).value

    def close(self, fd: int) -> None:
        """Close a file."""
        self.call("close", fd)

    def read(self, fd: int, size: int, offset: int | None = None) -> bytes:
        """Return up to ``size`` bytes of a file, from ``offset`` or from where it stands."""
        where = ("read",) if offset is None else ("pread64", offset)
        reply = self.call(str(where[0]), fd, self.scratch, size, *[int(at) for at in where[1:]], reply=size)
        return reply.payload[: reply.value]

    def write(self, fd: int, data: bytes) -> int:
        """Write bytes to a file; return how many were taken."""
        return self.call("write", fd, self.scratch, len(data), payload=data).value

    def read_file(self, path: str) -> bytes:
        """Return what is in a file, such as one in /proc."""
        fd = self.open(path, "O_RDONLY")
        parts = [self.read(fd, _READ_SIZE)]
        while parts[-1]:
            parts.append(self.read(fd, _READ_SIZE))
        self.close(fd)
        return b"".join(parts)

    def rlimit(self, name: str, soft: int, hard: int | None = None) -> None:
        """Set a resource limit, ``"MEMLOCK"``; a hard limit that is not given is the soft one."""
        limit = struct.pack("<QQ", soft, soft if hard is None else hard)
        resource = self.agent.names.number(name, "RLIMIT_")
        self.call("prlimit64", 0, resource, self.scratch, 0, payload=limit, shown=f"{name}, {soft}")

    def pagemap(self, area: Area) -> tuple[int, ...]:
        """Return the guest's own view of each page: /proc/self/pagemap, one 64-bit entry per page."""
        fd = self.open("/proc/self/pagemap", "O_RDONLY")
        where = area.start // self.page_size * _PAGEMAP_ENTRY
        data = self.read(fd, area.pages * _PAGEMAP_ENTRY, where)
        self.close(fd)
        return struct.unpack(f"<{len(data) // _PAGEMAP_ENTRY}Q", data)

    def status_fields(self) -> dict[str, str]:
        """Return the fields of /proc/self/status."""
        lines = self.read_file("/proc/self/status").decode().splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name: value.strip() for name, _, value in pairs}

    def rss(self) -> Rss:
        """Return resident memory as /proc/self/status says; before 6.2 that may lag 64 faults behind."""
        fields = self.status_fields()
        return Rss(*(int(fields[name].split()[0]) << 10 for name in ("RssAnon", "RssFile", "RssShmem")))

    def settle(self) -> None:
        """Have the kernel empty its per-CPU batches of pages, whose references would blur what is read.

        migrate_pages(2) from a node to itself moves nothing, but begins with lru_cache_disable(), which
        drains every CPU (mm/mempolicy.c). A kernel without NUMA drains the current CPU in madvise(MADV_COLD).
        """
        node = struct.pack("<Q", 1)
        moved = self.syscall("migrate_pages", 0, 2, self.scratch, self.scratch, payload=node)
        if moved.errno is not None:
            page = self.mmap(pages=1)
            self.madvise(page, "COLD")
            self.munmap(page)

    def _hole(self, length: int, alignment: int) -> int:
        around = self.call(
            "mmap", 0, length + alignment, 0, self.agent.names.flags("PRIVATE|ANONYMOUS", "MAP_"), -1, 0
        )
        self.call("munmap", around.value, length + alignment)
        return -(-around.value // alignment) * alignment
