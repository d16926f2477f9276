"""A build directory that begins as a copy of another one, of the same repository in another worktree.

make compares times, and the commands that it saved with those it would run. So in the copy the paths of the other tree
and directory are replaced by its own, and all that was built is older than each source file that differs from the other
tree's and newer than each that reads the same. Then make does there what it would do in the other directory, had the
new content been checked out over the old. Source files are only ever given later times, since other build directories
of the same tree go by them too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hostwalk import gitcommand
from hostwalk.cache import Cache
from hostwalk.kernels import replaced
from hostwalk.kernels.progress import Progress

ORIGIN, STAMP, TREE, CONFIGURED = "origin", "built", "tree", "configured"
_HALF = "half"
_PATH = rb"(?:(?<=-I)|(?<=-L)|(?<=cmd_)|(?<=deps_)|(?<=source_)|(?<![\w./-]))(%b)(?![\w.-])"
"""A path that begins here: not the rest of a longer one. kbuild also names variables after paths."""
_STEP_NS = 1000
_TEXT_BYTES = 16 << 20


@dataclass(frozen=True)
class Origin:
    """What a build directory is built from: the tree, the source that kbuild is given (the tree or a view of it)."""

    tree: Path
    source: Path
    arch: str
    names: tuple[str, ...]

    def write(self, room: Path) -> None:
        """Note it where a build begins: what changes in the tree from now on is not known to be built."""
        (room / STAMP).unlink(missing_ok=True)
        facts = {"tree": f"{self.tree}", "source": f"{self.source}", "arch": self.arch, "names": self.names}
        (room / ORIGIN).write_text(json.dumps(facts), encoding="utf-8")

    @classmethod
    def of(cls, room: Path) -> Origin | None:
        """Return what was noted, or None."""
        try:
            facts = json.loads((room / ORIGIN).read_text(encoding="utf-8"))
            return cls(Path(facts["tree"]), Path(facts["source"]), facts["arch"], tuple(facts["names"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def begin(room: Path, wanted: Origin, cache: Cache, progress: Progress) -> bool:
    """Fill the empty ``room/out`` from the build of the repository that ended last; return False if there is none.

    The tree must be nobody's but ours, for its files are given other times. Raises OSError.
    """
    shutil.rmtree(room / _HALF, ignore_errors=True)
    for key in _others(room, wanted, cache):
        with cache.unused(room.parent.name, key) as other:
            origin = Origin.of(other) if other is not None else None
            if other is None or origin is None or not _is_fit(other, origin, wanted):
                continue
            with progress.task(f"begin with what was built of {origin.tree}", None):
                return _Copy(other, origin, room, wanted).made()
    return False


def _others(room: Path, wanted: Origin, cache: Cache) -> list[str]:
    """Return the keys of finished builds for the same, of other trees; the latest first."""
    found = []
    for stamp in room.parent.glob(f"*/{STAMP}"):
        origin = Origin.of(stamp.parent)
        if origin and (origin.arch, origin.names) == (wanted.arch, wanted.names) and stamp.parent != room:
            found.append((_mtime(stamp), stamp.parent.name))
    return [key for _, key in sorted(found, reverse=True)]


def _is_fit(other: Path, origin: Origin, wanted: Origin) -> bool:
    """Return whether a build is whole, and of a tree that still is the one it was, in the same repository."""
    if not (other / STAMP).is_file() or not origin.tree.is_dir():
        return False
    if replaced.is_other(other / TREE, origin.tree) or origin.source in other.parents:
        return False
    return _repository(origin.tree) == _repository(wanted.tree) != ""


def _repository(tree: Path) -> str:
    done = gitcommand.run(
        tree, "rev-parse", "--path-format=absolute", "--show-prefix", "--git-common-dir", check=False
    )
    return done.stdout if done.status == 0 else ""


@dataclass(frozen=True)
class _Copy:
    """From one room to another."""

    other: Path
    origin: Origin
    room: Path
    wanted: Origin

    def made(self) -> bool:
        """Return whether it was made; a link that leads elsewhere, and a clock behind the files', are against it."""
        began = _mtime(self.other / ORIGIN)
        same, differing = self._compared(began)
        times = self._times(max([began, *(path.lstat().st_mtime_ns for path in same)]))
        now = time.time_ns()
        if not same or max(times.values()) >= now or any(path.is_symlink() for path in differing):
            return False
        for path in differing:
            os.utime(path, ns=(now, now))
        self._copy(times)
        return True

    def _compared(self, began: int) -> tuple[list[Path], list[Path]]:
        """Return the files of the new tree that read as those that were built from, and those that do not."""
        same, differing = list[Path](), list[Path]()
        for path in _files(self.wanted.tree):
            before = self.origin.source / path.relative_to(self.wanted.tree)
            (same if _reads_the_same(before, path, began) else differing).append(path)
        return same, differing

    def _times(self, after: int) -> dict[int, int]:
        """Return new times for those in the other directory: in the same order, close together, from ``after`` on.

        ``after`` is when the other build began at the earliest, for what lies outside of the tree (/usr/include) was
        looked at then.
        """
        known = {path.lstat().st_mtime_ns for path in _files(self.other / "out")}
        return {then: after + _STEP_NS * number for number, then in enumerate(sorted(known), 1)}

    def _copy(self, times: dict[int, int]) -> None:
        """Copy all, so that a copy that was not finished is never taken for one.

        Also empty directories: kbuild finds commands through arch/x86/entry/syscalls/../../../..
        """
        made, old = self.room / _HALF, self.other / "out"
        for top, _, _ in os.walk(old):
            (made / Path(top).relative_to(old)).mkdir()
        for path in _files(old):
            self._one(path, made / path.relative_to(old), times[path.lstat().st_mtime_ns])
        made.rename(self.room / "out")
        self._one(self.other / CONFIGURED, self.room / CONFIGURED, max(times.values()))

    def _one(self, path: Path, target: Path, when: int) -> None:
        if path.is_symlink():
            target.symlink_to(os.fsdecode(self._ours(os.fsencode(path.readlink()))))
        else:
            content = path.read_bytes()
            target.write_bytes(self._ours(content) if _is_text(content) else content)
            shutil.copymode(path, target)
        os.utime(target, ns=(when, when), follow_symlinks=False)

    def _ours(self, content: bytes) -> bytes:
        """Return a text with our paths instead of the other's; ccache writes them relative where it is told a base."""
        base, ours = self.origin.source, self.wanted.source
        relative = os.path.relpath(base, self.other / "out"), os.path.relpath(ours, self.room / "out")
        pairs = [(f"{base}", f"{ours}"), (f"{self.other}", f"{self.room}"), relative]
        new = {os.fsencode(before): os.fsencode(after) for before, after in pairs}
        either = b"|".join(re.escape(before) for before in sorted(new, key=len, reverse=True))
        return re.sub(_PATH % either, lambda found: new[found[1]], content)


def _files(directory: Path) -> Iterator[Path]:
    """Yield all files and links below a directory, without git's own."""
    for top, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if name != ".git"]
        links = [name for name in directories if Path(top, name).is_symlink()]
        yield from (Path(top, name) for name in (*names, *links) if name != ".git")


def _reads_the_same(before: Path, now: Path, began: int) -> bool:
    """Return whether a file reads as the other, which was written before the build ``began`` (ns) and not since."""
    try:
        if now.is_symlink():
            return before.is_symlink() and before.readlink() == now.readlink()
        if before.stat().st_size != now.stat().st_size or before.read_bytes() != now.read_bytes():
            return False
        return _mtime(before) < began
    except OSError:
        return False


def _is_text(content: bytes) -> bool:
    return len(content) <= _TEXT_BYTES and b"\0" not in content


def _mtime(path: Path) -> int:
    return path.stat().st_mtime_ns
