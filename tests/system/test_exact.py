"""Executions that are recorded and replayed: equal at every checkpoint, and who wrote an entry is found in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from failure_runs import PROGRAM, Hostwalk

from hostwalk.exact.recording import Recording
from hostwalk.machine.course import BUSY

PROTECTED = """
area = subject.mmap(pages=4).touch()
before = witness.pages(area)
subject.mprotect(area[0:2], "r")
seen = witness.pages(area)
assert seen.writable == before.writable
"""
HANGS = """\
    subject.syscall("kill", subject.pid, 19)
    subject.syscall("getpid")
"""
LOOK = """\
print('at hand', area.pages, seen.writable, witness.pages(area).writable)
subject.munmap(area)
exit()
"""
WRITERS = {"x86_64": "__ptep_modify_prot_commit", "arm64": "ptep_modify_prot_commit"}
SECONDS = 1200


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, warm_cache: Path, arch: str) -> Hostwalk:
    place = tmp_path_factory.mktemp(f"exact_{arch}")
    (place / "protected.py").write_text(PROTECTED)
    made = Hostwalk(place, warm_cache)
    done = made.run("repro", "record", "protected.py", "--arch", arch, "-o", "scripts", seconds=SECONDS)
    assert done.status == 0, done.text
    done = made.run("repro", "record", "--exact", "scripts/protected.py", seconds=SECONDS)
    assert done.status == 0, done.text
    assert re.search(r"[0-9,]+ bytes, of which the log [0-9,]+ .* a plain run takes [0-9.]+ s", done.out)
    return made


def test_each_replay_is_equal_at_every_checkpoint(here: Hostwalk) -> None:
    done = here.run("repro", "replay", "protected.exact.zip", "--times", "3", seconds=SECONDS)
    assert done.status == 0, done.text
    recording = Recording.load(here.place / "protected.exact.zip")
    rams = [mark.ram for mark in recording.marks[: recording.verdict + 1]]
    assert rams[-1] != BUSY, "the verdict itself is compared"
    busy = rams.count(BUSY)
    compared = f"{len(rams) - busy} of {len(rams) - busy} compared checkpoints equal, {busy} not compared"
    assert done.out.count(f"{compared}, it reproduces") == 3
    assert "equal at every checkpoint that is compared in 3 of 3 replays" in done.out


def test_the_function_that_wrote_an_entry_is_named(here: Hostwalk, arch: str) -> None:
    """mprotect_fixup, change_protection, change_pte_range, ptep_modify_prot_commit: mm/mprotect.c."""
    done = here.run("repro", "who-wrote", "protected.exact.zip", "area[0]", "--entry", seconds=SECONDS)
    assert done.status == 0, done.text
    frames = re.findall(r"^ +(\w[\w.]*)\+0x[0-9a-f]+$", done.out, re.MULTILINE)
    assert WRITERS[arch] in frames[:2], done.out
    assert "mprotect_fixup" in frames
    assert "after 'before = witness.pages(area)' and before 'seen = witness.pages(area)'" in done.out


def test_an_address_that_makes_no_sense_gets_one_clear_error(here: Hostwalk) -> None:
    done = here.run("repro", "who-wrote", "protected.exact.zip", "area[99]", seconds=SECONDS)
    assert done.status == 2, done.text
    assert done.explains("area[99]", "gives no address", "give a number")
    assert "console" not in done.text


def test_where_the_verdict_falls_the_names_of_the_script_are_at_hand(here: Hostwalk) -> None:
    words = [*PROGRAM, "repro", "replay", "protected.exact.zip", "--python"]
    done = subprocess.run(
        words,
        input=LOOK,
        env=here.environment(),
        cwd=here.place,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "at hand 4 writable[0 x2, 1 x2] writable[0 x2, 1 x2]" in done.stdout
    mistake = done.stderr.partition("Traceback")[2]
    assert "munmap" in mistake
    assert "nothing can be asked of a guest in a replay" in mistake
    assert "CheckFailed" not in mistake, "the failure of the script is no part of a mistake at the prompt"
    assert "equal at every checkpoint that is compared in 1 of 1 replays" in done.stdout


def test_a_recording_that_cannot_be_replayed_gets_one_clear_error(here: Hostwalk) -> None:
    data = (here.place / "protected.exact.zip").read_bytes()
    (here.place / "cut.exact.zip").write_bytes(data[: len(data) // 2])
    recording = Recording.load(here.place / "protected.exact.zip")
    (here.place / "kernel").write_bytes(b"no kernel")
    for name, more, status, words in (
        ("cut.exact.zip", (), 2, ("no whole recording", "record it again")),
        ("none.exact.zip", (), 2, ("cannot be read",)),
        ("protected.exact.zip", ("--kernel", "kernel"), 3, ("--kernel SPEC",)),
    ):
        done = here.run("repro", "replay", name, *more, seconds=SECONDS)
        assert done.status == status, done.text
        assert done.explains(*words)
    assert recording.verdict == len(recording.marks) - 2


def test_more_than_one_processor_gets_one_clear_error(here: Hostwalk) -> None:
    done = here.run("repro", "record", "--exact", "scripts/protected.py", "--smp", "2", seconds=SECONDS)
    assert done.status == 2, done.text
    assert done.explains("2 processors, and QEMU records no more than one", "--smp 1")


def test_a_script_that_hangs_is_not_recorded_and_a_log_is_bounded(here: Hostwalk, arch: str) -> None:
    text = (here.place / "scripts" / "protected.py").read_text()
    body = text.index("    area = subject.mmap")
    (here.place / "hangs.py").write_text(text[:body] + HANGS + text[body:])
    done = here.run("repro", "record", "--exact", "hangs.py", seconds=SECONDS)
    assert done.status == 3, done.text
    assert done.explains("the script proves nothing on a plain machine", "no answer to")
    assert not (here.place / "hangs.exact.zip").exists()
    if arch == "x86_64":
        done = here.run("repro", "record", "--exact", "scripts/protected.py", "--limit", "1", seconds=SECONDS)
        assert done.status == 2, done.text
        assert done.explains("has become larger than 1 MiB", "--limit")
