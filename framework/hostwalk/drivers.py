"""Kernel modules of a user's own in a running target: checked on the host, loaded, and what the kernel says of them."""

from __future__ import annotations

import re
from pathlib import Path

from hostwalk.cell import Cell
from hostwalk.errors import UsageError
from hostwalk.guest import Subject
from hostwalk.guest.failures import SyscallFailed
from hostwalk.kernels.bootfile import elf_machine
from hostwalk.machine.reports import STAMP
from hostwalk.target import Arch

_ELF, _HEAD = b"\x7fELF", 20
_RELOCATABLE = 1
_PACKED = {b"\xfd7zXZ": "xz -dk", b"\x28\xb5\x2f\xfd": "zstd -dk", b"\x1f\x8b": "gzip -dk"}
_REMEDIES = (
    ("version magic", "build it for this kernel: --module DIR does, where DIR has its Kbuild"),
    ("disagrees about version of symbol", "build it for this kernel: --module DIR does, where DIR has its Kbuild"),
    ("Unknown symbol", "load first what exports it (--module may be repeated), or see whether this kernel does"),
    ("Key was rejected", "this kernel takes signed modules only"),
)  # fmt: skip
_KERNELS = ("ENOEXEC", "ENOMEM", "EPERM", "EKEYREJECTED", "ENOENT", "EFAULT")
"""What the kernel itself refuses a module with; all else is, most likely, what the module's init function returned."""
_BY_ERRNO = {
    "EEXIST": "see /proc/modules: it is loaded already, or a part of the kernel",
    "ENODEV": "see its init function, which returned that: it found no device",
    "EINVAL": "see its init function, which returned that, or its parameters, which may not be what was given",
}


class ModuleRefusedError(SyscallFailed):
    """The kernel did not load a module: ``said`` are its own lines, empty where it printed none."""

    def __init__(self, call: str, errno: str, name: str, said: str) -> None:
        others = "" if said or errno in _KERNELS else "see its init function, which most likely returned that"
        remedy = next((text for words, text in _REMEDIES if words in said), _BY_ERRNO.get(errno, others))
        super().__init__(call, errno, remedy)
        words = said or "and the kernel does not say why"
        self.message = (
            f"{name} cannot be loaded: {errno}: {words}"
            if said
            else f"{name} cannot be loaded: {errno}, {words}"
        )
        self.said = said


def check(file: Path, arch: Arch) -> None:
    """Raise UsageError for a file that is no kernel module of an architecture: nothing need boot to tell."""
    try:
        with file.open("rb") as source:
            head = source.read(_HEAD)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    unpack = next((command for magic, command in _PACKED.items() if head.startswith(magic)), "")
    if unpack:
        raise UsageError(f"{file} is compressed", remedy=f"unpack it: {unpack} {file}")
    if len(head) < _HEAD or not head.startswith(_ELF) or head[16] != _RELOCATABLE:
        raise UsageError(f"{file} is no kernel module: a module is an ELF object file, .ko")
    built = elf_machine(head)
    if built != arch:
        raise UsageError(
            f"{file} is built for {built}, the guest is {arch}", remedy="build it for that, or choose --arch"
        )


def load(
    cell: Cell,
    loader: Subject,
    file: Path,
    params: str = "",
    *,
    unpacked: bytes | None = None,
    shown: str = "",
) -> str:
    """Load a module by a process of the guest; return its name. Raises ModuleRefusedError, UsageError.

    ``unpacked`` is what the file holds, where that is compressed; ``shown`` is what an error calls it.
    """
    mark = cell.machine.console.printed
    try:
        return loader.load_module(file if unpacked is None else unpacked, params)
    except SyscallFailed as failed:
        said = said_since(cell, mark)
        raise ModuleRefusedError(failed.call, failed.errno, shown or file.name, said) from failed


def said_since(cell: Cell, mark: int) -> str:
    """Return what the kernel has printed since a mark of the console, on one line, without its time stamps."""
    lines = (STAMP.sub("", line).strip() for line in cell.machine.console.since(mark).splitlines())
    return "; ".join(line for line in lines if line and not re.fullmatch(r"[-=\s]*", line))


def unload(cell: Cell, names: list[str]) -> tuple[str, ...]:
    """Unload modules, the last one first; return why each that is still there is: one that is gone is none."""
    left = []
    with cell.agent.spawn() as unloader:
        for name in reversed(names):
            try:
                unloader.unload_module(name)
            except SyscallFailed as failed:
                if failed.errno != "ENOENT":
                    left.append(f"module {name} is not unloaded: {_WHY.get(failed.errno, failed.errno)}")
    return tuple(left)


_WHY = {
    "EAGAIN": "it is in use",
    "EWOULDBLOCK": "it is in use",
    "EBUSY": "it has no exit function, or is not ready",
}
