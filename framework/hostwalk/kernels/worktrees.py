"""Worktrees of our own: in the cache, lent to one run at a time, and changed by nobody else meanwhile."""

from __future__ import annotations

from pathlib import Path

from hostwalk.cache import Cache

KIND = "worktree"
MARK = "made-of"


def is_ours(tree: Path, cache: Cache) -> bool:
    """Return whether a tree is such a worktree."""
    return (cache.root / KIND).resolve() in tree.resolve().parents


def shown(tree: Path, cache: Cache) -> str:
    """Return what a worktree of ours is said to show, or nothing for a tree that others may change."""
    mark = tree.parent / MARK
    return mark.read_text(encoding="utf-8") if is_ours(tree, cache) and mark.is_file() else ""
