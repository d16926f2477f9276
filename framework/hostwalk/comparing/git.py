"""A git repository, as far as comparing needs it: commits, and trees of our own checked out from them.

The user's checkout is never touched: a side is a worktree of its own (git-worktree(1)), in a directory that stays the
same from run to run, so that what was built there is built on. None of the user's hooks runs in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hostwalk import process
from hostwalk.cache import key_of
from hostwalk.deadline import Deadline
from hostwalk.errors import Evidence, HostwalkError, Phase, ResolveError, UsageError

SECONDS = 900.0
OURS = (
    "-c", "user.name=hostwalk", "-c", "user.email=hostwalk@localhost", "-c", "core.hooksPath=/dev/null",
    "-c", "commit.gpgSign=false", "-c", "advice.detachedHead=false", "-c", "gc.auto=0",
)  # fmt: skip
MAIL = re.compile(r"^(From [0-9a-f]{7,} |(From|Subject|Message-I[Dd]): )", re.MULTILINE)
FAILED_AT = re.compile(r"Patch failed at \d+ (.*)")
FAILED_HUNK = re.compile(r"error: patch failed: (.+):(\d+)$", re.MULTILINE)
FAILED_FILE = re.compile(r"error: (.+): ((?:No such file|does not exist|already exists).*)$", re.MULTILINE)
CORRUPT = re.compile(
    r"error: (corrupt patch at .*|No valid patches in input.*|.*\bfragment without header.*)$", re.MULTILINE
)
BASE_COMMIT = re.compile(r"^base-commit: ([0-9a-f]{12,})", re.MULTILINE)


@dataclass(frozen=True)
class Git:
    """A directory in which git commands run."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> Self:
        """Return the repository that a directory belongs to; raises UsageError when it is in none."""
        program = process.find_tool("git", "git")
        done = process.run(
            [program, "-C", path, "rev-parse", "--show-toplevel"],
            deadline=Deadline.after(SECONDS),
            check=False,
        )
        if done.status != 0:
            raise UsageError(
                f"{path} is no git checkout",
                remedy="name one with --tree PATH",
                evidence=Evidence(stderr=done.stderr),
            )
        return cls(Path(done.stdout.rstrip("\n")).resolve())

    def run(self, *words: str | Path, check: bool = True) -> process.Completed:
        """Run a git command here; raises ResolveError when it fails and ``check`` is set."""
        argv = [process.find_tool("git", "git"), "-C", self.path, *OURS, *words]
        return process.run(
            argv, deadline=Deadline.after(SECONDS), error=ResolveError, what=f"git {words[0]}", check=check
        )

    def commit(self, revision: str) -> str:
        """Return the commit that a revision names; raises UsageError for one that there is not."""
        done = self.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", check=False
        )
        if done.status != 0:
            raise UsageError(
                f"{self.path} has no commit {revision!r}", remedy="see git log, git branch, git tag"
            )
        return done.stdout.strip()

    def describe(self, commit: str) -> str:
        """Return a commit's abbreviated name and its subject."""
        return self.run("log", "-1", '--format=%h ("%s")', commit).stdout.strip()

    @property
    def key(self) -> str:
        """A key of the repository that all its worktrees share."""
        common = self.run("rev-parse", "--path-format=absolute", "--git-common-dir").stdout.strip()
        return key_of(str(Path(common).resolve()))[:16]

    def worktree(self, path: Path, commit: str) -> Git:
        """Return a worktree at ``path`` that shows ``commit`` and nothing besides but what git ignores.

        A file is written only where it changes, so that a build there has little to do again.
        """
        if not self._is_worktree(path):
            self.run("worktree", "prune")
            self.run("worktree", "add", "--detach", "--force", "--force", path, commit)
        tree = Git(path)
        tree.run("am", "--abort", check=False)
        tree.run("checkout", "--detach", "--force", commit)
        tree.run("clean", "-fdq")
        return tree

    def _is_worktree(self, path: Path) -> bool:
        if not (path / ".git").is_file():
            return False
        other = Git(path)
        return other.run("rev-parse", "--git-dir", check=False).status == 0 and other.key == self.key

    def apply(self, patches: Sequence[Path]) -> None:
        """Apply patches: mails and series in mbox form as git-am(1) takes them, or plain differences.

        Raises UsageError that names the patch and the hunk that does not fit, after taking the failed one back.
        """
        for path in patches:
            text = _text(path)
            if MAIL.search(text):
                done = self.run("am", "--quiet", "--keep-non-patch", path, check=False)
            else:
                done = self._apply_plain(path)
            if done.status != 0:
                self.run("am", "--abort", check=False)
                raise refused(path, text, done.stdout + done.stderr, done.command)

    def _apply_plain(self, path: Path) -> process.Completed:
        done = self.run("apply", "--index", path, check=False)
        if done.status != 0:
            return done
        return self.run(
            "commit", "--quiet", "--allow-empty", "--no-verify", "-m", f"Apply {path.name}", check=False
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read the patch {path}: {error.strerror}") from error


def refused(path: Path, text: str, said: str, command: str = "") -> HostwalkError:
    """Return the error for a patch that git does not take: which of the series, which hunk of which file, and why."""
    at = FAILED_AT.search(said)
    name = f'{path} ("{at[1]}")' if at else str(path)
    base = BASE_COMMIT.search(text)
    made_on = f": the series names its base-commit {base[1]}" if base else ""
    return UsageError(
        f"patch {name} does not apply: {_why(text, said)}",
        remedy=f"choose the commit that it was made on with --git COMMIT{made_on}",
        phase=Phase.RESOLVE,
        evidence=Evidence(command=command, stderr=said.strip()),
    )


def _why(text: str, said: str) -> str:
    if hunk := FAILED_HUNK.search(said):
        return f"{hunk[1]}, hunk {_hunk(text, hunk[1], int(hunk[2]))}"
    if file := FAILED_FILE.search(said):
        return f"{file[1]} {file[2]}"
    corrupt = CORRUPT.search(said)
    return corrupt[1] if corrupt else (said.strip().splitlines() or ["git does not say why"])[0]


def _hunk(text: str, file: str, line: int) -> str:
    """Return the header of the hunk of a file that begins at a line of the old file."""
    inside = False
    for row in text.splitlines():
        if row.startswith("--- "):
            inside = row.split("\t")[0].removeprefix("--- ").partition("/")[2] == file
        elif inside and re.match(rf"@@ -{line}(,\d+)? ", row):
            return row
    return f"at line {line}"
