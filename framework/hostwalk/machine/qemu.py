"""The QEMU that is installed: where it is, which version, which board."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from hostwalk import process
from hostwalk.cache import Cache, key_of
from hostwalk.deadline import Deadline
from hostwalk.errors import CacheError, LaunchError
from hostwalk.target import Arch

PACKAGES = {Arch.X86_64: "qemu-system-x86", Arch.ARM64: "qemu-system-arm"}
BOARDS = {Arch.X86_64: ("pc-q35-7.2", "q35"), Arch.ARM64: ("virt-7.2", "virt")}
OLDEST = (7, 2)
ANSWER = "answer.json"
ASK_SECONDS = 20


@dataclass(frozen=True)
class Qemu:
    """An installed QEMU; ``machine`` is the board, of a fixed version where this QEMU still has it."""

    path: Path
    version: str
    machine: str

    @property
    def identity(self) -> str:
        """Changes when the file does."""
        status = self.path.stat()
        return f"{self.path}:{status.st_size}:{status.st_mtime_ns}:{self.version}"

    def save(self, directory: Path) -> None:
        """Keep what QEMU itself had to be asked for, which takes two runs of it."""
        (directory / ANSWER).write_text(json.dumps({"version": self.version, "machine": self.machine}))


@functools.cache
def find_qemu(arch: Arch) -> Qemu:
    """Return the host's QEMU for an architecture; raise MissingToolError, LaunchError if it is too old."""
    path = Path(process.find_tool(arch.qemu, PACKAGES[arch])).resolve()
    status = path.stat()
    key = key_of(str(path), str(status.st_size), str(status.st_mtime_ns), *BOARDS[arch])
    try:
        entry = Cache.user().entry("qemu", key, lambda directory: _examine(arch, path).save(directory))
        return Qemu(path, **json.loads((entry / ANSWER).read_text()))
    except CacheError:
        return _examine(arch, path)


def _examine(arch: Arch, path: Path) -> Qemu:
    version = parse_version(_ask(path, "--version"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise LaunchError(f"{path} is version {version}", remedy="install QEMU 7.2 or newer")
    return Qemu(path, version, choose_board(arch, _ask(path, "-machine", "help")))


def _ask(path: Path, *words: str) -> str:
    done = process.run(
        [path, *words], deadline=Deadline.after(ASK_SECONDS), error=LaunchError, what=str(path.name)
    )
    return done.stdout


def parse_version(text: str) -> str:
    """Return the version in what ``--version`` prints; raise LaunchError."""
    match = re.search(r"version (\d+\.\d+(?:\.\d+)?)", text)
    if match is None:
        raise LaunchError(f"no version in QEMU's answer {text[:80]!r}")
    return match[1]


def choose_board(arch: Arch, help_text: str) -> str:
    """Return the first board of BOARDS that ``-machine help`` lists; raise LaunchError."""
    known = {line.split()[0] for line in help_text.splitlines() if line.strip()}
    for board in BOARDS[arch]:
        if board in known:
            return board
    raise LaunchError(f"QEMU for {arch} has none of the boards {', '.join(BOARDS[arch])}")
