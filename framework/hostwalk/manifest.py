"""What a directory tree held when it was complete: tells a whole cache entry from a damaged one."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hostwalk.errors import CacheError

NAME = ".manifest"
_MAGIC = "hostwalk-manifest-1"
_MANY = 64


class Check(Enum):
    """How closely an entry is looked at before it is used."""

    MARK = "the manifest is there; for trees of many files"
    STAT = "sizes and times; contents where they differ"
    HASH = "all contents"


@dataclass(frozen=True)
class Line:
    """One file: its digest (``->target`` of a symbolic link), bytes, modification time and relative path."""

    digest: str
    size: int
    mtime_ns: int
    path: str

    def __str__(self) -> str:
        return f"{self.digest}\t{self.size}\t{self.mtime_ns}\t{self.path}"


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's content; raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write(tree: Path) -> None:
    """Write the manifest of a complete tree and make the whole tree durable; raises OSError."""
    lines = [_line(tree, path) for path in _files(tree)]
    body = "".join(f"{line}\n" for line in lines)
    seal = hashlib.sha256(body.encode()).hexdigest()
    size = sum(_room(tree / line.path) for line in lines)
    (tree / NAME).write_text(f"{_MAGIC} {seal} {size}\n{body}")
    _make_durable(tree, [tree / line.path for line in lines if not line.digest.startswith("->")])


def is_whole(tree: Path, check: Check) -> bool:
    """Return whether the tree still is what its manifest says; a tree without a manifest is not whole."""
    try:
        if check is Check.MARK:
            return _size_in_header(tree) is not None
        return all(_is_kept(tree, line, check) for line in _read(tree))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def digests(tree: Path) -> dict[str, str]:
    """Return the hex SHA-256 of each file by its relative path; raises OSError, ValueError."""
    return {line.path: line.digest for line in _read(tree) if not line.digest.startswith("->")}


def size_of(tree: Path) -> int:
    """Return the bytes of a tree: as its manifest says, or counted where it has none."""
    try:
        size = _size_in_header(tree)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        size = None
    return sum(_room(path) for path in _files(tree)) if size is None else size


def _room(path: Path) -> int:
    """Return the bytes that a file takes, without its holes."""
    stat = path.lstat()
    return min(stat.st_size, stat.st_blocks * 512)


def _size_in_header(tree: Path) -> int | None:
    with (tree / NAME).open(encoding="utf-8") as stream:
        magic, _seal, size = stream.readline().split()
    return int(size) if magic == _MAGIC else None


def _read(tree: Path) -> list[Line]:
    header, _, body = (tree / NAME).read_text(encoding="utf-8").partition("\n")
    magic, seal, _size = header.split()
    if magic != _MAGIC or hashlib.sha256(body.encode()).hexdigest() != seal:
        raise ValueError(f"damaged manifest in {tree}")
    split = (line.split("\t", 3) for line in body.splitlines())
    return [Line(digest, int(size), int(mtime), path) for digest, size, mtime, path in split]


def _is_kept(tree: Path, line: Line, check: Check) -> bool:
    path = tree / line.path
    if line.digest.startswith("->"):
        return path.is_symlink() and str(path.readlink()) == line.digest[2:]
    stat = path.lstat()
    if stat.st_size != line.size:
        return False
    if check is Check.STAT and stat.st_mtime_ns == line.mtime_ns:
        return True
    return sha256_of(path) == line.digest


def _line(tree: Path, path: Path) -> Line:
    name = str(path.relative_to(tree))
    if "\n" in name or "\t" in name:
        raise CacheError(f"a file name with a control character cannot be kept: {name!r}")
    stat = path.lstat()
    if path.is_symlink():
        return Line(f"->{path.readlink()}", 0, 0, name)
    return Line(sha256_of(path), stat.st_size, stat.st_mtime_ns, name)


def _files(tree: Path) -> Iterator[Path]:
    """Yield files and symbolic links below a tree, in a stable order, without the manifest."""
    for directory, folders, names in os.walk(tree):
        folders.sort()
        here = Path(directory)
        links = [name for name in folders if (here / name).is_symlink()]
        yield from (here / name for name in sorted(names + links) if (here / name) != tree / NAME)


def _make_durable(tree: Path, files: list[Path]) -> None:
    if len(files) > _MANY:
        sync_file_system(tree)
        return
    for path in [*files, tree / NAME, *{file.parent for file in files}, tree]:
        sync(path)


def sync(path: Path) -> None:
    """Make one file or directory durable; raises OSError, which is where a full disk may show first."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(path: Path) -> None:
    """Make everything on the path's file system durable; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(fd)
