"""Running kbuild: what it is told, how far it is, and what went wrong first."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.errors import BuildError, BuildInterruptedError, Evidence, KernelBuildError
from hostwalk.kernels.toolchain import Toolchain

BUILD_SECONDS = 4 * 3600.0
SILENT_SECONDS = 1800.0
CCACHE = "ccache"
RUN_AGAIN = (
    "run this again when the host has memory and time; taskset(1) limits how many compilers run at once"
)
_KEPT = ("PATH", "HOME", "TERM", "LD_LIBRARY_PATH")
# The same source makes the same image: no time, no host, no count of builds in it.
_FIXED = {
    "LC_ALL": "C.UTF-8",
    "KBUILD_BUILD_TIMESTAMP": "2024-01-01",
    "KBUILD_BUILD_USER": "hostwalk",
    "KBUILD_BUILD_HOST": "hostwalk",
    "KBUILD_BUILD_VERSION": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_STEP = re.compile(r"^  [A-Z][A-Z0-9_+-]*(?: \[M\])? +(\S+)$")
_COMPILER = re.compile(
    r"^(?P<path>[^\s:]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<what>.+)$", re.MULTILINE
)
# The compiler quotes the source after a number and a bar: what a kernel prints is no message of ours.
_SAID = r"^(?! *\d+ \|)"
_FULL = re.compile(rf"{_SAID}.*(?:No space left on device|Disk quota exceeded).*$", re.MULTILINE)
# A compiler that crashes by itself may do so for what the source says; one that is killed does not.
_KILLED = re.compile(
    rf"{_SAID}(?:Killed$|.*(?:Killed signal terminated program|terminated with signal \d+ \[Killed\]"
    r"|\] (?:Killed|Terminated)$|: +\d+ Killed |virtual memory exhausted|out of memory allocating"
    r"|Cannot allocate memory|std::bad_alloc).*$)",
    re.MULTILINE,
)
_OTHERS = (
    re.compile(r"^\S*(?:Makefile|Kconfig)\S*:\d+: (?!\[).+$", re.MULTILINE),
    re.compile(r"^.*(?:undefined reference to|multiple definition of|ERROR: modpost:).*$", re.MULTILINE),
    re.compile(r"^.*\berror: .*$", re.MULTILINE | re.IGNORECASE),
    re.compile(r"^.*: (?:not found|command not found|No such file or directory)$", re.MULTILINE),
    re.compile(r"^make.*\*\*\* .*$", re.MULTILINE),
)


@dataclass(frozen=True)
class Maker:
    """kbuild for one source, build directory and compiler; ``log`` gets all that it says."""

    source: Path
    out: Path
    log: Path
    compiler: Toolchain
    what: str

    @property
    def variables(self) -> Mapping[str, str]:
        """What goes on make's command line; the same for modules."""
        ccache = f"{CCACHE} " if shutil.which(CCACHE) else ""
        own = self.compiler.variables
        return {**own, "CC": f"{ccache}{own['CC']}", "LOCALVERSION": "", "DEPMOD": "true"}

    def run(
        self, goals: Sequence[str], environ: Mapping[str, str] | None = None,
        step: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Make some goals; ``step`` is called for each thing that is made.

        Raises KernelBuildError, and BuildInterruptedError where it was killed or too slow.
        """
        argv = [*self._argv(), *goals]
        with self.log.open("ab", buffering=0) as log:
            log.write(f"$ {process.quote(argv)}\n".encode())
            start = log.tell()
            child = process.spawn(
                argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._environ(environ)
            )
            assert child.stdout is not None
            try:
                ended = follow(child.stdout, log, Deadline.after(BUILD_SECONDS), step)
                status = child.wait() if ended else None
            finally:
                process.kill(child)
                child.stdout.close()
        if status != 0:
            raise self._failure(argv, start, status)

    def dry_run(self, goals: Sequence[str]) -> str:
        """Return the commands that make would run for some goals."""
        argv = [*self._argv(), "-n", *goals]
        done = process.run(
            argv,
            deadline=Deadline.after(SILENT_SECONDS),
            what="make -n",
            check=False,
            env=self._environ(None),
        )
        return done.stdout

    def _argv(self) -> list[str | Path]:
        make = process.find_tool("make", "make")
        settings = [f"{name}={value}" for name, value in self.variables.items()]
        return [make, "-C", self.source, f"O={self.out}", *settings, f"-j{process.processors()}"]

    def _environ(self, more: Mapping[str, str] | None) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("CCACHE_")
        }
        return {**kept, **_FIXED, **(more or {})}

    def _failure(self, argv: Sequence[str | Path], start: int, status: int | None) -> BuildError:
        with self.log.open("rb") as log:
            log.seek(start)
            said = log.read().decode(errors="replace")
        evidence = Evidence(process.quote(argv), stderr=tail(said))
        if cut := interruption(said, status):
            return BuildInterruptedError(f"{self.what}: {cut}", remedy=RUN_AGAIN, evidence=evidence)
        why = first_error(said, [self.source, self.out]) or "make says nothing of use"
        remedy = f"mend the source, or see all that make said: {self.log}"
        return KernelBuildError(f"{self.what}: {why}", remedy=remedy, evidence=evidence)


def interruption(said: str, status: int | None) -> str:
    """Return what kept a build from its end though nothing is wrong with its source; empty if nothing did.

    ``status`` is make's: None where it was too slow, below zero where a signal ended it.
    """
    if status is None:
        return f"make said nothing for {SILENT_SECONDS:.0f} s, or took more than {BUILD_SECONDS:.0f} s"
    killed = _KILLED.search(said)
    if killed or status < 0:
        return killed[0].strip() if killed else f"make was ended by signal {-status}"
    return ""


def tail(said: str, lines: int = 40) -> str:
    """Return the last lines of what make said, and before them the one that tells of a full disk."""
    last, full = said.splitlines()[-lines:], _FULL.search(said)
    return "\n".join(last if full is None or full[0] in last else [full[0], *last])


def follow(stream: IO[bytes], log: IO[bytes], deadline: Deadline, step: Callable[[], None]) -> bool:
    """Copy what make says to the log until it ends; return False when it has been silent too long or too slow."""
    patience, rest = deadline.at_most(SILENT_SECONDS), b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not patience.expired:
            if not selector.select(patience.remaining):
                continue
            data = os.read(stream.fileno(), 65536)
            if not data:
                return True
            log.write(data)
            *lines, rest = (rest + data).split(b"\n")
            for _ in range(steps_in(line.decode(errors="replace") for line in lines)):
                step()
            patience = deadline.at_most(SILENT_SECONDS)
    return False


def steps_in(lines: Iterable[str]) -> int:
    """Return how many lines tell of something made, such as ``  CC      mm/gup.o``."""
    return sum(_STEP.match(line) is not None for line in lines)


def planned(dry_run: str) -> int:
    """Return how many things a dry run of make would make: each command tells of itself first."""
    return len(re.findall(r"(?:^|[;\s'])echo +(?:-e +)?['\"]  [A-Z]+", dry_run))


def first_error(said: str, prefixes: Iterable[Path] = ()) -> str:
    """Return the first thing that went wrong, with file and line if the compiler named them; empty if none is seen."""
    found = [match for match in (_FULL.search(said), _COMPILER.search(said)) if match]
    line = found[0][0] if found else next((match[0] for each in _OTHERS if (match := each.search(said))), "")
    for prefix in prefixes:
        line = line.replace(f"{prefix}/", "")
    return re.sub(r"^(?:\.\./)+", "", line.strip())
