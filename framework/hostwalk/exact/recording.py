"""A recording: the file that holds all that an execution needs to be done again, but for kernel and QEMU.

A zip archive: QEMU's log, the initramfs, the script, and facts.json.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from hostwalk.errors import UsageError
from hostwalk.machine.course import Mark
from hostwalk.repro.pin import Pin
from hostwalk.repro.script import Script, parse

FORMAT = "hostwalk-exact-1"
FACTS, LOG, INITRAMFS, SCRIPT = "facts.json", "log", "initramfs.cpio", "script.py"
LARGEST_FACTS = 8 << 20
LARGEST_PART = 1 << 30
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError, NotImplementedError)


@dataclass(frozen=True)
class Cost:
    """Seconds from the start of the machine to the verdict: plain, and recorded; ``log`` and ``packed`` in bytes."""

    plain: float
    recorded: float
    log: int
    packed: int = 0

    @property
    def slowdown(self) -> float:
        """How many times as long as a plain run a recorded one took."""
        return self.recorded / max(self.plain, 0.001)


@dataclass(frozen=True)
class Recording:
    """An execution of ``script`` on ``pin``.

    ``command`` is QEMU's command line without places, ``marks`` the halts, the last but one where the verdict
    falls, before the process ends; ``said`` what failed. ``layout`` and ``abi`` are
    the tables of its exerciser and agent.
    """

    pin: Pin
    script: Script
    command: str
    marks: tuple[Mark, ...]
    said: str
    cost: Cost
    layout: Mapping[str, int] = field(repr=False)
    abi: Mapping[str, int] = field(repr=False)
    log: bytes = field(repr=False)
    initramfs: bytes = field(repr=False)

    @property
    def verdict(self) -> int:
        """The number of the mark at which the verdict fell."""
        return len(self.marks) - 2

    def save(self, path: Path) -> int:
        """Write it; return its size in bytes. Raises UsageError."""
        parts = {LOG: self.log, INITRAMFS: self.initramfs, SCRIPT: self.script.text.encode()}
        facts = {
            "format": FORMAT, "name": self.script.path.name, "pin": asdict(self.pin), "command": self.command,
            "marks": [asdict(mark) for mark in self.marks], "said": self.said, "cost": asdict(self.cost),
            "layout": dict(self.layout), "abi": dict(self.abi),
            "digests": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
        }  # fmt: skip
        made = path.with_name(f".{path.name}.new")
        try:
            with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(FACTS, json.dumps(facts))
                for name, data in parts.items():
                    archive.writestr(name, data)
            made.replace(path)
        except OSError as error:
            with suppress(OSError):
                made.unlink(missing_ok=True)
            raise _unwritable(path, error) from error
        return path.stat().st_size

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read one; raises UsageError for a file that cannot be read, is cut short or damaged, or is none."""
        try:
            with zipfile.ZipFile(path) as archive:
                facts = json.loads(_part(archive, FACTS, LARGEST_FACTS))
                if facts["format"] != FORMAT:
                    raise ValueError(f"its format is {facts['format']!r}")
                return cls._of(facts, {name: _part(archive, name) for name in (LOG, INITRAMFS, SCRIPT)})
        except OSError as error:
            raise UsageError(
                f"{path} cannot be read: {error.strerror}",
                remedy="give a file of hostwalk repro record --exact",
            ) from error
        except _DAMAGED as error:
            raise UsageError(
                f"{path} is no whole recording ({error}): it may be cut short, or of another version of hostwalk",
                remedy="get the whole file again, or record it again: hostwalk repro record --exact SCRIPT",
            ) from error

    @classmethod
    def _of(cls, facts: dict[str, Any], parts: dict[str, bytes]) -> Self:
        for name, data in parts.items():
            if hashlib.sha256(data).hexdigest() != facts["digests"][name]:
                raise ValueError(f"{name} is not what was recorded")
        marks = tuple(Mark(**mark) for mark in facts["marks"])
        if len(marks) < 2:
            raise ValueError("it has too few marks")
        if not all(isinstance(mark.icount, int) and mark.ram for mark in marks):
            raise ValueError("its marks are not counts of instructions")
        script = parse(parts[SCRIPT].decode(), Path(facts["name"]))
        return cls(
            Pin(**facts["pin"]), script, facts["command"], marks, facts["said"], Cost(**facts["cost"]),
            facts["layout"], facts["abi"], parts[LOG], parts[INITRAMFS],
        )  # fmt: skip


def require_place(path: Path) -> None:
    """Make the directory of a file that is to be written; raises UsageError where it cannot be, or takes no files."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be written: {error.strerror}", remedy="choose another place: -o FILE")


def _part(archive: zipfile.ZipFile, name: str, largest: int = LARGEST_PART) -> bytes:
    if archive.getinfo(name).file_size > largest:
        raise ValueError(f"{name} is too large")
    return archive.read(name)


def marked(marks: Sequence[Mark]) -> Iterator[str]:
    """Yield each mark in words."""
    for number, mark in enumerate(marks, 1):
        yield f"{number:>3}  {mark.icount:>13,}  {mark.ram[:12]}  {mark.what}".replace(",", " ")
