"""File locks that end with their holder: flock(2), waited for until a deadline."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hostwalk.deadline import Deadline
from hostwalk.errors import CacheError


def try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the exclusive lock of a file (made if needed), or None if it is held."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def locked(
    path: Path, deadline: Deadline, on_wait: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Iterator[None]:
    """Hold the exclusive lock of a file; what ``on_wait`` gives is entered while it has to be waited for.

    Raises CacheError when the deadline passes, OSError when the file cannot be made.
    """
    fd = try_lock(path)
    if fd is None:
        with on_wait():
            fd = _wait_for(path, deadline)
    try:
        yield
    finally:
        os.close(fd)


def _wait_for(path: Path, deadline: Deadline) -> int:
    """Wait in a thread of its own, since flock(2) has no time-out."""
    waiter = _Waiter(path)
    waiter.start()
    waiter.join(deadline.remaining)
    fd = waiter.take()
    if fd is None:
        raise CacheError(
            f"another hostwalk held {path} for more than {deadline.seconds:.0f} s",
            remedy="wait for it to end, or end it; a lock ends with its holder, never delete it",
        )
    return fd


class _Waiter(threading.Thread):
    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True, name="hostwalk-lock")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._guard = threading.Lock()
        self._state = "waiting"

    def run(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        with self._guard:
            if self._state == "given up":
                os.close(self._fd)
            self._state = "held"

    def take(self) -> int | None:
        with self._guard:
            if self._state == "held":
                return self._fd
            self._state = "given up"
            return None
