"""Points to stop a process at by name, and how a call that was seen there reads. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hostwalk.errors import UsageError
from hostwalk.guest.names import Names
from hostwalk.guest.process import word
from hostwalk.target import Arch

WRAPPER = {Arch.X86_64: "__x64_sys_", Arch.ARM64: "__arm64_sys_"}
"""What the kernel calls the function of a system call (arch/*/include/asm/syscall_wrapper.h); it takes a pt_regs."""
PLACES = {Arch.X86_64: (112, 104, 96, 56, 72, 64), Arch.ARM64: (0, 8, 16, 24, 32, 40)}
"""Where the arguments of a system call lie in struct pt_regs (asm/ptrace.h of the UAPI, which is fixed)."""
FRAME_SIZE = 120
EXIT = "do_exit"
FORKS = ("clone", "clone3", "fork", "vfork")
CALLS = (
    "mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "mlock", "munlock", "mlock2", "mlockall", "munlockall",
    "pkey_mprotect", "remap_file_pages", "shmat", "shmdt", "execve", "execveat", *FORKS,
)  # fmt: skip
"""The system calls that alter an address space; a kernel need not have them all."""
SIGNATURES = {
    "mmap": "xxPMdx", "munmap": "xx", "mprotect": "xxP", "mremap": "xxxRx", "madvise": "xxA", "brk": "x",
    "mlock": "xx", "munlock": "xx", "mlock2": "xxL", "mlockall": "C", "munlockall": "", "pkey_mprotect": "xxPd",
    "remap_file_pages": "xxPxM", "shmat": "dxx", "shmdt": "x", "execve": "xxx", "execveat": "dxxxx", "clone": "xxxxx",
    "clone3": "xx", "fork": "", "vfork": "", "msync": "xxS", "mincore": "xxx",
}  # fmt: skip
PREFIXES = {"P": "PROT_", "M": "MAP_", "A": "MADV_", "R": "MREMAP_", "L": "MLOCK_", "C": "MCL_", "S": "MS_"}
EXACT = "A"
_NOT_FLAGS = ("MAP_TYPE", "MAP_HUGE_", "PROT_NONE")
FUNCTION_ARGUMENTS = 4


@dataclass(frozen=True)
class Point:
    """A function of the kernel to stop at; ``is_call``: it is that of a system call, else any other."""

    name: str
    address: int
    is_call: bool = False


@dataclass(frozen=True)
class Call:
    """What was called, and what it returned when it has; arguments of a system call are its own, else registers."""

    name: str
    arguments: tuple[int, ...]
    is_call: bool
    result: int | None = None


def points(names: Iterable[str], arch: Arch, symbols: Mapping[str, int]) -> tuple[Point, ...]:
    """Return the points that names mean, of system calls or of functions; raises UsageError for one that is neither."""
    return tuple(_point(name, arch, symbols) for name in names)


def default_points(arch: Arch, symbols: Mapping[str, int]) -> tuple[Point, ...]:
    """Return the points of those of ``CALLS`` that a kernel has."""
    return points((name for name in CALLS if WRAPPER[arch] + name in symbols), arch, symbols)


def _point(name: str, arch: Arch, symbols: Mapping[str, int]) -> Point:
    if WRAPPER[arch] + name in symbols:
        return Point(name, symbols[WRAPPER[arch] + name], is_call=True)
    if name in symbols:
        return Point(name, symbols[name])
    raise UsageError(
        f"this kernel has neither a system call nor a function {name!r} to stop at",
        remedy="name one as System.map has it; the compiler may have put a static one into its callers",
    )


def arguments_in(frame: bytes, arch: Arch) -> tuple[int, ...]:
    """Return the six arguments in the first ``FRAME_SIZE`` bytes of a system call's struct pt_regs."""
    return tuple(struct.unpack_from("<Q", frame, place)[0] for place in PLACES[arch])


def shown(call: Call, abi: Mapping[str, int]) -> str:
    """Return a call as source: ``mprotect(0x7ffff7ff5000, 0x4000, PROT_READ) = 0``."""
    if call.is_call:
        kinds = SIGNATURES.get(call.name, "x" * len(call.arguments))
        given = [_argument(kind, value, abi) for kind, value in zip(kinds, call.arguments, strict=False)]
    else:
        given = [word(value) for value in call.arguments[:FUNCTION_ARGUMENTS]]
    text = f"{call.name}({', '.join(given)})"
    if call.result is None:
        return text
    errno = Names(abi).errno(call.result & (1 << 64) - 1) if call.is_call else None
    return f"{text} = {errno or word(call.result)}"


def _argument(kind: str, value: int, abi: Mapping[str, int]) -> str:
    if kind in PREFIXES:
        return _flags(PREFIXES[kind], value, abi, exact=kind == EXACT)
    if kind == "d":
        low = value & 0xFFFFFFFF
        return str(low - (1 << 32) if low >> 31 else low)
    return hex(value) if value else "0"


def _flags(prefix: str, value: int, abi: Mapping[str, int], *, exact: bool) -> str:
    """Return flags by their names, what has none as a number."""
    known = {key: abi[key] for key in abi if key.startswith(prefix)}
    whole = [key for key, number in known.items() if number == value and not key.startswith(_NOT_FLAGS[:2])]
    if exact or (whole and not value):
        return whole[0] if whole else word(value)
    words, left = [], value
    for key, number in sorted(known.items(), key=lambda item: item[1]):
        if number and number.bit_count() == 1 and left & number and not key.startswith(_NOT_FLAGS):
            words.append(key)
            left &= ~number
    return "|".join([*words, *([hex(left)] if left or not words else [])])
