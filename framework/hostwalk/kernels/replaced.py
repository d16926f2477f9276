"""Whether a tree is still the one that was built from: make compares times, and those of another tree may be older.

A tree that was removed and made again has another directory. One that was written over with times of its own (by tar,
rsync, cp -p) has changed files that are older than the build before; those that every build reads are looked at.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.errors import ResolveError

FILES = ("Makefile", "Kbuild", "Kconfig")
_MTIME = 2
Facts = dict[str, list[int | str]]


def is_other(record: Path, tree: Path) -> bool:
    """Return whether a tree is not the one of a record; a tree without a record is taken for the one there was."""
    if not record.exists():
        return False
    try:
        before: Facts = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return True
    now, since = facts_of(tree), record.stat().st_mtime_ns
    changed = [name for name in now if now[name] != before.get(name)]
    return any(name not in FILES or int(now[name][_MTIME]) <= since for name in changed)


def remember(record: Path, tree: Path) -> None:
    """Write down which tree is being built from; raises OSError, ResolveError."""
    record.write_text(json.dumps(facts_of(tree)), encoding="utf-8")


def facts_of(tree: Path) -> Facts:
    """Return inode and birth of a tree's directory, and inode, size and mtime (ns) of some files, 0 where they lack."""
    facts: Facts = {name: _file(tree / name) for name in FILES}
    return {".": [tree.stat().st_ino, _birth(tree)], **facts}


def _file(path: Path) -> list[int | str]:
    if not path.exists():
        return [0, 0, 0]
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _birth(path: Path) -> str:
    """Return when a directory was made, as statx(2) tells stat(1); a dash where the file system does not know."""
    argv = [process.find_tool("stat", "coreutils"), "--format=%w", str(path)]
    utc = {**os.environ, "TZ": "UTC0", "LC_ALL": "C"}
    done = process.run(argv, deadline=Deadline.after(60), error=ResolveError, what="stat", env=utc)
    return done.stdout.strip()
