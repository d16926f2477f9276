from collections.abc import Callable
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.errors import CacheError, LaunchError
from hostwalk.machine import accel
from hostwalk.machine.probe import LETTER, _failure, guest, probe_args
from hostwalk.machine.qemu import Qemu, choose_board, parse_version
from hostwalk.target import Arch, Target

TARGET = Target(Arch.X86_64)


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A host with /dev/kvm whose probe boots give these answers, the last first."""
    binary = tmp_path / "qemu"
    binary.write_bytes(b"")
    left: list[str] = []
    qemu = Qemu(binary, "7.2.0", "q35")
    monkeypatch.setattr(accel, "KVM_DEVICE", binary)
    monkeypatch.setattr(accel, "host_arch", lambda: Arch.X86_64)
    monkeypatch.setattr(accel, "find_qemu", lambda arch: qemu)
    monkeypatch.setattr(accel, "probe", lambda *args: left.pop())
    return left


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_kvm_is_chosen_after_a_probe_boot_and_remembered(answers: list[str], cache: Cache) -> None:
    answers.append("")
    for _ in range(2):
        assert accel.choose(TARGET, cache).name == "kvm"


def test_a_failed_probe_boot_gives_tcg_and_says_why(answers: list[str], cache: Cache) -> None:
    answers.append("did not finish within 5 s")
    for _ in range(2):
        chosen = accel.choose(TARGET, cache)
        assert chosen.name == "tcg"
        assert str(chosen).endswith("exists, but a probe boot did not finish within 5 s")
        assert "\n" not in str(chosen)


def test_another_processor_is_probed_anew(answers: list[str], cache: Cache) -> None:
    answers += ["is broken", ""]
    assert accel.choose(TARGET, cache).name == "kvm"
    assert accel.choose(Target(Arch.X86_64, format="5level"), cache).name == "tcg"


def test_a_new_qemu_is_probed_anew(answers: list[str], cache: Cache) -> None:
    answers += ["is broken", ""]
    assert accel.choose(TARGET, cache).name == "kvm"
    accel.KVM_DEVICE.write_bytes(b"new")
    assert accel.choose(TARGET, cache).name == "tcg"


def test_kvm_that_is_insisted_on_fails_with_the_reason(answers: list[str], cache: Cache) -> None:
    answers.append("printed nothing")
    with pytest.raises(LaunchError, match=r"KVM cannot be used: .*printed nothing"):
        accel.choose(TARGET.with_accel("kvm"), cache)


def test_tcg_that_is_asked_for_needs_no_probe(answers: list[str], cache: Cache) -> None:
    assert accel.choose(TARGET.with_accel("tcg"), cache).name == "tcg"


def test_another_architecture_is_not_probed(answers: list[str], cache: Cache) -> None:
    assert "not arm64" in accel.choose(Target(Arch.ARM64), cache).reason


def test_no_device_is_not_probed(
    answers: list[str], cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(accel, "KVM_DEVICE", tmp_path / "none")
    assert "there is no " in accel.choose(TARGET, cache).reason


def test_a_cache_that_fails_does_not_matter(
    answers: list[str], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Cache, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        raise CacheError("full")

    monkeypatch.setattr(Cache, "entry", fail)
    answers.append("")
    assert accel.choose(TARGET, cache).name == "kvm"


def test_the_probes_are_what_the_listing_says() -> None:
    rom = guest(Arch.X86_64)
    assert len(rom) == 0x10000
    assert rom[0xFFF0:0xFFF5] == bytes.fromhex("ea000000f0")
    assert rom[0x71:0x77] == b"\xc7\x06" + LETTER + b"\0\0\0"
    assert rom[0xA8:0xB4] == bytes.fromhex("0f0098000f00 6c000f000800")
    assert len(guest(Arch.ARM64)) == 13 * 4


def test_probe_command_line() -> None:
    qemu = Qemu(Path("/q"), "7.2.0", "virt-7.2")
    assert probe_args(Arch.ARM64, qemu, "kvm", "host", "/f")[-2:] == ("-kernel", "/f")
    assert "-bios" in probe_args(Arch.X86_64, qemu, "kvm", "max", "/f")


@pytest.mark.parametrize(
    ("status", "stderr", "expected"),
    [
        (-6, "qemu: error: no MSR 0x10a\nqemu: assertion\n", "was killed by signal 6: no MSR 0x10a"),
        (1, "qemu: warning: host\n", "ended with status 1 and printed nothing"),
        (1, "", "ended with status 1 and printed nothing"),
    ],
)  # fmt: skip
def test_how_a_probe_failed(status: int, stderr: str, expected: str) -> None:
    assert _failure(status, stderr) == expected


def test_version_and_board() -> None:
    assert parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright") == "7.2.22"
    listing = "Supported machines are:\nq35   Standard PC (alias of pc-q35-9.0)\npc-q35-7.2   Standard PC\n"
    assert choose_board(Arch.X86_64, listing) == "pc-q35-7.2"
    assert choose_board(Arch.X86_64, "q35  Standard PC\n") == "q35"
    with pytest.raises(LaunchError, match="none of the boards"):
        choose_board(Arch.ARM64, listing)
    with pytest.raises(LaunchError, match="no version"):
        parse_version("what?")
