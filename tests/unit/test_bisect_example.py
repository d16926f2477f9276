"""The bisection that users try: its script, with a source and a hostwalk that are small enough."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "bisect" / "demo"
MLOCK = "\tif (!(newflags & VM_LOCKED))\n\t\tnr_pages = -nr_pages;\n"
JUDGE = """\
#!/bin/sh
echo "$*" >>"{calls}"
grep -q '#error' mm/mprotect.c && touch "{calls}.skipped" && exit 125
grep -q 'nr_pages = 0;' mm/mlock.c && exit {bad}
exit 0
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tree = tmp_path / "linux"
    (tree / "mm").mkdir(parents=True)
    (tree / "mm/mlock.c").write_text(MLOCK)
    for name in ("mprotect.c", "gup.c"):
        (tree / "mm" / name).write_text("int x;\n")
    return tree


def demo(
    tmp_path: Path, source: Path, *, bad: int = 1, words: tuple[str, str] | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    judge = tmp_path / "judge"
    judge.write_text(JUDGE.format(calls=tmp_path / "calls", bad=bad))
    judge.chmod(0o755)
    return subprocess.run(
        [DEMO, *(words or (source, tmp_path / "work")), "--accel", "tcg"], capture_output=True, text=True, timeout=120,
        check=False, cwd=tmp_path, env={**os.environ, "HOSTWALK": str(judge), **environ},
    )  # fmt: skip


def test_the_seeded_commit_is_found(tmp_path: Path, source: Path) -> None:
    done = demo(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith('("mm: mlock: simplify counting")')
    assert (tmp_path / "calls.skipped").exists()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert set(calls) == {"check --bisect --kernel tree:. --arch x86_64 -k munlock --accel tcg"}


def test_the_source_is_left_alone(tmp_path: Path, source: Path) -> None:
    demo(tmp_path, source)
    assert (source / "mm/mlock.c").read_text() == MLOCK
    assert not (source / ".git").exists()


def test_what_proves_nothing_ends_the_bisection(tmp_path: Path, source: Path) -> None:
    done = demo(tmp_path, source, bad=255)
    assert (done.returncode, "nothing is proven" in done.stderr) == (2, True)


def test_a_directory_that_is_no_source(tmp_path: Path, source: Path) -> None:
    (source / "mm/gup.c").unlink()
    done = demo(tmp_path, source)
    assert (done.returncode, "is no Linux source" in done.stderr) == (2, True)
    assert not (tmp_path / "work").exists()


def test_directories_and_hostwalk_by_relative_names(tmp_path: Path, source: Path) -> None:
    done = demo(tmp_path, source, words=("linux", "work"), HOSTWALK="./judge")
    assert done.returncode == 0, done.stderr
    assert "simplify counting" in done.stdout.splitlines()[-1]


def test_a_hostwalk_that_there_is_not_is_told_before_anything_is_copied(tmp_path: Path, source: Path) -> None:
    done = demo(tmp_path, source, HOSTWALK="./none")
    assert (done.returncode, "there is no" in done.stderr) == (2, True)
    assert not (tmp_path / "work").exists()


def test_commits_are_not_signed_and_go_to_no_repository_of_the_caller(tmp_path: Path, source: Path) -> None:
    (tmp_path / "gitconfig").write_text("[commit]\n\tgpgsign = true\n[gpg]\n\tprogram = false\n")
    subprocess.run(["git", "init", "-q", tmp_path / "theirs"], check=True)
    named = {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"), "GIT_DIR": str(tmp_path / "theirs/.git")}
    done = demo(tmp_path, source, **named)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "theirs/.git/refs/heads").iterdir())
