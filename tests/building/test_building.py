"""Kernels built from a tree: a touched file, a broken one, a build that was killed. Takes a compiled kernel's time."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from hostwalk.cache import Cache
from hostwalk.comparing.sides import Asked, sides
from hostwalk.kernels import fragments, resolve, seeding, toolchain
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.configuring import configure
from hostwalk.kernels.making import Maker
from hostwalk.kernels.progress import SILENT
from hostwalk.kernels.seeding import Origin
from hostwalk.kernels.sources import DebianSources
from hostwalk.target import CPUS, Arch

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


def _room(cache: Cache, tree: Path) -> Path:
    """Return the build directory of a tree; other runs may build others meanwhile."""
    origins = {path.parent: Origin.of(path.parent) for path in (cache.root / "build").glob("*/origin")}
    (room,) = (path for path, origin in origins.items() if origin and origin.tree == tree.resolve())
    return room


def _objects(room: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (room / "out").rglob("*.o")}


def test_a_touched_file_alone_is_compiled_and_its_kernel_judged(tree: Path) -> None:
    cache = Cache.user()
    assert _check(tree).returncode == 0
    before = _objects(_room(cache, tree))
    first = resolve(f"tree:{tree}", Arch.X86_64, cache=cache).identity
    with (tree / "mm/gup.c").open("a") as source:
        source.write("\nint hostwalk_was_here(void);\nint hostwalk_was_here(void) { return 1; }\n")
    assert _check(tree).returncode == 0
    made = {path.name for path, when in _objects(_room(cache, tree)).items() if before.get(path) != when}
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
    try:
        assert _check(tree).returncode == 125
    finally:
        path.write_text(whole)


def _kill_while_compiling(tree: Path, name: str) -> None:
    """Build, and kill everything as soon as make says that it compiles a file."""
    argv = [sys.executable, "-m", "hostwalk", "kernels", "fetch", f"tree:{tree}", "--arch", "x86_64"]
    log = _room(Cache.user(), tree) / "build.log"
    log.unlink()
    with subprocess.Popen(argv, start_new_session=True) as child:
        end = time.monotonic() + 600
        while name not in (log.read_text() if log.exists() else ""):
            assert child.poll() is None, "the build ended before it compiled the file"
            assert time.monotonic() < end
            os.sched_yield()
        os.killpg(child.pid, signal.SIGKILL)


def test_a_build_that_was_killed_goes_on(tree: Path, tmp_path: Path) -> None:
    """With an object that is cut off, as a compiler leaves it, and the command file of the build before beside it."""
    assert _check(tree).returncode == 0
    room = _room(Cache.user(), tree)
    made, command = room / "out/mm/mmap.o", room / "out/mm/.mmap.o.cmd"
    whole = made.read_bytes()
    shutil.copy2(command, tmp_path / "before.cmd")
    text = (tree / "mm/mmap.c").read_text()
    (tree / "mm/mmap.c").unlink()
    (tree / "mm/mmap.c").write_text(text + "\n")
    _kill_while_compiling(tree, "mm/mmap.o")
    assert (room / "running").exists()
    made.write_bytes(whole[: len(whole) // 2])
    shutil.copy2(tmp_path / "before.cmd", command)
    assert _check(tree).returncode == 0
    assert made.read_bytes() == whole
    assert not (room / "running").exists()


def _git(tree: Path, *words: str | Path) -> None:
    own = ("-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", tree, *own, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tree: Path) -> Iterator[Path]:
    """The tree as a git repository, built."""
    _git(tree, "init", "--quiet")
    _git(tree, "add", "--all", "--force")
    _git(tree, "commit", "--quiet", "--message", "as it was unpacked")
    assert _check(tree).returncode == 0
    yield tree
    shutil.rmtree(tree / ".git")


def _patch(tree: Path, path: Path) -> Path:
    """Write a patch of mm/gup.c, which stays as it is."""
    whole = (tree / "mm/gup.c").read_text()
    (tree / "mm/gup.c").write_text(
        f"{whole}\nint hostwalk_patched(void);\nint hostwalk_patched(void) {{ return 1; }}\n"
    )
    done = subprocess.run(["git", "-C", tree, "diff"], check=True, capture_output=True, text=True)
    path.write_text(done.stdout)
    (tree / "mm/gup.c").write_text(whole)
    return path


def test_a_side_that_begins_with_a_like_build_is_the_kernel_that_is_built_from_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache.user()
    asked = Asked(patches=(_patch(repository, tmp_path / "patch"),), tree=repository)
    with sides(asked, cache) as pair:
        base, begun = (resolve(side.kernel, Arch.X86_64, cache=cache).identity for side in pair)
        room = _room(cache, Path(pair[1].kernel.removeprefix("tree:")))
        made = set(re.findall(r"^  CC +(?:\[M\] +)?(\S+)$", (room / "build.log").read_text(), re.MULTILINE))
        assert "mm/gup.o" in made
        assert "mm/memory.o" not in made
        shutil.rmtree(room / "out")
        monkeypatch.setattr(seeding, "begin", lambda *_: False)
        assert resolve(pair[1].kernel, Arch.X86_64, cache=cache).identity == begun != base


def _combinations() -> Iterator[ParameterSet]:
    """Yield each set of fragments that a kernel can be configured with."""
    for arch, names in sorted({(cpu.arch, fragments.names(cpu.arch, cpu.format)) for cpu in CPUS}):
        for each in (names, (*names, fragments.DEBUG)):
            yield pytest.param(arch, each, id="+".join(each[1:]))


@pytest.mark.parametrize(("arch", "names"), list(_combinations()))
def test_each_set_of_fragments_can_be_had(arch: Arch, names: tuple[str, ...], tmp_path: Path) -> None:
    """kbuild takes every option that is not optional: configure() raises an error for one that it drops."""
    source = DebianSources(Archive(Cache.user(), sources=True)).tree("7.3")
    out = tmp_path / "out"
    out.mkdir()
    maker = Maker(source.path, out, tmp_path / "log", toolchain.find(arch), "no configuration")
    configure(maker, fragments.load(names), source.version, SILENT)
    config = fragments.values((out / ".config").read_text())
    assert all(option.is_kept(config) for option in fragments.load(names) if not option.optional)
