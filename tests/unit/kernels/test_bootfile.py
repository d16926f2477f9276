import bz2
import lzma
import os
import struct
import zlib
from collections.abc import Callable

import lz4.block
import pytest
import zstandard

from hostwalk.errors import ResolveError
from hostwalk.kernels import compression
from hostwalk.kernels.bootfile import BootFile, Format
from hostwalk.target import Arch

VERSION = b"Linux version 6.12.0-test (root@build) #1 SMP\n"


def elf(machine: int = 62, size: int = 8192) -> bytes:
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 1 << 63, 0, size, size, 4096)
    return (header + segment + VERSION).ljust(size, b"\x90")


def lz4_legacy(data: bytes) -> bytes:
    block = lz4.block.compress(data, store_size=False)
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


def gzip_of(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip_of,
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4_legacy,
}


def bzimage(kernel: bytes, packer: str = "zstd", xloadflags: int = 1) -> bytes:
    payload = PACKERS[packer](kernel)
    payload += b"" if packer == "gzip" else struct.pack("<I", len(kernel))
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    setup[0x1FE:0x206] = b"\x55\xaa\xeb\x00HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    struct.pack_into("<H", setup, 0x20E, 0x400)
    struct.pack_into("<H", setup, 0x236, xloadflags)
    struct.pack_into("<II", setup, 0x248, 32, len(payload))
    setup[0x600:0x620] = b"6.12.0-header (me) #1".ljust(32, b"\0")
    body = bytes(32) + payload
    body += bytes(-len(body) % 16)
    struct.pack_into("<I", setup, 0x1F4, len(body) // 16)
    return bytes(setup) + body


def arm64_image(size: int = 8192) -> bytes:
    data = bytearray(size)
    data[0:2] = b"MZ"
    data[0x38:0x3C] = b"ARM\x64"
    struct.pack_into("<I", data, 0x3C, 0x40)
    data[0x40:0x44] = b"PE\0\0"
    struct.pack_into("<HH", data, 0x44, 0xAA64, 1)
    struct.pack_into("<H", data, 0x54, 16)
    struct.pack_into("<II", data, 0x40 + 24 + 16 + 16, size - 0x1000, 0x1000)
    data[0x200 : 0x200 + len(VERSION)] = VERSION
    return bytes(data)


def zboot(kernel: bytes, machine: int = 0xAA64) -> bytes:
    payload = gzip_of(kernel)
    data = bytearray(0x100)
    data[0:2], data[4:8] = b"MZ", b"zimg"
    struct.pack_into("<II", data, 8, 0x100, len(payload))
    data[24:28] = b"gzip"
    struct.pack_into("<I", data, 0x3C, 0x40)
    data[0x40:0x46] = b"PE\0\0" + struct.pack("<H", machine)
    return bytes(data) + payload


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bzimage_in_every_compression(packer: str) -> None:
    boot = BootFile.parse(bzimage(elf(), packer), "vmlinuz", Arch.X86_64)
    assert boot.format is Format.BZIMAGE
    assert boot.kernel() == elf()
    assert boot.release() == "6.12.0-header"


@pytest.mark.parametrize(
    ("data", "format_", "kernel"),
    [
        (arm64_image(), Format.IMAGE, arm64_image()),
        (gzip_of(arm64_image()), Format.GZIP, arm64_image()),
        (zboot(arm64_image()), Format.ZBOOT, arm64_image()),
        (elf(183), Format.ELF, elf(183)),
    ],
    ids=["Image", "gzip", "zboot", "ELF"],
)
def test_the_forms_of_an_arm64_kernel(data: bytes, format_: Format, kernel: bytes) -> None:
    boot = BootFile.parse(data, "Image", Arch.ARM64)
    assert boot.format is format_
    assert boot.kernel() == kernel
    assert boot.release() == "6.12.0-test"


@pytest.mark.parametrize(
    ("data", "wanted", "is_for"),
    [
        (arm64_image(), Arch.X86_64, "arm64 (arm64 Image)"),
        (gzip_of(arm64_image()), Arch.X86_64, "arm64 (gzipped arm64 Image)"),
        (bzimage(elf()), Arch.ARM64, "x86_64 (x86 bzImage)"),
        (elf(), Arch.ARM64, "x86_64 (ELF vmlinux)"),
        (zboot(b"", 0x8664), Arch.ARM64, "x86_64 (EFI zboot image)"),
        (bzimage(elf(), xloadflags=0), Arch.X86_64, "32-bit x86 (x86 bzImage)"),
        (elf(243), Arch.X86_64, "riscv (ELF vmlinux)"),
        (elf(9999), Arch.X86_64, "ELF machine 9999"),
    ],
    ids=["Image", "gzip", "bzImage", "ELF", "zboot", "32-bit", "riscv", "unknown"],
)
def test_a_kernel_for_another_architecture_says_which(data: bytes, wanted: Arch, is_for: str) -> None:
    with pytest.raises(ResolveError) as caught:
        BootFile.parse(data, "the-file", wanted)
    assert is_for in caught.value.message
    assert f"but {wanted} was wanted" in caught.value.message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (bytes(9000), "full of zeros"),
        (b"#!/bin/sh\n", "only 10 bytes"),
        (b"!<arch>\n" + bytes(5000), "a .deb needs that ending"),
        (gzip_of(b"x" * 9000), "gzip data without an arm64 Image"),
        (b"\x1f\x8b" + b"\xff" * 5000, "gzip data"),
        (b"GIF89a" + b"x" * 9000, "starts with 47 49 46 38"),
    ],
    ids=["empty", "zeros", "script", "archive", "gzip", "broken gzip", "picture"],
)
def test_a_file_that_is_no_kernel_says_what_it_is(data: bytes, what: str) -> None:
    with pytest.raises(ResolveError, match="not a Linux kernel") as caught:
        BootFile.parse(data, "the-file", Arch.X86_64)
    assert what in caught.value.message


@pytest.mark.parametrize(
    ("data", "arch"),
    [
        (bzimage(elf())[:-40], Arch.X86_64),
        (bzimage(elf())[:600], Arch.X86_64),
        (arm64_image()[:-1], Arch.ARM64),
        (arm64_image()[:70], Arch.ARM64),
        (zboot(arm64_image())[:-1], Arch.ARM64),
        (elf()[:-1], Arch.X86_64),
        (elf()[:80], Arch.X86_64),
    ],
    ids=["bzImage", "setup", "Image", "start of Image", "zboot", "ELF", "start of ELF"],
)
def test_a_truncated_kernel_is_damaged(data: bytes, arch: Arch) -> None:
    with pytest.raises(ResolveError, match="damaged"):
        BootFile.parse(data, "the-file", arch)


@pytest.mark.parametrize("packer", ["gzip", "xz", "bzip2"])
def test_a_corrupt_payload_is_damaged(packer: str) -> None:
    data = bytearray(bzimage(os.urandom(60000), packer))
    data[30000:30064] = bytes(64)
    boot = BootFile.parse(bytes(data), "the-file", Arch.X86_64)
    with pytest.raises(ResolveError, match="damaged x86 bzImage"):
        boot.kernel()


def test_a_payload_of_the_wrong_length_is_damaged() -> None:
    data = bytearray(bzimage(elf(), "zstd"))
    end = 5 * 512 + 32 + struct.unpack_from("<I", data, 0x24C)[0]
    struct.pack_into("<I", data, end - 4, 4)
    with pytest.raises(ResolveError, match="holds 8192 bytes and should hold 4"):
        BootFile.parse(bytes(data), "the-file", Arch.X86_64).kernel()


def test_a_gzipped_image_that_ends_early_is_damaged() -> None:
    boot = BootFile.parse(gzip_of(arm64_image())[:-20], "the-file", Arch.ARM64)
    with pytest.raises(ResolveError, match="damaged gzipped arm64 Image"):
        boot.kernel()


def test_a_kernel_that_does_not_name_itself_is_damaged() -> None:
    image = arm64_image().replace(VERSION, bytes(len(VERSION)))
    with pytest.raises(ResolveError, match="does not say which version"):
        BootFile.parse(image, "the-file", Arch.ARM64).release()


def test_several_blocks_of_lz4() -> None:
    data = os.urandom(1000) * 9000
    first, second = lz4_legacy(data[: 8 << 20]), lz4_legacy(data[8 << 20 :])
    assert compression.decompress(first + second[4:] + struct.pack("<I", len(data)), len(data)) == data


def test_an_unknown_compression_is_named() -> None:
    with pytest.raises(compression.DamagedError, match="not known"):
        compression.decompress(b"LZO\0" + bytes(100))
