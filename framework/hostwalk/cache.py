"""The cache: directories that are made once, completely or not at all, and checked before each use.

Below the root lie ``KIND/KEY/`` (the entries, each with a manifest), ``.locks/`` (a flock per entry: parallel
runs wait for one maker), and ``.tmp/`` (what is being made; its maker holds a lock, a killed maker does not).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hostwalk import manifest
from hostwalk.deadline import Deadline
from hostwalk.errors import CacheError, HostwalkError, UsageError
from hostwalk.locks import locked, try_lock
from hostwalk.manifest import Check

VARIABLE = "HOSTWALK_CACHE"
SIZE_VARIABLE = "HOSTWALK_CACHE_SIZE"
DEFAULT_SIZE = 4 << 30
PATIENCE = 1800.0
_SIZE = re.compile(r"(\d+)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:@-]*")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded")
_SPACE = "free some space, clear it (hostwalk cache clear), or set HOSTWALK_CACHE to a directory with room"
_ACCESS = "make it writable, or set HOSTWALK_CACHE to a directory that is"


def key_of(*parts: str | bytes | Path) -> str:
    """Return a key of 32 hex digits over all parts; a Path contributes its content, or all files below it."""
    digest = hashlib.sha256()
    for part in parts:
        for chunk in _chunks(part):
            digest.update(f"{len(chunk)}:".encode() + chunk)
    return digest.hexdigest()[:32]


def _chunks(part: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(part, str):
        yield b"s" + part.encode()
    elif isinstance(part, bytes):
        yield b"b" + part
    elif part.is_dir():
        for path in sorted(path for path in part.rglob("*") if path.is_file()):
            yield b"n" + str(path.relative_to(part)).encode()
            yield b"f" + path.read_bytes()
    else:
        yield b"f" + part.read_bytes()


def size_limit() -> int:
    """Return how many bytes the templates may take: HOSTWALK_CACHE_SIZE, or 4 GiB; raises UsageError."""
    text = os.environ.get(SIZE_VARIABLE, "").strip()
    match = _SIZE.fullmatch(text)
    if text and match is None:
        raise UsageError(
            f"{SIZE_VARIABLE}={text} is no size", remedy="give bytes, or a number with K, M, G or T"
        )
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ") if match else DEFAULT_SIZE


@dataclass(frozen=True)
class Entry:
    """What the cache holds; ``size`` in bytes, ``used`` in seconds since the epoch."""

    kind: str
    key: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Cache:
    """A directory of entries. Safe for parallel threads and processes; ``on_wait`` shows for whom we wait."""

    root: Path
    on_wait: Callable[[str], AbstractContextManager[object]] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", self.root.absolute())

    @classmethod
    def user(cls) -> Cache:
        """Return the user's cache: HOSTWALK_CACHE, or hostwalk below XDG_CACHE_HOME or ~/.cache."""
        chosen = os.environ.get(VARIABLE)
        if chosen:
            return cls(Path(chosen)).opened()
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
        if not Path(base).is_absolute():
            raise CacheError(
                "there is no home directory for a cache", remedy=f"set {VARIABLE} to a directory"
            )
        return cls(Path(base) / "hostwalk").opened()

    def opened(self) -> Cache:
        """Return this cache after removing what killed runs left, if it is writable."""
        with contextlib.suppress(OSError):
            self.sweep()
        return self

    def lookup(self, kind: str, key: str, check: Check = Check.STAT) -> Path | None:
        """Return the directory of an entry that is there and whole, else None; notes its last use."""
        path = self._path(kind, key)
        with self._errors(f"cannot read {kind} {key}"):
            if not manifest.is_whole(path, check):
                return None
            self._touch(kind, key)
        return path

    def entry(
        self,
        kind: str,
        key: str,
        make: Callable[[Path], None],
        *,
        check: Check = Check.STAT,
        deadline: Deadline | None = None,
    ) -> Path:
        """Return the directory of an entry, made by ``make(directory)`` if it is not there or is damaged.

        Raises CacheError when the cache cannot be used, and what ``make`` raises; then no entry is left.
        """
        found = self.lookup(kind, key, check)
        if found:
            return found
        with self._errors(f"cannot make {kind} {key}"), self.locked(kind, key, deadline):
            return self.lookup(kind, key, check) or self._make(kind, key, make)

    def verify(self, path: Path) -> bool:
        """Return whether all contents of an entry's directory are what they were when it was made."""
        with self._errors(f"cannot read {path}"):
            return manifest.is_whole(path, Check.HASH)

    def drop(self, path: Path) -> None:
        """Remove the directory of an entry that turned out to be damaged, if it is still there."""
        kind, key = path.relative_to(self.root).parts[:2]
        self.remove(kind, key)

    @contextlib.contextmanager
    def locked(self, kind: str, key: str, deadline: Deadline | None = None) -> Iterator[None]:
        """Hold the lock of an entry's name; raises CacheError after the deadline (half an hour if None)."""
        path = self._lock(kind, key)
        with self._errors(f"cannot lock {kind} {key}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        waits = self.on_wait
        show = partial(waits, f"{kind} {key}") if waits else contextlib.nullcontext
        with locked(path, deadline or Deadline.after(PATIENCE), show):
            yield

    @contextlib.contextmanager
    def workspace(self, kind: str, key: str, deadline: Deadline | None = None) -> Iterator[Path]:
        """Lend a lasting directory to one user at a time; its content is the user's affair."""
        path = self._path(kind, key)
        with self.locked(kind, key, deadline), self._errors(f"cannot use {kind} {key}"):
            path.mkdir(parents=True, exist_ok=True)
            self._touch(kind, key)
            yield path

    @contextlib.contextmanager
    def unused(self, kind: str, key: str) -> Iterator[Path | None]:
        """Lend a lasting directory that is there and that nobody uses at the moment, else None."""
        path, fd = self._path(kind, key), None
        with self._errors(f"cannot lock {kind} {key}"):
            if path.is_dir():
                fd = try_lock(self._lock(kind, key))
        try:
            yield None if fd is None else path
        finally:
            if fd is not None:
                os.close(fd)

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """Lend an empty directory on the cache's file system, gone afterwards: at the latest by a sweep."""
        with self._errors("cannot make a temporary directory"):
            self.sweep()
            lock, fd = self._new_temporary()
        path = lock.with_suffix("")
        try:
            with self._errors("cannot use a temporary directory"):
                path.mkdir()
            yield path
        finally:
            _remove_temporary(path, fd)

    def sweep(self) -> None:
        """Remove temporary directories whose makers have died."""
        for path in self._temporaries():
            fd = try_lock(path.with_suffix(".lock"))
            if fd is not None:
                _remove_temporary(path, fd)

    def entries(self, kind: str | None = None) -> tuple[Entry, ...]:
        """Return what the cache holds, of one kind or all, in order of kind and key."""
        with self._errors("cannot list the cache"):
            kinds = [kind] if kind else sorted(_names(self.root))
            return tuple(self._entry(each, key) for each in kinds for key in sorted(_names(self.root / each)))

    def trim(self, kind: str, *, keep: str = "", limit: int | None = None) -> tuple[Entry, ...]:
        """Remove what was used longest ago until one kind takes at most ``limit`` bytes; return what was removed.

        The limit is HOSTWALK_CACHE_SIZE unless given, such as 500M or 4G; the entry ``keep`` stays in any case.
        """
        room = size_limit() if limit is None else limit
        gone: list[Entry] = []
        entries = sorted(self.entries(kind), key=lambda entry: (entry.key == keep, entry.used), reverse=True)
        for entry in entries:
            room -= entry.size
            if room < 0 and entry.key != keep:
                gone += self.remove(kind, entry.key)
        return tuple(gone)

    def remove(self, kind: str | None = None, key: str | None = None) -> tuple[Entry, ...]:
        """Remove entries of one kind (one key) or all; return what was removed."""
        gone = tuple(entry for entry in self.entries(kind) if key in (None, entry.key))
        for entry in gone:
            with self._errors(f"cannot remove {entry.path}"), self.locked(entry.kind, entry.key):
                self._discard(entry.path)
        return gone

    def _path(self, kind: str, key: str) -> Path:
        for name in (kind, key):
            if not _NAME.fullmatch(name):
                raise ValueError(f"not a name of a cache entry: {name!r}")
        return self.root / kind / key

    def _lock(self, kind: str, key: str) -> Path:
        return self.root / ".locks" / f"{kind}.{key}"

    def _touch(self, kind: str, key: str) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._lock(kind, key))

    def _entry(self, kind: str, key: str) -> Entry:
        path = self._path(kind, key)
        lock = self._lock(kind, key)
        used = (lock if lock.exists() else path).stat().st_mtime
        return Entry(kind, key, path, manifest.size_of(path), used)

    def _make(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        path = self._path(kind, key)
        with self.temporary() as directory:
            make(directory)
            manifest.write(directory)
            self._discard(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            directory.rename(path)
            manifest.sync(path.parent)
        return path

    def _discard(self, path: Path) -> None:
        """Take a directory out of sight at once, then delete it."""
        if not path.exists():
            return
        with self.temporary() as directory:
            path.rename(directory / "gone")

    def _new_temporary(self) -> tuple[Path, int]:
        """Return a new lock file and the descriptor that holds it; again when a sweep was faster."""
        home = self.root / ".tmp"
        home.mkdir(parents=True, exist_ok=True)
        while True:
            lock = home / f"{os.getpid()}-{secrets.token_hex(4)}.lock"
            fd = try_lock(lock)
            if fd is not None and _is_same(lock, fd):
                return lock, fd
            if fd is not None:
                os.close(fd)

    def _temporaries(self) -> set[Path]:
        home = self.root / ".tmp"
        return {path.with_suffix("") for path in home.iterdir()} if home.is_dir() else set()

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._is_ours(error):
                raise
            raise self._explained(what, error) from error
        except CacheError:
            raise
        except HostwalkError as error:
            if any(text in error.evidence.stderr for text in _FULL_TEXTS):
                full = f"{what}: the disk of {self.root} is full"
                raise CacheError(full, remedy=_SPACE, evidence=error.evidence) from error
            raise

    def _is_ours(self, error: OSError) -> bool:
        names = [name for name in (error.filename, error.filename2) if isinstance(name, str | Path)]
        return not names or any(Path(name).absolute().is_relative_to(self.root) for name in names)

    def _explained(self, what: str, error: OSError) -> CacheError:
        full = error.errno in _FULL
        reason = error.strerror or str(error)
        return CacheError(f"{what} in {self.root}: {reason}", remedy=_SPACE if full else _ACCESS)


def _names(directory: Path) -> list[str]:
    try:
        found = list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path.name for path in found if path.is_dir() and _NAME.fullmatch(path.name)]


def _remove_temporary(path: Path, fd: int) -> None:
    """Remove a temporary directory, its lock file, and only then let go of the lock."""
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.with_suffix(".lock").unlink(missing_ok=True)
    finally:
        os.close(fd)


def _is_same(path: Path, fd: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False
