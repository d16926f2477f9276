"""Address spaces of processes, as the kernel accounts for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hostwalk.errors import WalkError
from hostwalk.linux import maple
from hostwalk.paging import AddressSpace, Walk, walk, with_root
from hostwalk.target import Arch

if TYPE_CHECKING:
    from hostwalk.linux.kernel import Linux

US, NX = 1 << 2, 1 << 63
ACCESS = (("VM_READ", "r"), ("VM_WRITE", "w"), ("VM_EXEC", "x"))
PATH_MAX = 64


@dataclass(frozen=True)
class Rss:
    """The counters of ``mm->rss_stat``, in pages, exact: what is cached per CPU or per task is counted in."""

    file: int
    anon: int
    swap: int
    shmem: int


@dataclass(frozen=True)
class Vma:
    """``struct vm_area_struct``: [start, end), its flags, and its file's path within the file system."""

    address: int
    start: int
    end: int
    flags: int
    page_prot: int
    pgoff: int
    file: str | None
    names: frozenset[str]

    def has(self, *names: str) -> bool:
        """Return whether all of these flags are set: ``vma.has("VM_WRITE", "VM_SHARED")``."""
        return self.names.issuperset(names)

    def __contains__(self, virt_addr: object) -> bool:
        return isinstance(virt_addr, int) and self.start <= virt_addr < self.end

    def __str__(self) -> str:
        access = "".join(letter if name in self.names else "-" for name, letter in ACCESS)
        shared = "s" if self.has("VM_MAYSHARE") else "p"
        other = sorted(name for name in self.names if name[3:] not in _PLAIN)
        return (
            f"{self.start:012x}-{self.end:012x} {access}{shared} {self.file or ''} {' '.join(other)}".rstrip()
        )


_PLAIN = {"READ", "WRITE", "EXEC", "SHARED", "MAYREAD", "MAYWRITE", "MAYEXEC", "MAYSHARE"}


@dataclass(frozen=True)
class Mm:
    """``struct mm_struct *`` at ``address``; ``known_users`` are its tasks, where they are known already."""

    linux: Linux
    address: int
    known_users: tuple[int, ...] | None = None

    def get(self, name: str) -> int:
        """Return an integer member by its name in the kernel: ``mm.get("total_vm")``."""
        return self.linux.member(self.address, "struct mm_struct", name)

    @property
    def pgd(self) -> int:
        """Kernel address of its root table."""
        return self.get("pgd")

    @cached_property
    def pgd_phys(self) -> int:
        """Guest physical address of its root table, found through the kernel's own tables."""
        return self.linux.phys(self.pgd)

    @cached_property
    def space(self) -> AddressSpace:
        """What its user addresses translate to while it runs in user space; raise WalkError."""
        if self.linux.user_space is None:
            raise WalkError("the processor translates no user addresses: no format to walk them with")
        root = self.pgd_phys
        if self._isolated():
            root += self.linux.user_space.format.page_size
        return with_root(self.linux.user_space, root, name=f"mm {self.address:#x}")

    def _isolated(self) -> bool:
        """Return whether there is a second root for user mode: page-table isolation.

        Isolation makes the kernel's own view of user space non-executable in the root (pti_set_user_pgtbl()).
        """
        if self.linux.kernel_space.format.arch is not Arch.X86_64:
            return False
        entries = np.frombuffer(self.linux.memory.read(self.pgd_phys, 2048), dtype="<u8")
        wanted = np.uint64(NX | US | 1)
        return bool(((entries & wanted) == wanted).any())

    def walk(self, virt_addr: int) -> Walk:
        """Walk a user address."""
        return walk(self.linux.memory, self.space, virt_addr)

    @property
    def total_vm(self) -> int:
        """Pages mapped in all."""
        return self.get("total_vm")

    @property
    def locked_vm(self) -> int:
        """Pages in locked mappings."""
        return self.get("locked_vm")

    @property
    def pinned_vm(self) -> int:
        """Pages accounted as pinned for good."""
        return self.get("pinned_vm")

    @property
    def map_count(self) -> int:
        """Mappings."""
        return self.get("map_count")

    @property
    def flags(self) -> int:
        """MMF_ bits."""
        return self.get("flags")

    @property
    def def_flags(self) -> int:
        """Flags that new mappings get: VM_LOCKED after mlockall(MCL_FUTURE)."""
        return self.get("def_flags")

    @property
    def has_pinned(self) -> bool:
        """MMF_HAS_PINNED: whether a page of it was ever pinned."""
        return bool(self.flags >> self.linux.layout["MMF_HAS_PINNED"] & 1)

    @property
    def pgtables_bytes(self) -> int:
        """Bytes of page tables, as accounted."""
        return self.get("pgtables_bytes")

    @property
    def write_protect_seq(self) -> int:
        """Sequence count that fork() raises around write-protecting."""
        at = self.address + self.linux.layout.offsetof("struct mm_struct", "write_protect_seq")
        return self.linux.member(at, "seqcount_t", "sequence")

    @property
    def mmap_lock(self) -> int:
        """The count of mmap_lock: 0 when nobody holds it; -1 on PREEMPT_RT, whose lock has none."""
        if not self.linux.layout.has_member("struct rw_semaphore", "count"):
            return -1
        at = self.address + self.linux.layout.offsetof("struct mm_struct", "mmap_lock")
        return self.linux.member(at, "struct rw_semaphore", "count", signed=True)

    @property
    def rss(self) -> Rss:
        """The counters of resident and swapped pages."""
        layout = self.linux.layout
        names = ("MM_FILEPAGES", "MM_ANONPAGES", "MM_SWAPENTS", "MM_SHMEMPAGES")
        return Rss(*(self._counter(layout[name]) for name in names))

    def _counter(self, index: int) -> int:
        base = self.address + self.linux.layout.offsetof("struct mm_struct", "rss_stat")
        if self.linux.layout["RSS_STAT_IS_PERCPU"]:
            return percpu_sum(self.linux, base + index * self.linux.layout.sizeof("struct percpu_counter"))
        at = base + self.linux.layout.offsetof("struct mm_rss_stat", "count") + 8 * index
        return self.linux.sint(at) + sum(self._cached(index))

    def _cached(self, index: int) -> list[int]:
        """Return what its tasks have not added yet: 6.1's task->rss_stat."""
        layout = self.linux.layout
        if not layout.has_member("struct task_struct", "rss_stat"):
            return []
        offset = layout.offsetof("struct task_struct", "rss_stat")
        offset += layout.offsetof("struct task_rss_stat", "count") + 4 * index
        return [self.linux.sint(task + offset, 4) for task in self._users()]

    def _users(self) -> list[int]:
        """Return the addresses of the tasks that run in it."""
        if self.known_users is not None:
            return list(self.known_users)
        leaders = [task for task in self.linux.tasks() if self._is_of(task.address)]
        return [thread.address for leader in leaders for thread in leader.threads()]

    def _is_of(self, task: int) -> bool:
        return self.linux.member(task, "struct task_struct", "mm") == self.address

    def vmas(self) -> tuple[Vma, ...]:
        """Return its mappings in the order of their addresses."""
        tree = self.address + self.linux.layout.offsetof("struct mm_struct", "mm_mt")
        return tuple(self._vma(entry.value) for entry in maple.entries(self.linux, tree))

    def vma(self, virt_addr: int) -> Vma | None:
        """Return the mapping that holds an address; None when there is none."""
        return next((vma for vma in self.vmas() if virt_addr in vma), None)

    def _vma(self, address: int) -> Vma:
        start, end, flags, prot, pgoff, file = self.linux.members(
            address, "struct vm_area_struct",
            "vm_start", "vm_end", "vm_flags", "vm_page_prot", "vm_pgoff", "vm_file",
        )  # fmt: skip
        names = frozenset(name for name, mask in self.linux.vm_flags.items() if flags & mask)
        path = file_path(self.linux, file) if file else None
        return Vma(address, start, end, flags, prot, pgoff, path, names)


def percpu_sum(linux: Linux, counter: int) -> int:
    """Return the exact value of a ``struct percpu_counter`` at a kernel address."""
    total = linux.member(counter, "struct percpu_counter", "count", signed=True)
    if not linux.layout.has_member("struct percpu_counter", "counters"):
        return total
    parts = linux.member(counter, "struct percpu_counter", "counters")
    return total + sum(linux.sint(linux.per_cpu(parts, cpu), 4) for cpu in linux.cpus())


def file_path(linux: Linux, file: int) -> str:
    """Return the path of a ``struct file *`` within its file system."""
    at = file + linux.layout.offsetof("struct file", "f_path")
    dentry = linux.member(at, "struct path", "dentry")
    parts: list[str] = []
    while len(parts) < PATH_MAX:
        parent = linux.member(dentry, "struct dentry", "d_parent")
        name = dentry + linux.layout.offsetof("struct dentry", "d_name")
        text = linux.string(linux.member(name, "struct qstr", "name"))
        if parent == dentry:
            return "/".join(["" if text == "/" else text, *reversed(parts)])
        parts.append(text)
        dentry = parent
    raise WalkError(f"the path of the file at {file:#x} does not end")
