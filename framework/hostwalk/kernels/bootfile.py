"""Kernel boot files: what a file is, for which architecture, and the kernel proper inside it.

Formats: x86 bzImage (Documentation/arch/x86/boot.rst), arm64 Image (Documentation/arch/arm64/booting.rst)
raw or gzipped, EFI zboot (drivers/firmware/efi/libstub/zboot-header.S), ELF vmlinux.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import Enum

from hostwalk.errors import ResolveError
from hostwalk.kernels import compression
from hostwalk.target import Arch

_VERSION = re.compile(rb"Linux version (\d+\.\d+[^\s\0]{0,120}) ")
_EM = {62: Arch.X86_64, 183: Arch.ARM64}
_EM_NAMES = {3: "32-bit x86", 40: "32-bit arm", 243: "riscv", 21: "ppc64", 22: "s390", 258: "loongarch"}
_PE_MACHINES = {0x8664: Arch.X86_64, 0xAA64: Arch.ARM64}


class Format(Enum):
    """What a boot file is."""

    BZIMAGE = "x86 bzImage"
    IMAGE = "arm64 Image"
    ZBOOT = "EFI zboot image"
    ELF = "ELF vmlinux"
    GZIP = "gzipped arm64 Image"


@dataclass(frozen=True)
class BootFile:
    """A boot file that was recognised; ``name`` says which, for messages."""

    name: str
    format: Format
    arch: Arch
    data: bytes

    @classmethod
    def parse(cls, data: bytes, name: str, wanted: Arch) -> BootFile:
        """Recognise a boot file; raise ResolveError for another architecture's, a truncated or no kernel."""
        try:
            found = _recognise(data)
        except struct.error:
            found = None
        if found is None:
            raise ResolveError(
                f"{name} is not a Linux kernel: it is {_what(data)}",
                remedy=f"give {_KINDS[wanted]} for {wanted}",
            )
        format_, arch = found
        if arch is not wanted:
            raise ResolveError(
                f"{name} is a kernel for {arch} ({format_.value}), but {wanted} was wanted",
                remedy=f"give {_KINDS[wanted]}, or choose --arch {arch}" if isinstance(arch, Arch) else "",
            )
        boot = cls(name, format_, arch, data)
        missing = boot.bytes_needed() - len(data)
        if missing > 0:
            raise boot.damaged(f"it ends {missing} bytes too early")
        return boot

    def bytes_needed(self) -> int:
        """Return how long the file says that it must be; 0 if it does not say."""
        try:
            needed = _NEEDED.get(self.format)
            return needed(self.data) if needed else 0
        except struct.error as error:
            raise self.damaged("its header ends too early") from error

    def kernel(self) -> bytes:
        """Return the kernel proper: an ELF file or a raw Image. Raises ResolveError for a damaged file."""
        try:
            match self.format:
                case Format.BZIMAGE:
                    return compression.decompress(*_bzimage_payload(self.data))
                case Format.ZBOOT:
                    return compression.decompress(_zboot_payload(self.data))
                case Format.GZIP:
                    return compression.decompress(self.data)
                case _:
                    return self.data
        except (compression.DamagedError, struct.error) as error:
            raise self.damaged(str(error)) from error

    def release(self, kernel: bytes | None = None) -> str:
        """Return what ``uname -r`` says in this kernel; raises ResolveError if it does not name itself."""
        if self.format is Format.BZIMAGE and (release := _bzimage_release(self.data)):
            return release
        found = _VERSION.search(self.kernel() if kernel is None else kernel)
        if found is None:
            raise self.damaged("it does not say which version of Linux it is")
        return found[1].decode("ascii", "replace")

    def damaged(self, why: str) -> ResolveError:
        """Return the error for a file of this format that cannot be right."""
        return ResolveError(
            f"{self.name} is a damaged {self.format.value}: {why}",
            remedy="copy, fetch or build the kernel again",
        )


_KINDS = {Arch.X86_64: "an x86 bzImage or vmlinux", Arch.ARM64: "an arm64 Image (raw, gzipped or EFI zboot)"}


def elf_machine(head: bytes) -> Arch | str:
    """Return what an ELF file is built for, by its first 20 bytes at least: an architecture of ours, else its name.

    ``e_machine`` of the header, elf(5).
    """
    machine = _u16(head, 18)
    return _EM.get(machine, _EM_NAMES.get(machine, f"ELF machine {machine}"))


def _recognise(data: bytes) -> tuple[Format, Arch | str] | None:
    if data[:4] == b"\x7fELF" and len(data) >= 64:
        return Format.ELF, elf_machine(data)
    if data[0x202:0x206] == b"HdrS" and data[0x1FE:0x200] == b"\x55\xaa":
        is_64 = _u16(data, 0x206) >= 0x20C and _u16(data, 0x236) & 1
        return Format.BZIMAGE, Arch.X86_64 if is_64 else "32-bit x86"
    if data[0x38:0x3C] == b"ARM\x64":
        return Format.IMAGE, Arch.ARM64
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        machine = _pe_machine(data)
        return Format.ZBOOT, _PE_MACHINES.get(machine, f"PE machine {machine:#x}")
    if data[:2] == b"\x1f\x8b":
        head = compression.inflate_head(data, 64)
        return (Format.GZIP, Arch.ARM64) if head[0x38:0x3C] == b"ARM\x64" else None
    return None


def _what(data: bytes) -> str:
    """Say in a few words what a file that is no kernel seems to be."""
    if not data:
        return "empty"
    if not any(data[:4096]):
        return "full of zeros"
    if data[:8] == b"!<arch>\n":
        return "an archive (a .deb needs that ending)"
    if data[:2] == b"\x1f\x8b":
        return "gzip data without an arm64 Image in it"
    if len(data) < 4096:
        return f"only {len(data)} bytes"
    return f"data that starts with {data[:4].hex(' ')}"


def _bzimage_needed(data: bytes) -> int:
    return _bzimage_setup(data) + _u32(data, 0x1F4) * 16


def _bzimage_setup(data: bytes) -> int:
    return ((data[0x1F1] or 4) + 1) * 512


def _bzimage_payload(data: bytes) -> tuple[bytes, int]:
    """Return the compressed kernel, and its bytes when decompressed, which the last four bytes tell."""
    start = _bzimage_setup(data) + _u32(data, 0x248)
    payload = data[start : start + _u32(data, 0x24C)]
    if len(payload) < 64:
        raise compression.DamagedError("it holds no compressed kernel")
    return payload, _u32(payload, len(payload) - 4)


def _bzimage_release(data: bytes) -> str:
    start = _u16(data, 0x20E) + 0x200
    text = data[start : start + 256].split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")
    return text if re.fullmatch(r"\d+\.\d+[\x21-\x7e]*", text) else ""


def _zboot_payload(data: bytes) -> bytes:
    offset, size = struct.unpack_from("<II", data, 8)
    return data[offset : offset + size]


def _zboot_needed(data: bytes) -> int:
    offset, size = struct.unpack_from("<II", data, 8)
    return int(offset + size)


def _image_needed(data: bytes) -> int:
    """Return the end of the last section in the Image's PE header, which an Image with an EFI stub has."""
    pe = _u32(data, 0x3C)
    if data[:2] != b"MZ" or data[pe : pe + 4] != b"PE\0\0":
        return 64
    count, optional = _u16(data, pe + 6), _u16(data, pe + 20)
    headers = (pe + 24 + optional + 40 * number for number in range(count))
    return max((_u32(data, at + 16) + _u32(data, at + 20) for at in headers), default=0)


def _elf_needed(data: bytes) -> int:
    """Return the end of the last segment and of the section headers."""
    phoff, shoff = struct.unpack_from("<QQ", data, 32)
    phentsize, phnum, shentsize, shnum = struct.unpack_from("<HHHH", data, 54)
    ends = [shoff + shentsize * shnum]
    for number in range(phnum):
        offset, _, _, size = struct.unpack_from("<QQQQ", data, phoff + number * phentsize + 8)
        ends.append(offset + size)
    return int(max(ends))


def _pe_machine(data: bytes) -> int:
    return _u16(data, _u32(data, 0x3C) + 4)


def _u16(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("<H", data, offset)[0])


def _u32(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("<I", data, offset)[0])


_NEEDED = {
    Format.BZIMAGE: _bzimage_needed,
    Format.IMAGE: _image_needed,
    Format.ZBOOT: _zboot_needed,
    Format.ELF: _elf_needed,
}
