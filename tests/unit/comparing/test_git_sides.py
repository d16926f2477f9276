"""Worktrees and patches, in a small repository of our own."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import GUP, git, tree_of

from hostwalk.cache import Cache
from hostwalk.comparing.comparison import Side
from hostwalk.comparing.git import Git
from hostwalk.comparing.sides import Asked, sides
from hostwalk.errors import UsageError


def shown(side: Side) -> str:
    return (tree_of(side) / "gup.c").read_text()


def test_two_commits(repository: Path, cache: Cache) -> None:
    with sides(Asked(git="HEAD~1..HEAD", tree=repository), cache) as (base, patched):
        assert shown(base) == GUP
        assert "++pins" in shown(patched)
        assert patched.label.endswith('("mm: count pins")')


def test_the_checkout_is_left_alone(repository: Path, cache: Cache, series: Path) -> None:
    (repository / "gup.c").write_text("mine\n")
    before = git(repository, "rev-parse", "HEAD"), git(repository, "branch", "--list")
    with sides(Asked(patches=(series,), tree=repository), cache):
        pass
    assert (repository / "gup.c").read_text() == "mine\n"
    assert (git(repository, "rev-parse", "HEAD"), git(repository, "branch", "--list")) == before


def test_a_series_on_head(repository: Path, cache: Cache, series: Path) -> None:
    with sides(Asked(patches=(series,), tree=repository), cache) as (base, patched):
        assert "++pins" in shown(base)
        assert "pins + 2" in shown(patched)
        assert patched.label.endswith("with series.mbox")


def test_a_plain_difference(repository: Path, cache: Cache, tmp_path: Path) -> None:
    patch = tmp_path / "fix.diff"
    (repository / "gup.c").write_text(GUP.replace("return pins", "return 7"))
    patch.write_text(git(repository, "diff") + "\n")
    with sides(Asked(patches=(patch,), tree=repository), cache) as (_base, patched):
        assert "return 7" in shown(patched)


def test_the_checkout_as_it_stands(repository: Path, cache: Cache) -> None:
    (repository / "gup.c").write_text("not committed\n")
    with sides(Asked(git="HEAD", tree=repository), cache) as (base, patched):
        assert "++pins" in shown(base)
        assert patched.kernel == f"tree:{repository.resolve()}"
        assert shown(patched) == "not committed\n"


def test_a_worktree_and_what_was_built_there_serve_again(repository: Path, cache: Cache) -> None:
    asked = Asked(git="HEAD~1..HEAD", tree=repository)
    with sides(asked, cache) as (_base, patched):
        tree = tree_of(patched)
        (tree / "gup.o").write_text("built")
        (tree / "left.c").write_text("rubbish")
        before = (tree / "gup.c").stat().st_mtime_ns
    with sides(asked, cache) as (_base, patched):
        assert patched.kernel == f"tree:{tree}"
        assert (tree / "gup.c").stat().st_mtime_ns == before
    with sides(Asked(git="HEAD..HEAD~1", tree=repository), cache) as (_base, patched):
        assert shown(patched) == GUP
        assert (tree / "gup.o").read_text() == "built"
        assert not (tree / "left.c").exists()


def test_a_worktree_that_was_changed_is_put_right(repository: Path, cache: Cache) -> None:
    asked = Asked(git="HEAD~1..HEAD", tree=repository)
    with sides(asked, cache) as (base, _patched):
        (tree_of(base) / "gup.c").write_text("tampered\n")
    with sides(asked, cache) as (base, _patched):
        assert shown(base) == GUP


def test_a_cleared_cache_is_no_obstacle(repository: Path, cache: Cache) -> None:
    asked = Asked(git="HEAD~1..HEAD", tree=repository)
    with sides(asked, cache):
        pass
    cache.remove("worktree")
    with sides(asked, cache) as (base, _patched):
        assert shown(base) == GUP


def test_the_hooks_of_the_user_do_not_run(
    repository: Path, cache: Cache, tmp_path: Path, series: Path
) -> None:
    for name in ("post-checkout", "applypatch-msg", "pre-commit"):
        hook = repository / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
        hook.chmod(0o755)
    with sides(Asked(patches=(series,), tree=repository), cache):
        pass
    assert not (tmp_path / "ran").exists()


def test_a_patch_that_does_not_apply_names_itself_and_the_hunk(
    repository: Path, cache: Cache, series: Path
) -> None:
    text = series.read_text().replace("-\treturn pins + 1", "-\treturn pins + 9")
    series.write_text(text + "base-commit: 0123456789abcdef\n")
    with pytest.raises(UsageError) as caught, sides(Asked(patches=(series,), tree=repository), cache):
        pass
    assert 'series.mbox ("mm: add two") does not apply: gup.c, hunk @@ -2,5 +2,5 @@' in caught.value.message
    assert "names its base-commit 0123456789abcdef" in caught.value.remedy
    assert "patch failed: gup.c" in caught.value.evidence.stderr


def test_after_a_patch_that_failed_the_next_one_applies(repository: Path, cache: Cache, series: Path) -> None:
    good = series.read_text()
    series.write_text(good.replace("-\treturn ++pins", "-\treturn --pins"))
    with pytest.raises(UsageError), sides(Asked(patches=(series,), tree=repository), cache):
        pass
    series.write_text(good)
    with sides(Asked(patches=(series,), tree=repository), cache) as (_base, patched):
        assert "pins + 2" in shown(patched)


def test_a_patch_of_a_file_that_there_is_not(repository: Path, cache: Cache, tmp_path: Path) -> None:
    patch = tmp_path / "other.diff"
    patch.write_text("--- a/mm/none.c\n+++ b/mm/none.c\n@@ -1 +1 @@\n-a\n+b\n")
    with (
        pytest.raises(UsageError, match=r"other.diff does not apply: mm/none.c"),
        sides(Asked(patches=(patch,), tree=repository), cache),
    ):
        pass


def test_what_is_no_patch(repository: Path, cache: Cache, tmp_path: Path) -> None:
    patch = tmp_path / "readme.txt"
    patch.write_text("hello\n")
    with (
        pytest.raises(UsageError, match="does not apply: No valid patches"),
        sides(Asked(patches=(patch,), tree=repository), cache),
    ):
        pass


@pytest.mark.parametrize("revision", ["nowhere", "HEAD..nowhere", "--all..HEAD"])
def test_a_commit_that_there_is_not(repository: Path, cache: Cache, revision: str) -> None:
    with pytest.raises(UsageError, match="has no commit"), sides(Asked(git=revision, tree=repository), cache):
        pass


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no git checkout"):
        Git.at(tmp_path)


def test_kernels_by_name_need_no_repository(cache: Cache) -> None:
    with sides(Asked(("debian:6.1", "debian:6.12")), cache) as pair:
        assert pair == (Side("debian:6.1", "debian:6.1"), Side("debian:6.12", "debian:6.12"))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"kernels": ("debian:6.1",)},
        {"kernels": ("a", "b", "c")},
        {"kernels": ("a", "b"), "git": "A..B"},
        {"git": "A...B"},
        {"git": "A..B", "patches": (Path(__file__),)},
        {"patches": (Path("/nonexistent.patch"),)},
    ],
)
def test_what_makes_no_sense(asked: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Asked(**asked)  # type: ignore[arg-type]
