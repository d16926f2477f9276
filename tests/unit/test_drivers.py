"""Modules of a user's own: what is refused before anything boots, and what the kernel's refusal reads like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostwalk import drivers
from hostwalk.drivers import ModuleRefusedError
from hostwalk.errors import UsageError
from hostwalk.guest.failures import SyscallFailed
from hostwalk.target import Arch

MAGIC = "ring: version magic '6.12 SMP mod_unload ' should be '6.1 SMP mod_unload '"


def elf(kind: int = 1, machine: int = 62) -> bytes:
    return (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + kind.to_bytes(2, "little")
        + machine.to_bytes(2, "little")
        + bytes(44)
    )


@pytest.mark.parametrize(
    ("data", "words", "remedy"),
    [
        (elf(machine=183), "is built for arm64, the guest is x86_64", "--arch"),
        (elf(machine=2), "is built for ELF machine 2, the guest is x86_64", "--arch"),
        (elf(machine=258), "is built for loongarch, the guest is x86_64", "--arch"),
        (elf(kind=2), "is no kernel module: a module is an ELF object file", ""),
        (b"int main", "is no kernel module", ""),
        (b"", "is no kernel module", ""),
        (b"\xfd7zXZ\0", "is compressed", "xz -dk"),
        (b"\x28\xb5\x2f\xfd", "is compressed", "zstd -dk"),
    ],
)
def test_what_no_kernel_of_the_guest_s_takes_is_refused(
    tmp_path: Path, data: bytes, words: str, remedy: str
) -> None:
    file = tmp_path / "ring.ko"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=words) as caught:
        drivers.check(file, Arch.X86_64)
    assert remedy in caught.value.remedy


def test_a_module_of_the_guest_s_architecture_is_taken(tmp_path: Path) -> None:
    (tmp_path / "ring.ko").write_bytes(elf())
    drivers.check(tmp_path / "ring.ko", Arch.X86_64)
    with pytest.raises(UsageError, match="cannot read"):
        drivers.check(tmp_path / "none.ko", Arch.X86_64)


class Guest:
    """Stands for a cell whose processes load and unload modules, and whose kernel prints."""

    def __init__(self, said: str = "", errno: str = "ENOEXEC") -> None:
        self.said = said
        self.errno = errno
        self.unloaded: list[str] = []
        self.machine = SimpleNamespace(console=SimpleNamespace(printed=0, since=lambda mark: self.said))
        self.agent = SimpleNamespace(spawn=self._process)

    @contextmanager
    def _process(self) -> Iterator[Guest]:
        yield self

    def load_module(self, file: Path, params: str) -> str:
        raise SyscallFailed("init_module", self.errno)

    def unload_module(self, name: str) -> None:
        self.unloaded.append(name)
        if self.errno:
            raise SyscallFailed("delete_module", self.errno)


@pytest.mark.parametrize(
    ("said", "errno", "words", "remedy"),
    [
        (f"[    3.2] {MAGIC}\n", "ENOEXEC", f"ring.ko cannot be loaded: ENOEXEC: {MAGIC}", "--module DIR"),
        (
            "[    3.2] ring: Unknown symbol f (err -2)\n",
            "ENOENT",
            "ENOENT: ring: Unknown symbol f",
            "exports it",
        ),
        ("", "ENODEV", "ring.ko cannot be loaded: ENODEV, and the kernel does not say why", "init function"),
        ("", "EIO", "ring.ko cannot be loaded: EIO, and the kernel does not say why", "init function"),
        ("", "ENOEXEC", "ring.ko cannot be loaded: ENOEXEC, and the kernel does not say why", ""),
    ],
)
def test_a_refusal_has_the_kernel_s_own_words(said: str, errno: str, words: str, remedy: str) -> None:
    guest = Guest(said, errno)
    with pytest.raises(ModuleRefusedError) as caught:
        drivers.load(guest, guest, Path("ring.ko"))  # type: ignore[arg-type]
    assert words in caught.value.message
    assert remedy in caught.value.remedy
    assert remedy or not caught.value.remedy
    assert caught.value.errno == errno


def test_a_module_that_was_built_here_is_called_what_was_asked_for() -> None:
    guest = Guest(errno="EIO")
    with pytest.raises(ModuleRefusedError, match="driver cannot be loaded: EIO"):
        drivers.load(guest, guest, Path("module.ko"), shown="driver")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("errno", "left"),
    [
        ("", ()),
        ("ENOENT", ()),
        ("EAGAIN", ("module b is not unloaded: it is in use", "module a is not unloaded: it is in use")),
    ],
)
def test_modules_go_in_the_reverse_order_and_those_that_stay_are_named(
    errno: str, left: tuple[str, ...]
) -> None:
    guest = Guest(errno=errno)
    assert drivers.unload(guest, ["a", "b"]) == left  # type: ignore[arg-type]
    assert guest.unloaded == ["b", "a"]
