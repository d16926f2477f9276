"""Failures before a machine runs: one clear error in time, the exit status that it promises, and nothing left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from failure_runs import ONE_CLAIM, Hostwalk, entries

NO_BOOT_SECONDS = 60
SOME_CLAIMS = ("check", "--arch", "x86_64", "-k", "mmap")


@pytest.fixture
def hostwalk(tmp_path: Path, warm_cache: Path) -> Hostwalk:
    return Hostwalk(tmp_path, warm_cache)


@pytest.fixture
def boot_files(warm_cache: Path) -> dict[str, Path]:
    """The boot file of each architecture's default kernel."""
    found = [
        path for entry in entries(warm_cache, "kernel") for path in entry.glob("boot/vmlinuz-6.12*cloud*")
    ]
    return {arch: path for path in found for arch in ("amd64", "arm64") if path.name.endswith(arch)}


def path_without(names: str, place: Path) -> str:
    """Return a PATH with links to every program but some."""
    place.mkdir()
    for directory in reversed(os.environ["PATH"].split(":")):
        for program in Path(directory).glob("*"):
            if not program.name.startswith(names):
                link = place / program.name
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return str(place)


def test_qemu_is_not_installed(hostwalk: Hostwalk, tmp_path: Path) -> None:
    done = hostwalk.run(
        *ONE_CLAIM, seconds=NO_BOOT_SECONDS, PATH=path_without("qemu-system", tmp_path / "bin")
    )
    assert done.status == 3
    assert done.explains(
        "hostwalk: resolve: the host is not ready: qemu-system-x86_64 is not installed",
        "try: ", "install", "qemu-system-x86",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("no-such-file", ("resolve: no such kernel: no-such-file", "remedy: give debian:VERSION")),
        (
            "debian:9.9",
            ("resolve: Debian has no cloud-amd64 kernel 9.9 for x86_64", "remedy: use one of: debian:"),
        ),
    ],
)
def test_the_kernel_is_unknown(hostwalk: Hostwalk, spec: str, words: tuple[str, ...]) -> None:
    done = hostwalk.run(*SOME_CLAIMS, "--kernel", spec, seconds=NO_BOOT_SECONDS)
    assert done.status == 3
    assert done.explains(*words)
    assert done.text.count(words[0]) == 1


@pytest.mark.parametrize(
    ("words", "message", "remedy"),
    [
        (("--kernel", "debian:newest"), "not a Debian kernel: 'debian:newest'", "write debian:VERSION"),
        (("-k", "no-such-claim"), "no claim matches 'no-such-claim'", "ids such as"),
        (("-k", "gup and and"), "Wrong expression", "joined by and, or, not"),
        (("--format", "9level"), "no architecture of x86_64 has a format of 9level", "known formats: "),
        (("--arch", "sparc"), "unknown architecture 'sparc'", "use x86_64 or arm64"),
        (("--memory", "5"), "no kernel boots in 5 MiB", "use 64 or more"),
        (("--smp", "0"), "a machine cannot have 0 processors", "use 1 or more"),
        (("--junit", "missing/report.xml"), "there is no directory for missing/report.xml", "choose another"),
    ],
)
def test_the_command_line_makes_no_sense(
    hostwalk: Hostwalk, words: tuple[str, ...], message: str, remedy: str
) -> None:
    done = hostwalk.run(*SOME_CLAIMS, *words, seconds=NO_BOOT_SECONDS)
    assert done.status == 2
    assert done.explains("hostwalk: usage: ", message, "try: ", remedy)


def truncated(kernel: bytes) -> bytes:
    return kernel[: len(kernel) // 3]


def overwritten(kernel: bytes) -> bytes:
    middle = len(kernel) // 2
    return kernel[:middle] + bytes(1 << 16) + kernel[middle + (1 << 16) :]


def replaced(kernel: bytes) -> bytes:
    return b"no kernel at all\n" * (len(kernel) // 17)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (truncated, ("is a damaged x86 bzImage: it ends", "remedy: copy, fetch or build the kernel again")),
        (overwritten, ("is a damaged x86 bzImage: its compressed part is corrupt", "remedy: copy, fetch")),
        (replaced, ("is not a Linux kernel", "remedy: give an x86 bzImage or vmlinux")),
    ],
)
def test_the_kernel_file_is_corrupt(
    hostwalk: Hostwalk, boot_files: dict[str, Path], tmp_path: Path, damaged: Callable[[bytes], bytes],
    words: tuple[str, ...],
) -> None:  # fmt: skip
    file = tmp_path / "vmlinuz"
    file.write_bytes(damaged(boot_files["amd64"].read_bytes()))
    done = hostwalk.run(*SOME_CLAIMS, "--kernel", str(file), seconds=NO_BOOT_SECONDS)
    assert done.status == 3
    assert done.explains(f"resolve: {file} ", *words)


def test_the_kernel_is_for_another_architecture(
    hostwalk: Hostwalk, boot_files: dict[str, Path], tmp_path: Path
) -> None:
    if "arm64" not in boot_files:
        pytest.skip("the cache holds no arm64 kernel: hostwalk kernels fetch debian:6.12")
    file = tmp_path / "Image"
    file.symlink_to(boot_files["arm64"])
    done = hostwalk.run(*SOME_CLAIMS, "--kernel", str(file), seconds=NO_BOOT_SECONDS)
    assert done.status == 3
    assert done.explains(f"resolve: {file} is a kernel for arm64", "x86_64 was wanted", "choose --arch arm64")
