"""A git repository, as far as comparing needs it: commits, and trees of our own checked out from them.

The user's checkout is never touched: a side is a worktree of its own (git-worktree(1)), in a directory that stays the
same from run to run, so that what was built there is built on. None of the user's hooks runs in it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hostwalk import gitcommand, process
from hostwalk.cache import key_of
from hostwalk.errors import Evidence, HostwalkError, Phase, UsageError

OURS = (
    "-c", "user.name=hostwalk", "-c", "user.email=hostwalk@localhost", "-c", "core.hooksPath=/dev/null",
    "-c", "commit.gpgSign=false", "-c", "advice.detachedHead=false", "-c", "gc.auto=0", "-c", "core.fsmonitor=false",
    "-c", "core.autocrlf=false", "-c", "am.threeWay=false", "-c", "am.keepcr=false", "-c", "apply.whitespace=nowarn",
    "-c", "apply.ignoreWhitespace=no", "-c", "log.showSignature=false",
)  # fmt: skip
MAIL = re.compile(r"^(From [0-9a-f]{7,} |(From|Subject|Message-I[Dd]): )", re.MULTILINE)
FAILED_AT = re.compile(r"Patch failed at \d+ (.*)")
FAILED_HUNK = re.compile(r"error: patch failed: (.+):(\d+)$", re.MULTILINE)
FAILED_FILE = re.compile(r"error: (.+): ((?:No such file|does not exist|already exists).*)$", re.MULTILINE)
CORRUPT = re.compile(
    r"error: (corrupt patch at .*|No valid patches in input.*|.*\bfragment without header.*)$", re.MULTILINE
)
EMPTY = "Patch is empty."
ADVICE = re.compile(
    r"^(?:hint:|When you have resolved|If you prefer to skip|To restore the original).*\n?", re.MULTILINE
)
"""What git says to whoever goes on with a patch by hand, which nobody can: it was taken back."""
BASE_COMMIT = re.compile(r"^base-commit: ([0-9a-f]{12,})", re.MULTILINE)


@dataclass(frozen=True)
class Git:
    """A directory in which git commands run."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> Self:
        """Return the repository that a directory belongs to; raises UsageError when it is in none, ResolveError."""
        done = gitcommand.run(path, "rev-parse", "--show-toplevel", check=False)
        if gitcommand.is_elsewhere(done):
            raise UsageError(
                f"{path} is no git checkout",
                remedy="name one with --tree PATH",
                evidence=Evidence(stderr=done.stderr),
            )
        if done.status != 0:
            raise gitcommand.failure(done, path)
        return cls(Path(done.stdout.rstrip("\n")).resolve())

    def run(self, *words: str | Path, check: bool = True) -> process.Completed:
        """Run a git command here; raises ResolveError when it fails and ``check`` is set."""
        return gitcommand.run(self.path, *OURS, *words, check=check)

    def commit(self, revision: str) -> str:
        """Return the commit that a revision names; raises UsageError for one that there is not, ResolveError."""
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        done = self.run(*words, check=False)
        if done.status != 0 and done.stderr:
            raise gitcommand.failure(done, self.path)
        if done.status != 0:
            raise UsageError(f"{self.path} has no commit {revision!r}", remedy=self._where_commits_are)
        return done.stdout.strip()

    @property
    def _where_commits_are(self) -> str:
        shallow = self.run("rev-parse", "--is-shallow-repository").stdout.strip() == "true"
        return (
            "this clone is shallow: git fetch --unshallow" if shallow else "see git log, git branch, git tag"
        )

    def describe(self, commit: str) -> str:
        """Return a commit's abbreviated name and its subject."""
        return self.run("log", "-1", '--format=%h ("%s")', commit).stdout.strip()

    @property
    def common(self) -> Path:
        """The directory that all worktrees of the repository share."""
        done = self.run("rev-parse", "--path-format=absolute", "--git-common-dir")
        return Path(done.stdout.rstrip("\n")).resolve()

    @property
    def key(self) -> str:
        """A key of the repository that all its worktrees share."""
        return key_of(str(self.common))[:16]

    def worktree(self, path: Path, commit: str) -> Git:
        """Return a worktree at ``path`` that shows ``commit`` and nothing besides but what git ignores.

        A file is written only where it changes, so that a build there has little to do again. What is there and no
        worktree of this repository, or one that git cannot mend, is removed; the caller holds its lock.
        """
        tree = Git(path)
        if self.has_worktree(path) and tree._shows(commit):
            return tree
        if path.exists():
            shutil.rmtree(path)
        self.run("worktree", "add", "--detach", "--force", "--force", path, commit)
        return tree

    def has_worktree(self, path: Path) -> bool:
        """Return whether ``path`` is a worktree of this repository, and the repository takes it for that one.

        A repository that was cloned anew has forgotten it, or has another worktree under the same name.
        """
        admin = admin_of(path)
        if admin is None or admin.parent != self.common / "worktrees":
            return False
        known = admin / "gitdir"
        return known.is_file() and (admin / known.read_text().strip()).resolve() == (path / ".git").resolve()

    def _shows(self, commit: str) -> bool:
        """Have a worktree of ours show a commit, whatever a git that was killed left there; return whether it does."""
        admin = admin_of(self.path)
        assert admin is not None
        for lock in admin.rglob("*.lock"):
            lock.unlink()
        self.run("am", "--abort", check=False)
        shutil.rmtree(admin / "rebase-apply", ignore_errors=True)
        words = (("checkout", "--detach", "--force", commit), ("clean", "-fdq"))
        return all(self.run(*each, check=False).status == 0 for each in words)

    def apply(self, patches: Sequence[Path]) -> None:
        """Apply patches: mails and series in mbox form as git-am(1) takes them, or plain differences.

        Raises UsageError that names the patch and the hunk that does not fit, after taking the failed one back.
        """
        for path in patches:
            text, before = _text(path), self.commit("HEAD")
            done = self._apply_mails(path) if MAIL.search(text) else self._apply_plain(path)
            if done.status != 0:
                self.run("am", "--abort", check=False)
                raise refused(path, text, done.stdout + done.stderr, done.command)
            if self.commit("HEAD") == before:
                raise refused(path, text, "there is no patch in it", done.command)

    def _apply_mails(self, path: Path) -> process.Completed:
        """Have git am take a series; a mail without a patch is its cover letter (``--empty`` came with git 2.34)."""
        done = self.run("am", "--quiet", "--keep-non-patch", path, check=False)
        while done.status != 0 and EMPTY in done.stdout + done.stderr:
            done = self.run("am", "--quiet", "--skip", check=False)
        return done

    def _apply_plain(self, path: Path) -> process.Completed:
        done = self.run("apply", "--index", path, check=False)
        if done.status != 0:
            return done
        return self.run(
            "commit", "--quiet", "--allow-empty", "--no-verify", "-m", f"Apply {path.name}", check=False
        )


def admin_of(path: Path) -> Path | None:
    """Return the directory inside its repository that a linked worktree names (gitrepository-layout(5)), or None."""
    link = path / ".git"
    if not link.is_file():
        return None
    named = link.read_text().removeprefix("gitdir: ").rstrip("\n")
    return (path / named).resolve()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read the patch {path}: {error.strerror}") from error


def refused(path: Path, text: str, said: str, command: str = "") -> HostwalkError:
    """Return the error for a patch that git does not take: which of the series, which hunk of which file, and why."""
    at = FAILED_AT.search(said)
    name = f'{path} ("{at[1]}")' if at else str(path)
    return UsageError(
        f"patch {name} does not apply: {_why(text, said)}",
        remedy=_remedy(text, said),
        phase=Phase.RESOLVE,
        evidence=Evidence(command=command, stderr=ADVICE.sub("", said).strip()),
    )


def _remedy(text: str, said: str) -> str:
    if not FAILED_HUNK.search(said) and not FAILED_FILE.search(said):
        return "give mails or an mbox series as git am takes them, or differences as git apply does"
    base = BASE_COMMIT.search(text)
    made_on = f": the series names its base-commit {base[1]}" if base else ""
    return f"choose the commit that it was made on with --git COMMIT{made_on}"


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
