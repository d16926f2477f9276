"""A clean view of a tree in which a kernel was built: kbuild builds elsewhere only from a clean one.

The view holds a symbolic link for each file that git knows, or would not ignore. The tree stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from hostwalk import gitcommand
from hostwalk.errors import Evidence, KernelBuildError
from hostwalk.target import Arch


def is_clean(tree: Path, arch: Arch) -> bool:
    """Return whether kbuild takes a tree with O= (the check of "outputmakefile" in its Makefile)."""
    directories = ("include/config", f"arch/{arch.kernel}/include/generated")
    return not (tree / ".config").is_file() and not any((tree / name).is_dir() for name in directories)


def clean(tree: Path, arch: Arch, view: Path) -> Path:
    """Return the tree if it is clean, else a view of it in the directory ``view``, brought up to date.

    Raises KernelBuildError for a tree that is not clean and no git tree.
    """
    if is_clean(tree, arch):
        return tree
    update(view, tree, files_of(tree, arch))
    return view


def files_of(tree: Path, arch: Arch) -> set[str]:
    """Return the paths of a git tree's source files; raises KernelBuildError for no git tree, ResolveError."""
    words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
    done = gitcommand.run(tree, "-c", "core.fsmonitor=false", *words, check=False)
    if gitcommand.is_elsewhere(done):
        raise KernelBuildError(
            f"a kernel was built inside {tree}, and such a tree cannot be built from",
            remedy=f"clean it (make -C {tree} ARCH={arch.kernel} mrproper, which also removes its .config), or give "
            "a git tree, which is looked at without what was built in it",
            evidence=Evidence(done.command, stderr=done.stderr),
        )
    if done.status:
        raise gitcommand.failure(done, tree)
    return {name for name in done.stdout.split("\0") if name and os.path.lexists(tree / name)}


def update(view: Path, tree: Path, files: set[str]) -> None:
    """Make a directory hold links to these files of a tree and nothing else; raises OSError."""
    view.mkdir(exist_ok=True)
    there = _links(view)
    for name in there.keys() - files:
        (view / name).unlink()
    _remove_empty_directories(view)
    for name in sorted(files):
        target = f"{tree}/{name}"
        if there.get(name) == target:
            continue
        link = view / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _links(view: Path) -> dict[str, str]:
    """Return the links in a view, by their relative paths, with what they lead to: files, directories, nothing."""
    found, start = {}, len(str(view)) + 1
    for directory, directories, names in os.walk(view):
        for name in [*directories, *names]:
            path = f"{directory}/{name}"
            if Path(path).is_symlink():
                found[path[start:]] = os.readlink(path)  # noqa: PTH115
            elif name in names:
                found[path[start:]] = ""
    return found


def _remove_empty_directories(view: Path) -> None:
    """Make room where the tree has a file or a link now."""
    for directory, directories, _ in os.walk(view, topdown=False):
        for name in directories:
            path = Path(directory, name)
            if not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()
