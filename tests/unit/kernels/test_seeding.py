from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.kernels import seeding
from hostwalk.kernels.progress import SILENT
from hostwalk.kernels.seeding import Origin

HOUR = 3600 * 10**9
NAMES = ("common", "x86_64")
# Two objects that are made again where make would make them: by times, and by the command that was saved.
KBUILD = r"""
S := SOURCE
all: gup.o mmap.o
-include .gup.o.cmd .mmap.o.cmd
%.o: $(S)/%.c FORCE
	@if [ -n '$(filter-out FORCE,$?)' ] || [ '$(saved_$@)' != 'cc -I$(S)/include $<' ]; then \
	cat $< > $@; echo $@ >> made; \
	printf '%s\n' 'saved_$@ := cc -I$(S)/include $<' '$@: $(S)/include/mm.h' > .$@.cmd; fi
FORCE:
"""


def _git(tree: Path, *words: str) -> None:
    own = ("-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", tree, *own, *words], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def no_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A repository and a second worktree of it, all of whose files are younger than anything built."""
    base, patched = tmp_path / "base", tmp_path / "patched"
    (base / "include").mkdir(parents=True)
    for name in ("gup.c", "mmap.c", "include/mm.h"):
        (base / name).write_text(f"/* {name} */\n")
        os.utime(base / name, ns=(HOUR, HOUR))
    _git(base, "init", "--quiet")
    _git(base, "add", ".")
    _git(base, "commit", "--quiet", "--message", "base")
    _git(base, "worktree", "add", patched)
    return base, patched


def _origin(tree: Path) -> Origin:
    return Origin(tree, tree, "x86_64", NAMES)


def _make(room: Path, tree: Path) -> list[str]:
    """Make in a room, as Build does; return what was made."""
    out = room / "out"
    (out / "Makefile").write_text(KBUILD.replace("SOURCE", str(tree)))
    (out / "made").unlink(missing_ok=True)
    subprocess.run(["make", "-s", "-C", out], check=True, capture_output=True)
    return (out / "made").read_text().split() if (out / "made").exists() else []


def _finish(room: Path) -> None:
    (room / seeding.CONFIGURED).write_text("configured")
    (room / seeding.STAMP).write_text("identity")


def _built(cache: Cache, name: str, tree: Path) -> Path:
    with cache.workspace("build", name) as room:
        (room / "out").mkdir()
        _origin(tree).write(room)
        _make(room, tree)
        _finish(room)
        return room


def _begin(cache: Cache, tree: Path, name: str = "new") -> tuple[bool, Path]:
    room = cache.root / "build" / name
    (room / "out").mkdir(parents=True, exist_ok=True)
    _origin(tree).write(room)
    return seeding.begin(room, _origin(tree), cache, SILENT), room


def test_of_a_like_tree_nothing_is_made_again(cache: Cache, trees: tuple[Path, Path]) -> None:
    base, patched = trees
    _built(cache, "old", base)
    begun, room = _begin(cache, patched)
    assert begun
    assert not _make(room, patched)
    assert (room / "out/gup.o").read_text() == "/* gup.c */\n"
    assert str(base) not in (room / "out/.gup.o.cmd").read_text()
    assert (room / seeding.CONFIGURED).read_text() == "configured"


@pytest.mark.parametrize(
    ("name", "made"),
    [("gup.c", ["gup.o"]), ("include/mm.h", ["gup.o", "mmap.o"])],
    ids=["a file", "a header"],
)
def test_what_differs_is_made_again_however_old_it_is(
    cache: Cache, trees: tuple[Path, Path], name: str, made: list[str]
) -> None:
    base, patched = trees
    (patched / name).write_text(f"/* {name}, patched */\n")
    os.utime(patched / name, ns=(HOUR, HOUR))
    _built(cache, "old", base)
    begun, room = _begin(cache, patched)
    assert begun
    assert _make(room, patched) == made


def test_what_was_edited_after_the_build_is_made_again(cache: Cache, trees: tuple[Path, Path]) -> None:
    """The trees read the same then, but what was built is older."""
    base, patched = trees
    _built(cache, "old", base)
    for tree in trees:
        (tree / "gup.c").write_text("/* after */\n")
    begun, room = _begin(cache, patched)
    assert begun
    assert _make(room, patched) == ["gup.o"]
    assert (room / "out/gup.o").read_text() == "/* after */\n"


def test_no_source_file_gets_an_earlier_time(cache: Cache, trees: tuple[Path, Path]) -> None:
    """Another build directory of the tree may have been made from what the file said before."""
    base, patched = trees
    _built(cache, "old", base)
    before = {path: path.stat().st_mtime_ns for path in patched.rglob("*.[ch]")}
    assert _begin(cache, patched)[0]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def _others(base: Path, room: Path, what: str) -> None:
    if what == "failed":
        (room / seeding.STAMP).unlink()
    elif what == "of other fragments":
        Origin(base, base, "x86_64", (*NAMES, "debug")).write(room)
        _finish(room)
    elif what == "of a repository cloned anew":
        (base / ".git").rename(base / "git")
        _git(base, "init", "--quiet")
    elif what == "of a tree that is gone":
        base.rename(base.parent / "elsewhere")


@pytest.mark.parametrize(
    "what", ["failed", "of other fragments", "of a repository cloned anew", "of a tree that is gone"]
)
def test_a_build_that_does_not_fit_is_left_alone(cache: Cache, trees: tuple[Path, Path], what: str) -> None:
    base, patched = trees
    _others(base, _built(cache, "old", base), what)
    begun, room = _begin(cache, patched)
    assert not begun
    assert not list((room / "out").iterdir())


def test_a_build_that_is_in_use_is_not_waited_for(cache: Cache, trees: tuple[Path, Path]) -> None:
    base, patched = trees
    _built(cache, "old", base)
    with cache.workspace("build", "old"):
        assert not _begin(cache, patched)[0]


@pytest.fixture
def link(trees: tuple[Path, Path]) -> Path:
    for tree in trees:
        (tree / "link").symlink_to("gup.c")
    return trees[1] / "link"


def test_a_link_that_leads_elsewhere_is_a_reason_to_begin_with_nothing(
    cache: Cache, trees: tuple[Path, Path], link: Path
) -> None:
    _built(cache, "old", trees[0])
    assert _begin(cache, trees[1], "like")[0]
    link.unlink()
    link.symlink_to("mmap.c")
    assert not _begin(cache, trees[1])[0]


def test_the_latest_build_is_taken(cache: Cache, trees: tuple[Path, Path], tmp_path: Path) -> None:
    base, patched = trees
    third = tmp_path / "third"
    _git(base, "worktree", "add", "--detach", str(third))
    for name, tree in (("old", base), ("newer", third)):
        _built(cache, name, tree)
    (cache.root / "build/newer/out/here").touch()
    os.utime(cache.root / "build/old" / seeding.STAMP, ns=(HOUR, HOUR))
    assert (_begin(cache, patched)[1] / "out/here").exists()


def test_paths_are_exchanged_and_those_that_only_begin_alike_stay(
    cache: Cache, trees: tuple[Path, Path]
) -> None:
    base, patched = trees
    room = _built(cache, "old", base)
    (room / "out/text").write_text(f"-I{base}/include {base}-next {base}2/a x{base}/y cmd_{room}/out\n")
    (room / "out/arch/syscalls").mkdir(parents=True)
    began, new = _begin(cache, patched)
    assert began
    assert (new / "out/text").read_text() == (
        f"-I{patched}/include {base}-next {base}2/a x{base}/y cmd_{new}/out\n"
    )
    assert (new / "out/arch/syscalls").is_dir()


def test_a_copy_that_was_cut_off_is_begun_again(cache: Cache, trees: tuple[Path, Path]) -> None:
    base, patched = trees
    _built(cache, "old", base)
    room = cache.root / "build" / "new"
    (room / "half/gup.o").mkdir(parents=True)
    begun, _ = _begin(cache, patched)
    assert begun
    assert not _make(room, patched)
    assert not (room / "half").exists()
