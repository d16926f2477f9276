"""vmlinux files that a user gives to a debugger: whether they are of the kernel that runs, and have what is needed."""

from __future__ import annotations

from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

from hostwalk.errors import UsageError
from hostwalk.kernels.bootfile import BootFile
from hostwalk.kernels.kernel import Kernel

_TYPES = (".debug_info", ".zdebug_info")


def require_debug_file(path: Path, kernel: Kernel, *, types: bool) -> None:
    """Raise UsageError unless ``path`` is the vmlinux of a kernel; with ``types`` it must have debug information.

    A build has an ID (gcc's ``--build-id``, ld(1)), which lies in the vmlinux and in what is booted.
    """
    package = f"linux-image-{kernel.release}-dbg"
    where = f"give the vmlinux of this very build: of its tree, or of Debian's package {package}"
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            build, named = _build_id(elf), any(elf.get_section_by_name(name) for name in _TYPES)
    except OSError as error:
        raise UsageError(f"--vmlinux {path} cannot be read: {error.strerror}", remedy=where) from error
    except ELFError as error:
        raise UsageError(f"--vmlinux {path} is no vmlinux: {error}", remedy=where) from error
    boot = BootFile.parse(kernel.boot.read_bytes(), str(kernel.boot), kernel.arch)
    if not build or build not in boot.kernel():
        shown = f"its build ID is {build.hex()[:12]}" if build else "it has no build ID"
        raise UsageError(f"--vmlinux {path} is of another kernel: {shown}", remedy=where)
    if types and not named:
        raise UsageError(
            f"--vmlinux {path} has no debug information",
            remedy="give one that was built with CONFIG_DEBUG_INFO, or none: symbols and memory serve then",
        )


def _build_id(elf: ELFFile) -> bytes:
    """Return the build ID in the notes of an ELF file; b"" where there is none."""
    for section in elf.iter_sections():
        for note in section.iter_notes() if isinstance(section, NoteSection) else ():
            if (note["n_name"], note["n_type"]) == ("GNU", "NT_GNU_BUILD_ID"):
                return bytes.fromhex(note["n_desc"])
    return b""
