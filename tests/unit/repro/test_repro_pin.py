"""Pins: exact, and honest about what has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.kernels.kernel import Kernel
from hostwalk.repro.pin import Pin, config_hash, exact_spec, exerciser_hash
from hostwalk.target import Arch

PIN = Pin(
    arch="x86_64", kernel="debian:6.12", format="4level", qemu="7.2.22", image="a" * 64, cpu="max,la57=off"
)


def kernel(spec: str, release: str, arch: Arch = Arch.X86_64) -> Kernel:
    return Kernel(spec, arch, release, Path("boot"), {}, None, None, "id", Cache(Path("cache")))


@pytest.mark.parametrize(
    ("spec", "release", "arch", "exact"),
    [
        ("debian:6.12", "6.12.117+deb12-cloud-amd64", Arch.X86_64, "debian:6.12.117+deb12"),
        ("debian:6.1", "6.1.0-56-cloud-arm64", Arch.ARM64, "debian:6.1.0-56"),
        ("debian:6.12-rt", "6.12.117+deb12-rt-amd64", Arch.X86_64, "debian:6.12.117+deb12-rt"),
        ("debian:6.12-generic", "6.12.117+deb12-amd64", Arch.X86_64, "debian:6.12.117+deb12-generic"),
        ("debian:6.12-64k", "6.12.117+deb12-arm64-64k", Arch.ARM64, "debian:6.12.117+deb12-64k"),
        ("path/bzImage", "6.12.117+deb12-amd64", Arch.X86_64, "path/bzImage"),
    ],
)
def test_a_debian_kernel_is_named_with_all_of_its_version(
    spec: str, release: str, arch: Arch, exact: str
) -> None:
    assert exact_spec(kernel(spec, release, arch)) == exact


def test_changes_are_named_and_what_was_not_known_is_not() -> None:
    assert PIN.changed(PIN) == []
    now = replace(PIN, qemu="8.0.0", image="b" * 64, release="6.12.9")
    assert PIN.changed(now) == [f"the kernel's image: {'b' * 12}, was {'a' * 12}", "QEMU: 8.0.0, was 7.2.22"]


def test_another_architecture_has_its_own_format() -> None:
    moved = PIN.moved(arch="arm64", kernel=None)
    assert (moved.target.arch, moved.target.format, moved.kernel) == (Arch.ARM64, "48bit", "debian:6.12")
    assert PIN.moved(kernel="debian:6.1").target.format == "4level"


def test_a_pin_reads_as_it_is_written() -> None:
    text = f"Pin({' '.join(PIN.lines())})"
    assert eval(text) == PIN
    assert "memory" not in text


def test_hashes() -> None:
    assert config_hash({"A": "y", "B": "m"}) == config_hash({"B": "m", "A": "y"}) != config_hash({"A": "y"})
    assert len(exerciser_hash()) == 64
