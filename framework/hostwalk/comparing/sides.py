"""The two sides of a comparison: two kernels by name, or two states of a git repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hostwalk.cache import Cache, key_of
from hostwalk.comparing.comparison import Side
from hostwalk.comparing.git import Git
from hostwalk.deadline import Deadline
from hostwalk.errors import UsageError
from hostwalk.kernels.progress import SILENT, Progress, telling_of_waits
from hostwalk.kernels.worktrees import KIND, MARK

PATIENCE = 24 * 3600.0
"""Another comparison holds its worktrees to its end; its lock ends with it, however it ends."""
EXTRA = re.compile(r"[a-z0-9-]+")
EXAMPLE = "hostwalk compare debian:6.1 debian:6.12, or --git v6.12..HEAD, or --patch series.mbox"


@dataclass(frozen=True)
class Asked:
    """What a command line asks to compare.

    ``kernels`` are two names, or none. ``git`` is ``BASE..PATCHED``, ``BASE`` (against the checkout as it stands, or
    with ``patches`` below them), or empty; ``tree`` is a directory of the repository. ``extra`` are further
    fragments of the configuration, of both sides.
    """

    kernels: tuple[str, ...] = ()
    git: str = ""
    patches: tuple[Path, ...] = ()
    tree: Path = Path()
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from_git = bool(self.git or self.patches)
        if from_git == bool(self.kernels):
            what = (
                "two kernels, or commits and patches, not both" if from_git else "there is nothing to compare"
            )
            raise UsageError(what, remedy=EXAMPLE)
        if self.kernels and len(self.kernels) != 2:
            raise UsageError(f"one kernel alone cannot be compared: {self.kernels[0]}", remedy=EXAMPLE)
        if self.kernels and self.extra:
            raise UsageError(
                "--with is for kernels that are built from --git or --patch",
                remedy=f"write it behind the name: source:7.3+{self.extra[0]}",
            )
        for name in self.extra:
            if not EXTRA.fullmatch(name):
                raise UsageError(f"not the name of a configuration: {name!r}", remedy="--with debug")
        if "..." in self.git:
            raise UsageError(f"{self.git} is no pair of commits", remedy="write BASE..PATCHED, with two dots")
        if self.patches and ".." in self.git:
            raise UsageError(
                "patches are applied to one commit, not to a range", remedy="--git COMMIT --patch FILE"
            )
        for patch in self.patches:
            if not patch.is_file():
                raise UsageError(f"there is no patch {patch}")

    def spec(self, tree: Path) -> str:
        """Return the name of the kernel that is built from a tree."""
        return "+".join((f"tree:{tree}", *self.extra))


@contextmanager
def sides(asked: Asked, cache: Cache, progress: Progress = SILENT) -> Iterator[tuple[Side, Side]]:
    """Lend the two sides; worktrees are held against other runs meanwhile.

    Raises UsageError for a revision that there is not and for a patch that does not apply, ResolveError, CacheError.
    """
    if asked.kernels:
        first, second = asked.kernels
        yield Side(first, first), Side(second, second)
        return
    git, cache = Git.at(asked.tree), telling_of_waits(cache, progress)
    low, dots, high = asked.git.partition("..")
    below = git.commit(low or "HEAD")
    with ExitStack() as stack:
        base = stack.enter_context(_worktree(cache, git, asked, State("base", below), progress))
        if asked.patches or dots:
            state = State("patched", below if asked.patches else git.commit(high or "HEAD"), asked.patches)
            yield base, stack.enter_context(_worktree(cache, git, asked, state, progress))
        else:
            yield base, Side(f"{git.path} as it stands", asked.spec(git.path))


@dataclass(frozen=True)
class State:
    """What one side's worktree has to show: a commit, and patches on it."""

    side: str
    commit: str
    patches: tuple[Path, ...] = ()

    @property
    def key(self) -> str:
        """A key over all of it."""
        return key_of(self.commit, *(patch.read_bytes() for patch in self.patches))


@contextmanager
def _worktree(cache: Cache, git: Git, asked: Asked, state: State, progress: Progress) -> Iterator[Side]:
    """Lend a side in a worktree; one that shows its state already is left as it is, with what was built there."""
    with cache.workspace(KIND, f"{git.key}-{state.side}", Deadline.after(PATIENCE)) as directory:
        mark, tree = directory / MARK, Git(directory / "tree")
        if not (git.has_worktree(tree.path) and _is_made_of(mark, tree, state.key)):
            with progress.task(f"check out the {state.side} side", None):
                mark.unlink(missing_ok=True)
                git.worktree(tree.path, state.commit).apply([patch.resolve() for patch in state.patches])
                mark.write_text(f"{state.key} {tree.commit('HEAD')}", encoding="utf-8")
        names = ", ".join(patch.name for patch in state.patches)
        label = git.describe(state.commit) + (f" with {names}" if names else "")
        yield Side(label, asked.spec(tree.path))


def _is_made_of(mark: Path, tree: Git, made_of: str) -> bool:
    if not mark.is_file():
        return False
    head = tree.run("rev-parse", "--verify", "--quiet", "HEAD", check=False).stdout.strip()
    clean = tree.run("status", "--porcelain", "--untracked-files=no", check=False)
    return mark.read_text(encoding="utf-8") == f"{made_of} {head}" and clean.status == 0 and not clean.stdout
