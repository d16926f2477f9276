"""Kernels built from a tree: a touched file, a broken one, a build that was killed. Takes a compiled kernel's time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.kernels import resolve
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.sources import DebianSources
from hostwalk.target import Arch

SECONDS = 4 * 3600
CLAIM = "gup.ref.1"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of our own to change: links to Debian's source, and a real mm/gup.c."""
    source = DebianSources(Archive(Cache.user(), sources=True)).tree("7.3").path
    tree = tmp_path_factory.mktemp("trees") / "linux"
    subprocess.run(["cp", "-rs", source, tree], check=True)
    text = (tree / "mm/gup.c").read_text()
    (tree / "mm/gup.c").unlink()
    (tree / "mm/gup.c").write_text(text)
    return tree


def _check(tree: Path) -> subprocess.CompletedProcess[str]:
    argv = [
        sys.executable,
        "-m",
        "hostwalk",
        "check",
        "--kernel",
        f"tree:{tree}",
        "--arch",
        "x86_64",
        "-k",
        CLAIM,
    ]
    return subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)


def _room(cache: Cache) -> Path:
    rooms = [path for path in (cache.root / "build").iterdir() if (path / "out").is_dir()]
    return max(rooms, key=lambda path: (path / "build.log").stat().st_mtime)


def _objects(room: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (room / "out").rglob("*.o")}


def test_a_touched_file_alone_is_compiled_and_its_kernel_judged(tree: Path) -> None:
    cache = Cache.user()
    assert _check(tree).returncode == 0
    before = _objects(_room(cache))
    first = resolve(f"tree:{tree}", Arch.X86_64, cache=cache).identity
    with (tree / "mm/gup.c").open("a") as source:
        source.write("\nint hostwalk_was_here(void);\nint hostwalk_was_here(void) { return 1; }\n")
    assert _check(tree).returncode == 0
    made = {path.name for path, when in _objects(_room(cache)).items() if before.get(path) != when}
    assert "gup.o" in made
    assert "memory.o" not in made
    assert resolve(f"tree:{tree}", Arch.X86_64, cache=cache).identity != first


def test_a_broken_file_is_125_with_its_place_and_mending_it_is_enough(tree: Path) -> None:
    whole = (tree / "mm/gup.c").read_text()
    (tree / "mm/gup.c").write_text(f"{whole}\n#error not yet\n")
    broken = _check(tree)
    assert broken.returncode == 125
    assert "mm/gup.c:" in broken.stdout + broken.stderr
    assert "#error not yet" in broken.stdout + broken.stderr
    (tree / "mm/gup.c").write_text(whole)
    assert _check(tree).returncode == 0


def test_a_kernel_that_does_not_boot_is_125(tree: Path) -> None:
    path = tree / "init/main.c"
    whole = path.read_text()
    path.unlink()
    path.write_text(whole.replace("static int __ref kernel_init(void *unused)\n{", "static int __ref "
                                  'kernel_init(void *unused)\n{\n\tpanic("not today");', 1))  # fmt: skip
    assert _check(tree).returncode == 125
    path.write_text(whole)


def test_a_build_that_was_killed_goes_on(tree: Path) -> None:
    (tree / "mm/mmap.c").unlink()
    (tree / "mm/mmap.c").write_text((DebianSources(Archive(Cache.user(), sources=True)).tree("7.3").path
                                     / "mm/mmap.c").read_text() + "\n")  # fmt: skip
    argv = [sys.executable, "-m", "hostwalk", "kernels", "fetch", f"tree:{tree}", "--arch", "x86_64"]
    with subprocess.Popen(argv, start_new_session=True) as child:
        log, end = _room(Cache.user()) / "build.log", time.monotonic() + 600
        while "mmap.o" not in (log.read_text() if log.exists() else "") and time.monotonic() < end:
            os.sched_yield()
        os.killpg(child.pid, signal.SIGKILL)
    assert _check(tree).returncode == 0
