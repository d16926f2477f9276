"""A vmlinux that a user gives to a debugger is of the kernel that runs, or is refused with what to give."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from hostwalk.errors import UsageError
from hostwalk.kernels import debugfile
from hostwalk.kernels.debugfile import require_debug_file
from hostwalk.target import Arch

BUILD = bytes(range(100, 120))
NAMES = b"\0.notes\0.debug_info\0.shstrtab\0"


class Booted:
    """A kernel whose boot file has the build ID somewhere."""

    release, arch = "6.12.1", Arch.X86_64

    def __init__(self, path: Path) -> None:
        self.boot = path
        path.write_bytes(b"what is booted")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    class Parsed:
        @classmethod
        def parse(cls, data: bytes, _name: str, _arch: Arch) -> Parsed:
            assert data == b"what is booted"
            return cls()

        def kernel(self) -> bytes:
            return bytes(64) + BUILD + bytes(64)

    monkeypatch.setattr(debugfile, "BootFile", Parsed)
    return Booted(tmp_path / "boot")


def vmlinux(path: Path, build: bytes = BUILD, *, types: bool = True) -> Path:
    """Write an ELF file with a note of Xen's, one of a build ID, where there is one, and debug information."""
    note = struct.pack("<III4sQ", 4, 8, 3, b"Xen\0", 1)
    note += struct.pack("<III4s", 4, len(build), 3, b"GNU\0") + build if build else b""
    sections = [(b"", 0, b""), (b".notes", 7, note), (b".debug_info", 1, b"x")][: 3 if types else 2]
    sections.append((b".shstrtab", 3, NAMES))
    body, headers = b"", b""
    for name, kind, data in sections:
        place = NAMES.index(name + b"\0")
        headers += struct.pack("<IIQQQQIIQQ", place, kind, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        body += data
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = len(sections)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, count, count - 1
    )
    path.write_bytes(head + body + headers)
    return path


def test_the_vmlinux_of_the_kernel_is_taken(kernel: Any, tmp_path: Path) -> None:
    require_debug_file(vmlinux(tmp_path / "vmlinux"), kernel, types=True)
    require_debug_file(vmlinux(tmp_path / "vmlinux", types=False), kernel, types=False)


@pytest.mark.parametrize(
    ("build", "types", "said", "remedy"),
    [
        (b"\xee" * 20, True, "of another kernel: its build ID is eeeeeeeeeeee", "linux-image-6.12.1-dbg"),
        (b"", True, "of another kernel: it has no build ID", "linux-image-6.12.1-dbg"),
        (BUILD, False, "has no debug information", "CONFIG_DEBUG_INFO"),
    ],
)
def test_another_one_is_refused(kernel: Any, build: bytes, types: bool, said: str, remedy: str) -> None:
    path = vmlinux(kernel.boot.with_name("vmlinux"), build, types=types)
    with pytest.raises(UsageError, match=said) as caught:
        require_debug_file(path, kernel, types=True)
    assert remedy in caught.value.remedy


def test_what_is_no_file_or_no_vmlinux_is_refused(kernel: Any, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no ELF file")
    for path, said in (
        (tmp_path / "none", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "text", "is no vmlinux"),
    ):
        with pytest.raises(UsageError, match=said):
            require_debug_file(path, kernel, types=True)
