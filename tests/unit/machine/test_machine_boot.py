import struct
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.kernels.bootfile import BootFile, Format
from hostwalk.machine import boot
from hostwalk.target import Arch, Target


def elf_with_note(owner: bytes, kind: int) -> bytes:
    """A 64-bit ELF file with one PT_NOTE segment."""
    note = struct.pack("<III", len(owner) + 1, 8, kind) + (owner + b"\0").ljust(4, b"\0") + b"\0" * 8
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4)
    return header + segment + note


PVH = elf_with_note(b"Xen", boot.XEN_ELFNOTE)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def bzimage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(PVH)

    def parse(data: bytes, name: str, wanted: Arch) -> BootFile:
        return BootFile(name, Format.BZIMAGE, wanted, data)

    monkeypatch.setattr(BootFile, "parse", parse)
    monkeypatch.setattr(BootFile, "kernel", lambda self: self.data)
    return path


def test_pvh_entry() -> None:
    assert boot.has_pvh_entry(PVH)
    assert not boot.has_pvh_entry(elf_with_note(b"Xen", 6))
    assert not boot.has_pvh_entry(elf_with_note(b"GNU", boot.XEN_ELFNOTE))


def test_a_kernel_with_pvh_entry_is_unpacked_once(bzimage: Path, cache: Cache) -> None:
    inner = boot.boot_file(Target(Arch.X86_64), bzimage, "one", cache)
    assert inner.read_bytes() == PVH
    bzimage.unlink()
    assert boot.boot_file(Target(Arch.X86_64), bzimage, "one", cache) == inner


def test_a_kernel_without_is_booted_as_it_is(bzimage: Path, cache: Cache) -> None:
    bzimage.write_bytes(elf_with_note(b"Xen", 6))
    for _ in range(2):
        assert boot.boot_file(Target(Arch.X86_64), bzimage, "two", cache) == bzimage


@pytest.mark.parametrize("wanted", [Target(Arch.X86_64, kaslr=True), Target(Arch.X86_64, format="5level")])
def test_what_the_unpacker_does_is_left_to_it(wanted: Target, bzimage: Path, cache: Cache) -> None:
    assert boot.boot_file(wanted, bzimage, "three", cache) == bzimage
    assert not cache.root.exists()


def test_a_raw_arm64_image_is_booted_as_it_is(tmp_path: Path, cache: Cache) -> None:
    image = tmp_path / "Image"
    image.write_bytes(b"\0" * 0x38 + b"ARM\x64" + b"\0" * 64)
    assert boot.boot_file(Target(Arch.ARM64), image, "four", cache) == image
    assert not cache.root.exists()
