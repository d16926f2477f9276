"""Pieces of C that exported programs are made of, and the headers that they need."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

_PLACE = Path(__file__).parent / "c"
_DEFINED = re.compile(r"^static [^;=(]*?\b(\w+)(?:\(|\[| =|;)", re.MULTILINE)
_WORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "return short signed sizeof static struct switch typedef union unsigned void volatile while abort abs access atoi "
    "bind close div dup environ errno exit fork free index kept kill link listen log main malloc mincore mlock "
    "mmap mount mprotect mremap msync munmap open page perror pipe printf raise read remove rename select self send "
    "setting signal stat sync syscall system time truncate unlink wait write y0 y1 j0 j1 round i"
)
_HEADERS = {
    "errno.h": "must refused verdict threads", "fcntl.h": "pagemap device settings main", "pthread.h": "threads",
    "semaphore.h": "threads", "setjmp.h": "faulted", "signal.h": "faulted", "stdio.h": "main", "stdlib.h": "main",
    "string.h": "must refused faulted vmflags status kmsg main", "sys/ioctl.h": "gup refcount device",
    "sys/klog.h": "kmsg", "sys/mman.h": "main", "sys/mount.h": "mount", "sys/resource.h": "main",
    "sys/stat.h": "mount", "sys/syscall.h": "main", "sys/wait.h": "endchild", "unistd.h": "main",
}  # fmt: skip

VM_FLAGS = {
    "VM_READ": "rd", "VM_WRITE": "wr", "VM_EXEC": "ex", "VM_SHARED": "sh", "VM_MAYREAD": "mr", "VM_MAYWRITE": "mw",
    "VM_MAYEXEC": "me", "VM_MAYSHARE": "ms", "VM_GROWSDOWN": "gd", "VM_PFNMAP": "pf", "VM_LOCKED": "lo",
    "VM_LOCKONFAULT": "lf", "VM_IO": "io", "VM_SEQ_READ": "sr", "VM_RAND_READ": "rr", "VM_DONTCOPY": "dc",
    "VM_DONTEXPAND": "de", "VM_ACCOUNT": "ac", "VM_NORESERVE": "nr", "VM_HUGETLB": "ht", "VM_SYNC": "sf",
    "VM_DONTDUMP": "dd", "VM_SOFTDIRTY": "sd", "VM_MIXEDMAP": "mm", "VM_HUGEPAGE": "hg", "VM_NOHUGEPAGE": "nh",
    "VM_MERGEABLE": "mg",
}  # fmt: skip
"""What fs/proc/task_mmu.c, show_smap_vma_flags(), writes for a flag."""

STATUS = {
    "locked_vm": "VmLck", "total_vm": "VmSize", "pinned_vm": "VmPin", "rss_anon": "RssAnon", "rss_file": "RssFile",
    "rss_shmem": "RssShmem",
}  # fmt: skip
"""Fields of /proc/self/status, all in kB: fs/proc/task_mmu.c, task_mem()."""

COLUMNS = {"present": "pagemap_present", "pfns": "pagemap_pfn", "refcounts": "refcount"}
"""Columns of a reading that a process can see of itself, with a module's help for the last."""


def taken() -> frozenset[str]:
    """Return the names that a script's values cannot have in a program: the pieces' own, the library's, words of C."""
    return _defined(lambda name: not name.endswith("module.c")) | frozenset(_WORDS.split())


def taken_in_module() -> frozenset[str]:
    """Return the names that a module's pages cannot have."""
    return _defined(lambda name: name.endswith("module.c")) | {"current", "jiffies", "page", "repro_fops"}


def _defined(wanted: Callable[[str], bool]) -> frozenset[str]:
    pieces = (path for path in _PLACE.glob("*.c") if wanted(path.name))
    return frozenset(name for path in pieces for name in _DEFINED.findall(path.read_text(encoding="utf-8")))


def snippet(name: str) -> str:
    """Return one of the pieces."""
    return (_PLACE / name).read_text(encoding="utf-8")


def headers(helpers: set[str]) -> list[str]:
    """Return the headers that some pieces and a main function need."""
    return [name for name, users in _HEADERS.items() if {"main", *helpers} & set(users.split())]


def quoted_bytes(data: bytes) -> str:
    """Return a C string literal of some bytes, without its own end."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in data)
    return f'"{"".join(plain)}"'


def quoted(text: str) -> str:
    """Return a C string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
