"""Patches as people send them, and settings of a user that would have git treat them otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import GUP, commit, git, tree_of

from hostwalk.cache import Cache
from hostwalk.comparing.sides import Asked, sides
from hostwalk.errors import UsageError

COVER = """\
From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001
From: A <a@b>
Date: Mon, 1 Jan 2024 00:00:00 +0000
Subject: [PATCH 0/2] mm: add one and two

What this is about.

A (2):
  mm: add one
  mm: add two

 gup.c | 2 +-

--
2.39

"""


def patched(repository: Path, cache: Cache, *patches: Path) -> str:
    with sides(Asked(patches=patches, tree=repository), cache) as (_base, side):
        return (tree_of(side) / "gup.c").read_text()


def test_a_series_with_its_cover_letter(repository: Path, cache: Cache, series: Path) -> None:
    series.write_text(COVER + series.read_text() + COVER)
    assert "pins + 2" in patched(repository, cache, series)


def test_a_cover_letter_alone_is_no_patch(repository: Path, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "0000.patch").write_text(COVER)
    with pytest.raises(UsageError, match="there is no patch in it") as caught:
        patched(repository, cache, tmp_path / "0000.patch")
    assert "--git" not in caught.value.remedy


def test_what_is_no_patch_is_not_blamed_on_the_commit(repository: Path, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello\n")
    with pytest.raises(UsageError) as caught:
        patched(repository, cache, tmp_path / "readme.txt")
    assert "--git" not in caught.value.remedy


def test_a_hunk_that_does_not_fit_is_no_matter_for_a_merge(
    repository: Path, cache: Cache, series: Path
) -> None:
    """With am.threeWay git would merge; what is compared would not be what was sent."""
    git(repository, "config", "am.threeWay", "true")
    moved = GUP.replace("return pins", "return ++pins").replace("int get", "long get")
    commit(repository, moved, "mm: get more")
    with pytest.raises(UsageError, match="does not apply") as caught:
        patched(repository, cache, series)
    assert "--git COMMIT" in caught.value.remedy
    said = caught.value.evidence.stderr
    assert ("patch does not apply" in said, "--continue" in said, "hint:" in said) == (True, False, False)


def test_white_space_and_line_ends_are_the_patchs_own(repository: Path, cache: Cache, tmp_path: Path) -> None:
    commit(repository, GUP.replace("return pins;", "return pins; "), "mm: a blank at the end")
    path = tmp_path / "blank.patch"
    path.write_text(git(repository, "format-patch", "-1", "--stdout") + "\n")
    git(repository, "reset", "-q", "--hard", "HEAD~2")
    git(repository, "config", "apply.whitespace", "error-all")
    git(repository, "config", "core.autocrlf", "true")
    git(repository, "config", "log.showSignature", "true")
    path.write_text(path.read_text().replace("-\treturn ++pins;", "-\treturn pins;"))
    assert patched(repository, cache, path) == GUP.replace("return pins;", "return pins; ")
