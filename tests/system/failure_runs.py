"""Runs of the command as a user meets it, and what such a run leaves behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "hostwalk")
ONE_CLAIM = ("check", "--arch", "x86_64", "-k", "mmap.populate.1")
END_SECONDS = 5.0
SEEDS = ("apt", "deb")
KINDS = (*SEEDS, "accel", "agent", "boot", "doctor", "exerciser", "headers", "image", "kernel", "symbols")
REPLACED = ("apt", "accel", "doctor")
WITH_OWN_CLAIMS = """\
import pathlib, sys
from hostwalk import resources
resources.contract = lambda: pathlib.Path({claims!r})
from hostwalk.cli.main import main
sys.exit(main())
"""


def program_with(claims: Path) -> tuple[str, ...]:
    """Return the command with the claims of a directory in place of the contract."""
    return (sys.executable, "-c", WITH_OWN_CLAIMS.format(claims=str(claims)))


@dataclass(frozen=True)
class Ended:
    """A run that has ended; ``seconds`` is its wall time."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err

    def explains(self, *words: str) -> bool:
        """Whether all these words are in what it said, without a traceback."""
        missing = [word for word in words if word not in self.text]
        assert not missing, f"{missing} not in:\n{self.text}"
        assert "Traceback" not in self.text, self.text
        return True


@dataclass(frozen=True)
class Hostwalk:
    """The command with an environment of its own; ``mark`` tells whatever it starts from other programs."""

    place: Path
    cache: Path
    program: Sequence[str] = PROGRAM
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def temporary(self) -> Path:
        return self.place / "tmp"

    def environment(self, **more: str) -> dict[str, str]:
        self.temporary.mkdir(parents=True, exist_ok=True)
        own = {
            "HOSTWALK_CACHE": str(self.cache),
            "HOSTWALK_COMMAND": "hostwalk",
            "HOSTWALK_INSTALL": "no",
            "HOSTWALK_TEST_MARK": self.mark,
            "PYTHONPATH": str(TOP / "framework"),
            "TMPDIR": str(self.temporary),
        }
        return {**os.environ, **own, **more}

    def start(self, *words: str, prefix: Sequence[str] = (), **more: str) -> subprocess.Popen[str]:
        """Start a run with the words of its command line, and more variables in its environment."""
        return subprocess.Popen(
            [*prefix, *self.program, *words],
            env=self.environment(**more), cwd=self.place, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str], seconds: float, began: float | None = None) -> Ended:
        """Wait for a run's end and prove that nothing of it is left."""
        start = time.monotonic() if began is None else began
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        ended = Ended(process.returncode, out, err, time.monotonic() - start)
        self.assert_nothing_left()
        return ended

    def run(self, *words: str, seconds: float, prefix: Sequence[str] = (), **more: str) -> Ended:
        """Run a command line to its end, which must come in time and leave nothing behind."""
        began = time.monotonic()
        return self.finish(self.start(*words, prefix=prefix, **more), seconds, began)

    def children(self) -> dict[int, str]:
        """Return what runs of what was started: process numbers and command lines."""
        return {int(path.name): name for path in Path("/proc").glob("[0-9]*") if (name := self._own(path))}

    def _own(self, path: Path) -> str:
        with contextlib.suppress(OSError):
            if f"HOSTWALK_TEST_MARK={self.mark}".encode() in (path / "environ").read_bytes():
                return (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""

    def assert_nothing_left(self) -> None:
        """Fail if a process of ours goes on, or a temporary file is left."""
        for number, name in self.children().items():
            assert has_ended(number, END_SECONDS), f"still runs: {name}"
        assert list(self.temporary.iterdir()) == []


def has_ended(number: int, seconds: float) -> bool:
    """Wait for the end of any process."""
    try:
        fd = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    with open(fd):  # noqa: PTH123
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def copy_cache(warm: Path, to: Path, kinds: Sequence[str] = KINDS) -> Path:
    """Return a private copy of some of a cache; what is never changed in place is linked."""
    for kind in kinds:
        if (warm / kind).is_dir():
            copy = shutil.copy2 if kind in REPLACED else link_or_copy
            shutil.copytree(warm / kind, to / kind, symlinks=True, copy_function=copy)
    return to


def link_or_copy(source: str, target: str) -> None:
    """Link a file, or copy it to another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def entries(cache: Path, kind: str) -> Iterator[Path]:
    """Return the directories of a cache's entries of a kind."""
    return (cache / kind).iterdir() if (cache / kind).is_dir() else iter(())


def damage(path: Path) -> None:
    """Change bytes in the middle of a file that others may have links to."""
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 64):
        data[at] ^= 0xFF
    path.unlink()
    path.write_bytes(data)


def assert_sound(cache: Path) -> None:
    """Fail if an unfinished entry is left in a cache that nobody is making."""
    left = [path for path in entries(cache, ".tmp") if path.suffix != ".lock" and not is_being_made(path)]
    assert left == []


def is_being_made(path: Path) -> bool:
    """Whether the maker of an unfinished entry still holds its lock."""
    try:
        with path.with_suffix(".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return not path.exists()
    return False
