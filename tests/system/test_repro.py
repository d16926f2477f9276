"""Repro scripts alive: recorded, run in every way, shrunk, exported and executed in the guest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from failure_runs import Hostwalk
from repro_runs import compiled, execute

from hostwalk.cache import Cache
from hostwalk.image import build_module
from hostwalk.options import CheckOptions
from hostwalk.repro import edits
from hostwalk.repro.run import Stage, stage_for
from hostwalk.repro.script import Script, load

FALSE = """
from hostwalk.claim import claim
from hostwalk.sabotage import refcount


@claim("false.ref.1", "nothing(2)", "A pin takes two references.", sabotage=refcount(+1, at=2))
def test_two_references(subject, witness):
    other = subject.mmap(pages=8, prot="rw").touch()
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    subject.mprotect(other[2:5], "r")
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        expected = before.refcounts + 2
        assert pins.pfns == held.pfns
        assert held.refcounts == expected
"""
LOCKED = """
area = subject.mmap(pages=4).touch()
subject.munmap(area[2])
with subject.refuses("ENOMEM"):
    subject.mlock(area)
flags = witness.vma(area).flags
assert "VM_LOCKED" not in flags
"""
WARNS = """
area = subject.mmap(pages=1).touch()
pins = subject.pin_user_pages(area, get=True)
"""
CRASHES = """
fd = subject.open("/proc/sysrq-trigger", "O_WRONLY")
subject.write(fd, b"c")
"""
HANGS = """
    subject.syscall("kill", subject.pid, 19)
    subject.syscall("getpid")
"""
SECONDS = 600


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, warm_cache: Path) -> Hostwalk:
    place = tmp_path_factory.mktemp("repro")
    (place / "test_false.py").write_text(FALSE)
    (place / "locked.py").write_text(LOCKED)
    (place / "warns.py").write_text(WARNS)
    (place / "crashes.py").write_text(CRASHES)
    return Hostwalk(place, warm_cache)


def recorded(here: Hostwalk, what: str, name: str) -> Path:
    path = here.place / "scripts" / name
    if not path.exists():
        done = here.run("repro", "record", what, "--arch", "x86_64", "-o", "scripts", seconds=SECONDS)
        assert done.status == 0, done.text
        assert f"{name} (reproduces)" in re.sub(r"\s+", " ", done.out)
    return path


@pytest.fixture(scope="module")
def false_claim(here: Hostwalk) -> Path:
    return recorded(here, "test_false.py", "false_ref_1_x86_64_4level_debian_6_12.py")


@pytest.fixture(scope="module")
def locked(here: Hostwalk) -> Path:
    return recorded(here, "locked.py", "locked.py")


@pytest.fixture(scope="module")
def stage(locked: Path) -> Stage:
    return stage_for(load(locked).pin.target, CheckOptions())


def test_a_false_claim_leaves_a_script_that_says_what_was_done(false_claim: Path) -> None:
    lines = [line.strip() for line in false_claim.read_text().splitlines()]
    assert 20 <= len(lines) <= 60
    assert 'subject.mprotect(other[2:5], "r")' in lines
    assert "with subject.get_user_pages(area, write=True) as pins:" in lines
    assert "assert pins.returned == area.pages" in lines
    assert "assert held.refcounts == before.refcounts + 2" in lines


def test_it_runs_as_a_verb_as_a_program_and_under_pytest(here: Hostwalk, false_claim: Path) -> None:
    done = here.run("repro", "run", str(false_claim), "--tries", "2", seconds=SECONDS)
    assert (done.status, "reproduces in 2 of 2 runs" in done.out) == (1, True), done.text
    as_program = [sys.executable, str(false_claim)]
    under_pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(false_claim)]
    for words, status in ((as_program, 1), (under_pytest, 1)):
        ended = subprocess.run(
            words,
            env=here.environment(),
            cwd=here.place,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == status, ended.stdout + ended.stderr
        assert "2 == 3" in ended.stdout


def test_another_kernel_is_named_and_decides(here: Hostwalk, locked: Path) -> None:
    script = locked.with_name("mended.py")
    script.write_text(locked.read_text().replace('"VM_LOCKED" not in', '"VM_LOCKED" in'))
    done = here.run("repro", "run", str(script), seconds=SECONDS)
    assert (done.status, "does not reproduce" in done.out) == (0, True), done.text
    text = locked.read_text()
    script.write_text(re.sub(r'qemu="[^"]*"', 'qemu="7.1.0"', text))
    done = here.run("repro", "run", str(script), seconds=SECONDS)
    assert (done.status, "QEMU: " in done.out, "was 7.1.0" in done.out) == (1, True, True), done.text


def test_shrinking_leaves_what_is_needed(here: Hostwalk, false_claim: Path) -> None:
    done = here.run("repro", "shrink", str(false_claim), "-o", "small.py", seconds=SECONDS)
    assert done.status == 0, done.text
    small = load(here.place / "small.py")
    text = (here.place / "small.py").read_text()
    assert "mprotect" not in text
    assert "get_user_pages(area" in text
    assert "assert held.refcounts == before.refcounts + 2" in text
    assert here.run("repro", "run", "small.py", seconds=SECONDS).status == 1
    assert edits.count(small.function) < edits.count(load(false_claim).function)


def built(script: Script, here: Hostwalk) -> Path:
    place = here.place / f"c_{script.path.stem}"
    done = here.run("repro", "export", "--c", str(script.path), "-o", str(place), seconds=SECONDS)
    assert done.status == 0, done.text
    compiled(place)
    return place


def test_an_exported_program_sees_the_failure_in_the_guest(
    here: Hostwalk, locked: Path, stage: Stage
) -> None:
    place = built(load(locked), here)
    with stage:
        ended = execute(stage.fresh().agent, place / "repro")
    assert (ended.status, "does not hold" in ended.output) == (1, True), ended


def test_an_exported_module_makes_the_calls(here: Hostwalk, false_claim: Path, stage: Stage) -> None:
    place = built(load(false_claim), here)
    with stage:
        cell = stage.fresh()
        module = build_module(cell.prepared.kernel, place, Cache(here.cache))
        with cell.agent.spawn() as loader:
            loader.load_module(module)
            ended = execute(cell.agent, place / "repro")
    assert ended.status == 1, ended
    assert "held.refcounts == before.refcounts + 2: it does not hold" in ended.output


@pytest.mark.parametrize("kind", ["warning", "crash"])
def test_what_the_kernel_reports_is_a_failure_too(here: Hostwalk, kind: str) -> None:
    name = {"warning": "warns.py", "crash": "crashes.py"}[kind]
    script = load(recorded(here, name, name))
    assert script.shows.kind == kind
    done = here.run("repro", "run", str(script.path), seconds=SECONDS)
    assert (done.status, "reproduces" in done.out) == (1, True), done.text


def test_bad_input_gets_one_clear_error(here: Hostwalk, locked: Path) -> None:
    text = locked.read_text()
    for name, content, status, words in (
        ("cut.py", text[: text.index("subject.mlock")], 2, ("cut short",)),
        ("foreign.py", "print('hello')\n", 2, ("no repro script",)),
        ("gone.py", re.sub(r'kernel="[^"]*"', 'kernel="debian:6.12.1+deb12"', text), 3, ("--kernel",)),
        ("nowhere.py", re.sub(r'kernel="[^"]*"', 'kernel="/nowhere/bzImage"', text), 3, ("--kernel",)),
    ):
        (here.place / name).write_text(content)
        done = here.run("repro", "run", name, seconds=SECONDS)
        assert done.status == status, done.text
        assert done.explains(*words)


def test_a_script_that_hangs_its_process_ends_in_time(here: Hostwalk, locked: Path) -> None:
    text = locked.read_text()
    body = text.index("    area = subject.mmap")
    (here.place / "hangs.py").write_text(text[:body] + HANGS.lstrip("\n") + text[body:])
    done = here.run("repro", "run", "hangs.py", seconds=SECONDS)
    assert done.status == 3, done.text
    assert done.explains("proves nothing", "no answer to")
