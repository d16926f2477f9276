"""An exported program in the guest: written to its /tmp, executed in a process of its own, its output read back."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hostwalk.guest import Agent, Subject

CHUNK = 1 << 16
PROGRAM, OUTPUT = "/tmp/repro", "/tmp/repro.out"


@dataclass(frozen=True)
class Executed:
    """How a program ended, and what it wrote."""

    status: int
    output: str


def compiled(place: Path) -> Path:
    """Have the Makefile of an export build its program, no warning allowed; return it."""
    words = ["make", "-C", place, "repro", "CFLAGS=-O2 -Wextra -Werror"]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return place / "repro"


def execute(agent: Agent, program: Path) -> Executed:
    """Run a static program in a process of the guest, as root; its input is at its end."""
    with agent.spawn() as writer:
        _write(writer, program.read_bytes())
        with agent.spawn() as runner:
            fd = runner.open(OUTPUT, "O_RDWR|O_CREAT|O_TRUNC")
            runner.call("dup3", runner.open("/dev/null", "O_RDONLY"), 0, 0)
            runner.call("dup3", fd, 1, 0)
            runner.call("dup3", fd, 2, 0)
            status = _exec(runner)
        return Executed(
            status >> 8 if not status & 0x7F else -(status & 0x7F), writer.read_file(OUTPUT).decode()
        )


def _write(writer: Subject, data: bytes) -> None:
    fd = writer.open(PROGRAM, "O_RDWR|O_CREAT|O_TRUNC")
    for at in range(0, len(data), CHUNK):
        assert writer.write(fd, data[at : at + CHUNK]) == len(data[at : at + CHUNK])
    writer.call("fchmod", fd, 0o755)
    writer.close(fd)


def _exec(runner: Subject) -> int:
    path = PROGRAM.encode() + b"\0"
    argv = struct.pack("<QQ", runner.scratch, 0)
    padded = path.ljust(64, b"\0")
    runner.poke(runner.scratch, padded + argv)
    return runner.end_by("execve", runner.scratch, runner.scratch + 64, runner.scratch + 72)
