"""The only place that starts a program.

Children die with hostwalk: each gets PR_SET_PDEATHSIG. The kernel sends that signal when the *thread* that
forked ends (prctl(2)), so one thread that lives as long as the process does all the forking.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hostwalk.deadline import Deadline
from hostwalk.errors import Evidence, HostwalkError, MissingToolError

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hostwalk-spawner")
_spawner.submit(int).result()
_children: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


@dataclass(frozen=True)
class Completed:
    """A program that has ended."""

    command: str
    status: int
    stdout: str
    stderr: str


def quote(argv: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Return the command as a line that can be pasted into a shell."""
    line = shlex.join(str(word) for word in argv)
    return f"cd {shlex.quote(str(cwd))} && {line}" if cwd else line


def processors() -> int:
    """Return on how many processors this process may run (sched_getaffinity(2)), not how many there are."""
    return len(os.sched_getaffinity(0))


def find_tool(name: str, package: str) -> str:
    """Return the path of a host program; raise MissingToolError that names its Debian ``package``."""
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(
            f"{name} is not installed",
            remedy=f"install the Debian package {package}, or run: hostwalk doctor --fix",
        )
    return path


def _led(argv: Sequence[str | Path], parent: int) -> list[str] | None:
    """Return the command led by programs that do what :func:`_die_with` does; None where they are missing."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return None
    still_there = f'[ "$PPID" = {parent} ] || exit 127; exec "$@"'
    return [setpriv, "--pdeathsig", "KILL", "/bin/sh", "-c", still_there, "sh", *map(str, argv)]


def _die_with(parent: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)


def spawn(
    argv: Sequence[str | Path],
    *,
    pass_fds: Sequence[int] = (),
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    stderr: int | IO[bytes] | None = subprocess.PIPE,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    session: bool = True,
    led: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own that is killed when hostwalk dies; return at once.

    Without ``session`` it stays in ours and can ask for a password on our terminal. With ``led`` it is vfork(2)
    that starts it, by way of a shell, in a fraction of the 9 ms in which Python forks itself. Raises
    MissingToolError when the program does not exist (if led it then ends with status 127).
    """
    parent = os.getpid()
    leader = _led(argv, parent) if led else None

    def start() -> subprocess.Popen[bytes]:
        if leader is not None:
            return subprocess.Popen(
                leader, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds, cwd=cwd,
                env=dict(env) if env is not None else None, start_new_session=session,
            )  # fmt: skip
        return subprocess.Popen(
            [str(word) for word in argv],
            stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds, cwd=cwd,
            env=dict(env) if env is not None else None,
            start_new_session=session,
            preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509 (the spawner thread holds no locks)
        )  # fmt: skip

    try:
        child = _spawner.submit(start).result()
    except FileNotFoundError as error:
        what = f"{argv[0]} cannot be started: {error}"
        raise MissingToolError(what, remedy="run: hostwalk doctor") from error
    _children.add(child)
    return child


def end_children() -> None:
    """Kill every program that still runs: whoever waits for one gets an error at once."""
    for child in tuple(_children):
        if child.poll() is None:
            kill(child)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program's whole process group and reap it; harmless when it has ended."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.wait()


def run(
    argv: Sequence[str | Path],
    *,
    deadline: Deadline,
    error: type[HostwalkError] = HostwalkError,
    what: str = "",
    remedy: str = "",
    check: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input_bytes: bytes | None = None,
    session: bool = True,
) -> Completed:
    """Run a program to its end.

    Raises ``error`` (with the command and its standard error as evidence) when it fails and ``check`` is set,
    or when the deadline passes, after killing it and its children.
    """
    stdin = subprocess.PIPE if input_bytes is not None else subprocess.DEVNULL
    process = spawn(argv, stdin=stdin, cwd=cwd, env=env, session=session)
    command = quote(argv, cwd)
    try:
        out, err = process.communicate(input_bytes, timeout=deadline.remaining)
    except subprocess.TimeoutExpired:
        kill(process)
        raise error(
            f"{what or argv[0]} did not end within {deadline.seconds:.0f} s",
            remedy=remedy,
            evidence=Evidence(command),
        ) from None
    except BaseException:
        kill(process)
        raise
    done = Completed(command, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    if check and done.status != 0:
        raise error(
            f"{what or argv[0]} failed with status {done.status}",
            remedy=remedy,
            evidence=Evidence(command, stderr=_tail(done.stderr or done.stdout)),
        )
    return done


def _tail(text: str, lines: int = 40) -> str:
    return "\n".join(text.splitlines()[-lines:])
