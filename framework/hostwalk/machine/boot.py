"""Which file QEMU boots: the kernel's boot file, or what is inside it where that boots faster or at all."""

from __future__ import annotations

import io
import os
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from hostwalk.cache import Cache
from hostwalk.kernels.bootfile import BootFile, Format
from hostwalk.target import Arch, Target

IMAGE_MAGIC = b"ARM\x64"
IMAGE_MAGIC_AT = 0x38
XEN_ELFNOTE = 18
INNER = "kernel"
_UNPACKED = {Arch.X86_64: (Format.BZIMAGE,), Arch.ARM64: (Format.ZBOOT, Format.GZIP)}


def boot_file(target: Target, boot: Path, identity: str, cache: Cache | None = None) -> Path:
    """Return the file for QEMU's ``-kernel``.

    An x86-64 kernel that has a PVH entry is unpacked once on the host, which takes a second less under TCG
    than to have the guest do it. KASLR and five levels are the unpacker's work, so these targets boot the
    file as it is. QEMU 7.2 knows no EFI zboot images, so their inside is booted. ``identity`` tells kernels
    apart. Raises CacheError, ResolveError for a damaged file.
    """
    if not _is_unpacked(target, boot):
        return boot
    entry = (cache or Cache.user()).entry(
        "boot", identity, lambda directory: _unpack(target.arch, boot, directory)
    )
    inner = entry / INNER
    return inner if inner.exists() else boot


def has_pvh_entry(kernel: bytes) -> bool:
    """Say whether an ELF kernel can be entered as Documentation/arch/x86/pvh (Xen's ABI) describes."""
    notes = (
        note
        for segment in ELFFile(io.BytesIO(kernel)).iter_segments()
        if isinstance(segment, NoteSegment)
        for note in segment.iter_notes()
        if note["n_name"] == "Xen"
    )
    return any(str(note["n_type"]) == str(XEN_ELFNOTE) for note in notes)


def _is_unpacked(target: Target, boot: Path) -> bool:
    if target.arch is Arch.X86_64:
        return target.format == "4level" and not target.kaslr
    with boot.open("rb") as file:
        head = os.pread(file.fileno(), IMAGE_MAGIC_AT + len(IMAGE_MAGIC), 0)
    return head[IMAGE_MAGIC_AT:] != IMAGE_MAGIC


def _unpack(arch: Arch, boot: Path, directory: Path) -> None:
    """Put the kernel proper into the directory, or nothing where the boot file serves better."""
    file = BootFile.parse(boot.read_bytes(), str(boot), arch)
    if file.format in _UNPACKED[arch]:
        kernel = file.kernel()
        if arch is Arch.ARM64 or has_pvh_entry(kernel):
            (directory / INNER).write_bytes(kernel)
