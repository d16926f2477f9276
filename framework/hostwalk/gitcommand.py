"""The only place that starts git(1): where it is told to work, whatever repository the environment names.

Git exports GIT_DIR, GIT_INDEX_FILE and others to hooks, to ``!`` aliases and to what ``git rebase -x`` runs. They
are stronger than ``-C``: with them a command for a tree of ours would be one for the user's own.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.errors import Evidence, ResolveError

SECONDS = 900.0
_DISTRUST = re.compile(r"detected dubious ownership in repository at '([^']*)'")


def program() -> str:
    """Return the path of git; raises MissingToolError."""
    return process.find_tool("git", "git")


@functools.cache
def local_variables() -> frozenset[str]:
    """Return the variables that tie git to one repository (git-rev-parse(1), --local-env-vars)."""
    argv = [program(), "rev-parse", "--local-env-vars"]
    done = process.run(argv, deadline=Deadline.after(SECONDS), error=ResolveError, what="git rev-parse")
    return frozenset(done.stdout.split())


def environment() -> Mapping[str, str]:
    """Return our environment without those, and in English: what git says is read."""
    kept = {name: value for name, value in os.environ.items() if name not in local_variables()}
    return {**kept, "LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "false"}


def run(path: Path, *words: str | Path, check: bool = True) -> process.Completed:
    """Run a git command in a directory; raises ResolveError, which says what git says, when it fails and must not."""
    argv = [program(), "-C", path, *words]
    deadline = Deadline.after(SECONDS)
    done = process.run(
        argv, deadline=deadline, error=ResolveError, what="git", check=False, env=environment()
    )
    if check and done.status:
        raise failure(done, path)
    return done


def failure(done: process.Completed, path: Path) -> ResolveError:
    """Return the error for a git command that failed, with git's own words, and a remedy where one is known."""
    evidence = Evidence(done.command, stderr=done.stderr)
    if distrusted := _DISTRUST.search(done.stderr):
        return ResolveError(
            f"git does not work in {distrusted[1]}, for it belongs to another user",
            remedy=f"git config --global --add safe.directory {distrusted[1]}",
            evidence=evidence,
        )
    said = next((line for line in done.stderr.splitlines() if line.strip()), f"it ended with {done.status}")
    return ResolveError(f"git failed in {path}: {said}", evidence=evidence)


def is_elsewhere(done: process.Completed) -> bool:
    """Return whether a command failed because its directory is in no work tree of git's."""
    return any(
        text in done.stderr
        for text in ("not a git repository", "cannot change to", "must be run in a work tree")
    )
