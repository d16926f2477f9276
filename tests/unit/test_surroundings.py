from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from hostwalk import surroundings
from hostwalk.errors import MissingToolError
from hostwalk.machine import accel
from hostwalk.target import Arch, Target


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOSTWALK_CACHE", str(tmp_path / "a/b/cache"))
    return tmp_path / "a/b/cache"


def test_a_writable_cache(cache: Path) -> None:
    finding = surroundings.cache_writable()
    assert (finding.ok, finding.detail) == (True, f"{cache} can be written")


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("in the way")
    assert not surroundings.cache_writable().ok


def test_room_is_measured_where_the_cache_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert surroundings.free_space().name == "free disk space"
    monkeypatch.setattr(surroundings, "SPACE_NEEDED", 1 << 62)
    finding = surroundings.free_space()
    assert not finding.ok
    assert "are needed" in finding.detail


@pytest.mark.parametrize(
    ("requirement", "ok"),
    [("rich>=13", True), ("rich>=999", False), ("no-such-package", False), ('tox; extra == "dev"', True)],
)
def test_python_packages(requirement: str, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: [requirement])
    assert surroundings.python_packages().ok is ok


def test_an_accelerator_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "choose", lambda _target: accel.Accel("tcg", "no /dev/kvm"))
    assert surroundings.accelerator(Arch.ARM64).detail == "tcg: no /dev/kvm"


def test_no_accelerator_without_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(_target: Target) -> accel.Accel:
        raise MissingToolError("qemu-system-aarch64 is not installed")

    monkeypatch.setattr(accel, "choose", choose)
    assert not surroundings.accelerator(Arch.ARM64).ok
