"""A small repository, for tests to take trees and patches from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hostwalk.comparing.comparison import Side

GUP = "int pins;\n\nint get(void)\n{\n\treturn pins;\n}\n"


def git(tree: Path, *words: str) -> str:
    """Run git as somebody; return what it prints."""
    identity = ["-c", "user.name=T", "-c", "user.email=t@t"]
    return subprocess.run(
        ["git", "-C", tree, *identity, *words], check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def commit(tree: Path, text: str, subject: str) -> str:
    """Commit gup.c with a text; return the commit."""
    (tree / "gup.c").write_text(text)
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", subject)
    return git(tree, "rev-parse", "HEAD")


def make(tree: Path) -> Path:
    """Make a repository with two commits."""
    tree.mkdir()
    git(tree, "init", "-qb", "main")
    (tree / ".gitignore").write_text("*.o\n")
    commit(tree, GUP, "mm: gup")
    commit(tree, GUP.replace("return pins", "return ++pins"), "mm: count pins")
    return tree


def tree_of(side: Side) -> Path:
    """Return the directory of a side."""
    return Path(side.kernel.removeprefix("tree:"))
