"""Recordings as files: what was saved is loaded, and what is not whole, or of another machine, is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostwalk.errors import HostwalkError, LaunchError, ResolveError, UsageError
from hostwalk.exact import playing
from hostwalk.exact.recording import FACTS, LOG, Cost, Recording, marked, require_place
from hostwalk.machine.course import Mark
from hostwalk.machine.qemu import Qemu
from hostwalk.repro.pin import Pin
from hostwalk.repro.script import parse

TEXT = """
from hostwalk.repro import Failure, Pin, repro
@repro(Pin(arch="x86_64", kernel="debian:6.12", format="4level"), Failure("assertion", "x", ("y",)))
def test_it(subject, witness):
    assert 1 == 2
"""
PIN = Pin(arch="x86_64", kernel="debian:6.12", format="4level", image="a" * 64, qemu="7.2.22", release="6.12")
LINE = "qemu\0-m\x00256M"
MARKS = (Mark(5, "aa", "boot"), Mark(1_234_567, "bb", "verdict"), Mark(1_234_999, "cc", "end"))


def recording() -> Recording:
    script = parse(TEXT, Path("toy.py"))
    log, initramfs = b"\x00\xe0\x20\x0c" + bytes(range(256)) * 64, b"0707" * 500
    cost = Cost(1.0, 2.5, len(log))
    return Recording(PIN, script, LINE, MARKS, "1 == 2", cost, {"A": 1}, {}, log, initramfs)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "toy.exact.zip"
    assert recording().save(path) == path.stat().st_size
    return path


def test_what_was_saved_is_loaded(saved: Path) -> None:
    found, made = Recording.load(saved), recording()
    assert (found.pin, found.marks, found.command, found.said) == (
        made.pin,
        made.marks,
        made.command,
        made.said,
    )
    assert (found.log, found.initramfs, found.layout) == (made.log, made.initramfs, made.layout)
    assert (found.script.text, found.script.test) == (TEXT, "test_it")
    assert found.cost.slowdown == 2.5
    assert found.marks[found.verdict].what == "verdict"


def test_marks_are_told_with_their_counts(saved: Path) -> None:
    assert list(marked(MARKS))[1].split() == ["2", "1", "234", "567", "bb", "verdict"]


def test_nothing_is_left_of_a_recording_that_cannot_be_written(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        recording().save(place / "toy.exact.zip")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -1])
def test_a_file_that_was_cut_short_is_refused(saved: Path, kept: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * kept)] if isinstance(kept, float) else data[:kept])
    with pytest.raises(UsageError, match="no whole recording") as caught:
        Recording.load(saved)
    assert "record it again" in caught.value.remedy


def rewritten(path: Path, name: str, data: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for each, old in parts.items():
            archive.writestr(each, data if each == name else old)


def test_a_part_that_is_not_what_was_recorded_is_refused(saved: Path) -> None:
    rewritten(saved, LOG, recording().log[:-1])
    with pytest.raises(UsageError, match="log is not what was recorded"):
        Recording.load(saved)


@pytest.mark.parametrize(
    "change", [{"format": "hostwalk-exact-0"}, {"marks": []}, {"pin": {"arch": 1}}, {"cost": {}}]
)
def test_facts_of_another_kind_are_refused(saved: Path, change: dict[str, Any]) -> None:
    with zipfile.ZipFile(saved) as archive:
        facts = json.loads(archive.read(FACTS))
    rewritten(saved, FACTS, json.dumps(facts | change).encode())
    with pytest.raises(UsageError, match="no whole recording"):
        Recording.load(saved)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        Recording.load(tmp_path / "none.zip")


def asked(
    monkeypatch: pytest.MonkeyPatch, *, version: str = PIN.qemu, image: str = PIN.image, line: str = LINE
) -> Any:
    """Return what comes of a player on this QEMU, kernel and machine."""
    monkeypatch.setattr(playing, "find_qemu", lambda _arch: Qemu(Path("qemu"), version, "q35"))
    monkeypatch.setattr(playing, "_image", lambda _recording, _cache: None)
    monkeypatch.setattr(playing, "command", lambda _prepared: line)
    kernel: Any = SimpleNamespace(identity=image, release="6.12")
    cache: Any = None
    return playing.player(recording(), kernel, cache)


def test_the_same_machine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch).recording.pin == PIN


@pytest.mark.parametrize(
    ("other", "error", "said"),
    [
        ({"version": "10.0.2"}, LaunchError, "recorded with QEMU 7.2.22, this is 10.0.2"),
        ({"image": "b" * 64}, ResolveError, "recorded on Linux 6.12 (aaaaaaaaaaaa)"),
        ({"line": "qemu\0-m\x00512M"}, UsageError, "that had -m 256M"),
        ({"line": LINE + "\0-append\0a b"}, UsageError, "that had no -append, a, b"),
    ],
)
def test_another_qemu_kernel_or_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, str], error: type[HostwalkError], said: str
) -> None:
    with pytest.raises(error) as caught:
        asked(monkeypatch, **other)
    assert said in caught.value.message
    assert caught.value.remedy


def test_a_place_that_takes_no_file_is_told_before_a_recording_is_made(tmp_path: Path) -> None:
    require_place(tmp_path / "new" / "toy.exact.zip")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"toy\.exact\.zip cannot be written"):
        require_place(tmp_path / "file" / "toy.exact.zip")


def test_marks_that_are_no_counts_are_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    facts = json.loads(parts["facts.json"])
    facts["marks"][0]["icount"] = "many"
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in (parts | {"facts.json": json.dumps(facts).encode()}).items():
            archive.writestr(name, data)
    with pytest.raises(UsageError, match="its marks are not counts of instructions"):
        Recording.load(saved)
