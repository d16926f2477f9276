"""A repository, a series for it, a cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from repositories import GUP, commit, git, make

from hostwalk.cache import Cache


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make(tmp_path / "linux")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def series(repository: Path, tmp_path: Path) -> Path:
    """Two mails in one mbox, on HEAD, from a branch that is gone."""
    git(repository, "checkout", "-qb", "work")
    commit(repository, GUP.replace("return pins", "return pins + 1"), "mm: add one")
    commit(repository, GUP.replace("return pins", "return pins + 2"), "mm: add two")
    path = tmp_path / "series.mbox"
    path.write_text(git(repository, "format-patch", "--stdout", "main") + "\n")
    git(repository, "checkout", "-q", "main")
    git(repository, "branch", "-qD", "work")
    return path
