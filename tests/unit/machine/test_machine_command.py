from pathlib import Path

import pytest

from hostwalk.machine.command import (
    Payload,
    Wiring,
    channel_args,
    cpu_args,
    kernel_cmdline,
    machine_args,
    memory_args,
    qemu_args,
)
from hostwalk.machine.qemu import Qemu
from hostwalk.target import Arch, Target

WIRING = Wiring(qmp=10, agent=12, gdb=13, ram=14)
X86_64, ARM64 = Target(Arch.X86_64), Target(Arch.ARM64)


def after(words: tuple[str, ...], option: str) -> str:
    return words[words.index(option) + 1]


def test_everything_comes_by_descriptor() -> None:
    words = channel_args(WIRING)
    for fd in (10, 12, 13):
        assert sum(f"fd={fd}" in word for word in words) == 1
    assert not [word for word in words if "path=" in word or "/" in word]
    assert WIRING.descriptors == (10, 12, 13, 14)


def test_ram_is_the_shared_memory_file() -> None:
    words = memory_args(Target(Arch.X86_64, memory=512), ram=14)
    assert after(words, "-m") == "512M"
    assert after(words, "-object") == (
        "memory-backend-file,id=ram,size=512M,mem-path=/proc/self/fd/14,share=on"
    )


def test_the_board_uses_that_ram_and_a_fixed_clock() -> None:
    for target in (X86_64, ARM64):
        words = machine_args(target, "board-1.0", "tcg")
        assert after(words, "-machine").startswith("board-1.0,memory-backend=ram,")
        assert after(words, "-accel").startswith("tcg,thread=single,tb-size=")
        assert after(words, "-rtc").startswith("base=2024-01-01")
    assert "gic-version=3" in after(machine_args(ARM64, "virt", "tcg"), "-machine")


@pytest.mark.parametrize(
    ("wanted", "accel", "model"),
    [
        (X86_64, "tcg", "max,la57=off"),
        (X86_64, "kvm", "max,la57=off,enforce"),
        (Target(Arch.X86_64, format="5level"), "tcg", "max,la57=on"),
        (ARM64, "tcg", "neoverse-n1"),
        (ARM64, "kvm", "host"),
    ],
)
def test_processor(wanted: Target, accel: str, model: str) -> None:
    assert cpu_args(wanted, accel) == ("-cpu", model, "-smp", "1")


def test_kaslr_is_off_unless_asked_for() -> None:
    assert "nokaslr" in kernel_cmdline(X86_64).split()
    assert "nokaslr" not in kernel_cmdline(Target(Arch.X86_64, kaslr=True)).split()


def test_kernel_command_line_fits_the_architecture() -> None:
    x86_64, arm64 = kernel_cmdline(X86_64).split(), kernel_cmdline(ARM64).split()
    assert "console=ttyS0" in x86_64
    assert "console=ttyAMA0" in arm64
    assert "noreplace-smp" in x86_64
    assert "noreplace-smp" not in arm64
    assert {"panic=-1", "loglevel=5"} <= set(x86_64) & set(arm64)


def test_the_users_words_come_last() -> None:
    assert kernel_cmdline(ARM64, "loglevel=7 debug").endswith(" loglevel=7 debug")


def test_the_same_target_gives_the_same_command_line() -> None:
    qemu = Qemu(Path("/usr/bin/qemu-system-x86_64"), "7.2.0", "pc-q35-7.2")
    payload = Payload(Path("/k"), Path("/i"), "console=ttyS0")
    words = [qemu_args(X86_64, qemu, "tcg", payload, WIRING) for _ in range(2)]
    assert words[0] == words[1]
    assert words[0][0] == "/usr/bin/qemu-system-x86_64"
    assert (after(words[0], "-kernel"), after(words[0], "-initrd")) == ("/k", "/i")
    assert after(words[0], "-append") == "console=ttyS0"
    assert "-nodefaults" in words[0]
    assert "pc-q35-7.2" in after(words[0], "-machine")
