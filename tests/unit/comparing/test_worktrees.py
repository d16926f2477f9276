"""What can have happened to a worktree since the run before, and to whose repository git is led."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from repositories import GUP, git, make, tree_of

from hostwalk.cache import Cache
from hostwalk.comparing.git import Git, admin_of
from hostwalk.comparing.sides import Asked, sides
from hostwalk.errors import MissingToolError, ResolveError, UsageError

TWO = "HEAD~1..HEAD"


def compared(repository: Path, cache: Cache, git_range: str = TWO) -> tuple[Path, Path]:
    """Check both sides out; return their trees."""
    with sides(Asked(git=git_range, tree=repository), cache) as (base, patched):
        return tree_of(base), tree_of(patched)


def admin(tree: Path) -> Path:
    found = admin_of(tree)
    assert found is not None
    return found


def test_a_git_that_runs_us_does_not_lead_us_to_its_own_worktree(
    repository: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    git(repository, "worktree", "add", "-q", "-b", "topic", str(theirs))
    other = make(tmp_path / "other")
    with monkeypatch.context() as exported:
        exported.setenv("GIT_DIR", str(repository / ".git/worktrees/theirs"))
        exported.setenv("GIT_WORK_TREE", str(theirs))
        exported.setenv("GIT_INDEX_FILE", str(repository / ".git/worktrees/theirs/index"))
        base, patched = compared(other, cache)
    assert git(theirs, "symbolic-ref", "HEAD") == "refs/heads/topic"
    assert git(theirs, "status", "--porcelain") == ""
    assert (base / "gup.c").read_text() == GUP
    assert "++pins" in (patched / "gup.c").read_text()


def test_a_repository_that_was_cloned_anew(repository: Path, cache: Cache) -> None:
    compared(repository, cache)
    shutil.rmtree(repository)
    make(repository)
    base, patched = compared(repository, cache)
    assert (base / "gup.c").read_text() == GUP
    assert "++pins" in (patched / "gup.c").read_text()


def test_a_worktree_that_has_the_name_of_ours_in_a_new_repository(
    repository: Path, cache: Cache, tmp_path: Path
) -> None:
    ours, _ = compared(repository, cache)
    name = admin(ours).name
    shutil.rmtree(repository)
    make(repository)
    theirs = tmp_path / name
    git(repository, "worktree", "add", "-q", "-b", "topic", str(theirs))
    compared(repository, cache, "HEAD..HEAD~1")
    assert git(theirs, "symbolic-ref", "HEAD") == "refs/heads/topic"
    assert git(theirs, "status", "--porcelain") == ""
    assert "++pins" in (theirs / "gup.c").read_text()


class Shown:
    """Keeps what is told, and says when it is told that somebody is waited for."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.waits = threading.Event()

    @contextmanager
    def task(self, text: str, _total: int | None) -> Iterator[Callable[[int], None]]:
        self.texts.append(text)
        if text.startswith("waiting"):
            self.waits.set()
        yield lambda _done: None


def test_another_comparison_is_waited_for_to_its_end_and_that_is_said(
    repository: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the cache waits for other things: a comparison takes hours."""
    monkeypatch.setattr("hostwalk.cache.PATIENCE", 0.0)
    shown, done = Shown(), threading.Event()

    def second() -> None:
        with sides(Asked(git=TWO, tree=repository), cache, shown):
            done.set()

    other = threading.Thread(target=second)
    with sides(Asked(git=TWO, tree=repository), cache):
        other.start()
        assert shown.waits.wait(60)
        assert not done.is_set()
    other.join(60)
    assert done.is_set()
    assert shown.texts[0].startswith("waiting for another hostwalk: worktree ")


def test_worktrees_of_the_user_that_are_not_there_now_are_left_alone(
    repository: Path, cache: Cache, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "disk"))
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    compared(repository, cache)
    (tmp_path / "unmounted").rename(tmp_path / "disk")
    assert git(tmp_path / "disk", "status", "--porcelain") == ""


def test_locks_of_a_git_that_was_killed(repository: Path, cache: Cache) -> None:
    base, _ = compared(repository, cache)
    (base / "gup.o").write_text("built")
    for name in ("index.lock", "HEAD.lock"):
        (admin(base) / name).touch()
    again, _ = compared(repository, cache, "HEAD..HEAD~1")
    assert again == base
    assert "++pins" in (base / "gup.c").read_text()
    assert (base / "gup.o").read_text() == "built"


def test_a_worktree_that_git_cannot_mend_is_made_anew(repository: Path, cache: Cache) -> None:
    base, _ = compared(repository, cache)
    (admin(base) / "HEAD").write_text("torn")
    compared(repository, cache)
    assert (base / "gup.c").read_text() == GUP


def test_a_repository_of_somebody_else(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(ResolveError, match="belongs to another user") as caught:
        Git.at(repository)
    assert caught.value.remedy == f"git config --global --add safe.directory {repository}"
    assert caught.value.exit_status == 3


def test_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="git is not installed"):
        Git.at(repository)


@pytest.mark.parametrize("revision", ["nowhere", "0123456789012345678901234567890123456789"])
def test_a_commit_that_a_shallow_clone_lacks(repository: Path, tmp_path: Path, revision: str) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", str(shallow))
    with pytest.raises(UsageError, match="has no commit") as caught:
        Git.at(shallow).commit(revision)
    assert "git fetch --unshallow" in caught.value.remedy
