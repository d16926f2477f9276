"""Cases of the Linux Test Project as a suite: a file of its runtest directory, the programs those of a user's build.

A case is a line of such a file, a name and a shell command. Its files are the programs and scripts of LTP that the
command names, and those that they name in their turn.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from hostwalk.errors import UsageError
from hostwalk.kernels.bootfile import elf_machine
from hostwalk.suites.expected import Known
from hostwalk.suites.ltp_output import judged
from hostwalk.suites.outcome import Ending, Result
from hostwalk.suites.plan import Step
from hostwalk.target import Arch

MANIFEST, TABLE = "ltp.toml", "ltp"
PLACE = "/opt/ltp"
"""Where LTP lies in the guest."""
TIMEOUT_FACTOR = 100
"""For how much longer than it likes a test may go on by itself: what has no end is ended from here."""
DISK = "/dev/ram0"
"""What a test that needs a disk is given, where the module for it is loaded (images/ltp.toml)."""
_ELF, _HEAD = b"\x7fELF", 20
_WORD = re.compile(rb"[\w.+-]+")
_HOME = "testcases/bin"


@dataclass(frozen=True)
class Ltp:
    """The cases of ``collection``, a file of runtest/, in an LTP at ``root`` that was built for an architecture."""

    collection: str
    root: Path
    arch: Arch
    known: Known

    @classmethod
    def of(cls, root: Path, collection: str, arch: Arch) -> Self:
        """Return the suite; raises UsageError where there is no such LTP, or one for another architecture."""
        if not (root / "runtest").is_dir():
            raise UsageError(f"{root} is no LTP: it has no directory runtest", remedy=_REMEDY)
        if not (root / "runtest" / collection).is_file():
            there = sorted(path.name for path in (root / "runtest").iterdir() if path.name.islower())
            raise UsageError(f"LTP in {root} has no {collection!r}; it has {', '.join(there)}")
        suite = cls(collection, root, arch, Known.of(MANIFEST, TABLE))
        built_for = next(filter(None, map(machine_of, suite.programs.values())), None)
        if built_for is None:
            raise UsageError(f"LTP in {root} is not built: there are no programs in {_HOME}", remedy=_REMEDY)
        if built_for != arch:
            raise UsageError(
                f"LTP in {root} is built for {built_for}, the guest is {arch}",
                remedy=f"configure LTP with --host={arch.gnu}, or ask for --arch {built_for}",
            )
        return suite

    @property
    def name(self) -> str:
        """What the names of its results begin with."""
        return f"ltp {self.collection}"

    @property
    def whole(self) -> bool:
        """No: LTP's own runners wait for the process that they began."""
        return False

    @cached_property
    def programs(self) -> Mapping[str, Path]:
        """Its programs and scripts by name: those of testcases/bin, or of a tree in which it was built."""
        installed = self.root / _HOME
        if installed.is_dir():
            return {path.name: path for path in sorted(installed.iterdir()) if path.is_file()}
        return {path.name: path for path in _executables(self.root / "testcases")}

    def steps(self) -> tuple[Step, ...]:
        """Return its cases in the order of the file."""
        text = (self.root / "runtest" / self.collection).read_text(errors="replace")
        return tuple(
            Step(self.collection, ("sh", "-c", command), title=tag)
            for line in text.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
            for tag, _, command in [line.strip().replace("\t", " ").partition(" ")]
        )

    def why_not(self, step: Step) -> str:
        """Return why a case cannot run, empty if it can."""
        names = self._named(step.command[-1].encode())
        if not names:
            return f"LTP in {self.root} has no program of {step.command[-1].strip()!r}: it was not built"
        others = (
            f"{name} is a program for {machine}, the guest is {self.arch}"
            for name in names
            if (machine := machine_of(self.programs[name])) not in (None, self.arch)
        )
        return next(others, "")

    def files(self, step: Step) -> tuple[tuple[Path, str], ...]:
        """Return the files of LTP that a case's command names, those that they name, and the data of these."""
        found: dict[str, Path] = {}
        new = self._named(step.command[-1].encode())
        while new:
            found |= {name: self.programs[name] for name in new}
            named = (self._named(self.programs[name].read_bytes()) for name in new)
            new = tuple(dict.fromkeys(name for names in named for name in names if name not in found))
        data = [path for name in found for path in self._data(name)]
        programs = ((path, f"{PLACE}/{_HOME}/{name}") for name, path in found.items())
        return (*programs, *((path, f"{PLACE}/{path.relative_to(self.root)}") for path in data))

    def _named(self, text: bytes) -> tuple[str, ...]:
        words = dict.fromkeys(word.decode() for word in _WORD.findall(text))
        return tuple(word for word in words if word in self.programs)

    def _data(self, name: str) -> Iterator[Path]:
        return (path for path in sorted((self.root / "testcases/data" / name).rglob("*")) if path.is_file())

    def command(self, step: Step) -> tuple[str, ...]:
        """Return a case's command, with the variables that LTP's own runners set."""
        settings = {
            "LTPROOT": PLACE, "TMPDIR": "/tmp", "TMP": "/tmp",  # noqa: S108 (the guest's)
            "PATH": f"{PLACE}/{_HOME}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LTP_COLORIZE_OUTPUT": "n", "LTP_TIMEOUT_MUL": str(TIMEOUT_FACTOR), "LTP_DEV": DISK,
        }  # fmt: skip
        return ("env", *(f"{name}={value}" for name, value in settings.items()), *step.command)

    def judged(self, name: str, text: str, ending: Ending) -> tuple[Result, ...]:
        """Return the results of a case."""
        return judged(name, text, ending)


_REMEDY = "build LTP for the guest's architecture and install it into a directory: --ltp DIR (docs/suites.md)"


def _executables(top: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(top):
        folders.sort()
        yield from (
            path
            for name in sorted(names)
            if (path := Path(directory, name)).is_file() and os.access(path, os.X_OK)
        )


def machine_of(path: Path) -> Arch | None:
    """Return the architecture that a program is for; None for a script, and for what hostwalk does not know."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return None
    machine = elf_machine(head) if head.startswith(_ELF) and len(head) == _HEAD else None
    return machine if isinstance(machine, Arch) else None
