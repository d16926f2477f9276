from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hostwalk.errors import KernelBuildError, MissingToolError, ResolveError
from hostwalk.kernels import view
from hostwalk.target import Arch


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git tree with one ignored file."""
    tree = tmp_path / "linux"
    (tree / "mm").mkdir(parents=True)
    (tree / "mm/gup.c").write_text("old\n")
    (tree / ".gitignore").write_text("*.o\n.config\n/include/config\n")
    subprocess.run(["git", "init", "-q", tree], check=True)
    subprocess.run(["git", "-C", tree, "add", "."], check=True)
    (tree / "mm/gup.o").touch()
    return tree


def _built_in(tree: Path) -> None:
    (tree / ".config").touch()
    (tree / "include/config").mkdir(parents=True)
    (tree / "include/config/auto.conf").touch()


def test_a_clean_tree_is_its_own_view(tree: Path, tmp_path: Path) -> None:
    assert view.clean(tree, Arch.X86_64, tmp_path / "view") == tree
    assert not (tmp_path / "view").exists()


@pytest.mark.parametrize("trace", [".config", "include/config/", "arch/x86/include/generated/"])
def test_what_kbuild_takes_for_unclean_is_known(tree: Path, trace: str) -> None:
    path = tree / trace
    path.mkdir(parents=True) if trace.endswith("/") else path.touch()
    assert not view.is_clean(tree, Arch.X86_64)
    assert view.is_clean(tree, Arch.ARM64) == trace.startswith("arch/x86")


def test_a_tree_in_which_a_kernel_was_built_is_seen_without_what_was_built(
    tree: Path, tmp_path: Path
) -> None:
    _built_in(tree)
    (tree / "mm/new.c").write_text("not in git yet\n")
    before = sorted(tree.rglob("*"))
    seen = view.clean(tree, Arch.X86_64, tmp_path / "view")
    assert view.is_clean(seen, Arch.X86_64)
    assert sorted(str(path.relative_to(seen)) for path in seen.rglob("*.c")) == ["mm/gup.c", "mm/new.c"]
    assert not (seen / "mm/gup.o").exists()
    assert sorted(tree.rglob("*")) == before


def test_a_view_follows_its_tree(tree: Path, tmp_path: Path) -> None:
    _built_in(tree)
    seen = view.clean(tree, Arch.X86_64, tmp_path / "view")
    (tree / "mm/gup.c").write_text("new\n")
    (tree / "mm/more.c").touch()
    (tree / ".gitignore").unlink()
    (tree / ".gitignore").write_text("*.o\n.config\n/include/config\nmore.c\n")
    link = (seen / "mm/gup.c").lstat()
    assert view.clean(tree, Arch.X86_64, tmp_path / "view") == seen
    assert (seen / "mm/gup.c").read_text() == "new\n"
    assert (seen / "mm/gup.c").lstat().st_ino == link.st_ino
    assert not (seen / "mm/more.c").exists()
    (tree / "mm/gup.c").unlink()
    view.clean(tree, Arch.X86_64, tmp_path / "view")
    assert not (seen / "mm/gup.c").is_symlink()


def test_without_git_it_is_an_error_that_says_how_to_clean(tmp_path: Path) -> None:
    tree = tmp_path / "unpacked"
    tree.mkdir()
    _built_in(tree)
    with pytest.raises(KernelBuildError, match="a kernel was built inside") as caught:
        view.clean(tree, Arch.ARM64, tmp_path / "view")
    assert "ARCH=arm64 mrproper" in caught.value.remedy


def test_a_tree_of_somebody_else_is_no_fault_of_the_commit(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _built_in(tree)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(ResolveError, match="belongs to another user") as caught:
        view.clean(tree, Arch.X86_64, tmp_path / "view")
    assert "safe.directory" in caught.value.remedy


def test_without_git_it_is_the_tool_that_is_missing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _built_in(tree)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="git is not installed"):
        view.clean(tree, Arch.X86_64, tmp_path / "view")


def test_a_git_that_runs_us_does_not_lead_us_to_its_own_files(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _built_in(tree)
    (tmp_path / "other/mm").mkdir(parents=True)
    (tmp_path / "other/mm/gup.o").touch()
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", tmp_path / "other", *words], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    assert view.files_of(tree, Arch.X86_64) == {".gitignore", "mm/gup.c"}


def _seen_again(tree: Path, tmp_path: Path) -> set[str]:
    seen = view.clean(tree, Arch.X86_64, tmp_path / "view")
    found = {str(path.relative_to(seen)) for path in seen.rglob("*") if path.is_symlink()}
    assert found == view.files_of(tree, Arch.X86_64)
    return found


def test_a_directory_that_became_a_file_or_a_link_and_one_again(tree: Path, tmp_path: Path) -> None:
    _built_in(tree)
    (tree / "foo/bar").mkdir(parents=True)
    (tree / "foo/bar/a.c").touch()
    assert "foo/bar/a.c" in _seen_again(tree, tmp_path)
    shutil.rmtree(tree / "foo")
    (tree / "foo").write_text("a file\n")
    assert "foo" in _seen_again(tree, tmp_path)
    (tree / "foo").unlink()
    (tree / "foo").symlink_to("mm")
    assert "foo" in _seen_again(tree, tmp_path)
    (tree / "foo").unlink()
    (tree / "foo").mkdir()
    (tree / "foo/b.c").touch()
    assert "foo/b.c" in _seen_again(tree, tmp_path)
    assert not (tree / "mm/b.c").exists()


def test_a_link_to_a_directory_that_git_ignores_by_now(tree: Path, tmp_path: Path) -> None:
    _built_in(tree)
    (tree / "link").symlink_to("mm")
    assert "link" in _seen_again(tree, tmp_path)
    with (tree / ".gitignore").open("a") as ignored:
        ignored.write("link\n")
    assert "link" not in _seen_again(tree, tmp_path)
