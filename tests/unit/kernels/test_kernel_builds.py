from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.errors import BuildInterruptedError, CacheError, KernelBuildError, UsageError
from hostwalk.kernels import build as build_module
from hostwalk.kernels import fragments, worktrees
from hostwalk.kernels.build import Build
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.kernels.sources import tree_at
from hostwalk.target import Arch

# What kbuild does, in a few lines: an image with the source and the configuration in it.
KBUILD = r"""
VERSION = 7
PATCHLEVEL = 3
SUBLEVEL = 4
S := $(CURDIR)
allnoconfig:
	@mkdir -p $(O)/include/config $(O)/arch/x86/boot
	@echo configured >> $(O)/configurations
	@printf '%s\n' 'deps_config := \' '	Kconfig \' '	mm/Kconfig' '' > $(O)/include/config/auto.conf.cmd
	@cp $(KCONFIG_ALLCONFIG) $(O)/.config; grep -q LACKS $(S)/Kbuild && sed -i /KSM/d $(O)/.config || true
prepare:
	@echo 7.3.4 > $(O)/include/config/kernel.release
bzImage: prepare
	@if grep -q '#error' $(S)/gup.c; then echo '$(S)/gup.c:1:2: error: #error no' >&2; exit 1; fi
	@echo '  CC      mm/gup.o'
	@cat $(S)/gup.c $(O)/.config > $(O)/arch/x86/boot/bzImage
	@touch $(O)/System.map $(O)/Module.symvers; echo made >> $(O)/count
modules:
	@mkdir -p $(O)/drivers/block; touch $(O)/modules.builtin; cp $(S)/brd.c $(O)/drivers/block/brd.ko
	@echo '  LD [M]  drivers/block/brd.ko'; echo drivers/block/brd.o > $(O)/modules.order
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose kbuild takes no time."""
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Makefile").write_text(KBUILD)
    (tree / "Kbuild").touch()
    (tree / "mm").mkdir()
    for name in ("Kconfig", "mm/Kconfig"):
        (tree / name).touch()
        os.utime(tree / name, (1, 1))
    (tree / "gup.c").write_text("int gup;\n")
    (tree / "brd.c").write_text("int brd;\n")
    return tree


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def _build(tree: Path, cache: Cache, *extra: str, progress: Progress = SILENT) -> Build:
    names = fragments.names(Arch.X86_64, "4level", extra)
    return Build("tree:x", tree_at(tree), Arch.X86_64, names, cache, progress)


def test_a_kernel_is_built_and_its_files_are_the_caches_own(tree: Path, cache: Cache) -> None:
    kernel = _build(tree, cache).kernel()
    assert kernel.boot.read_text().startswith("int gup;")
    assert kernel.release == "7.3.4"
    assert kernel.config["CONFIG_KSM"] == "y"
    assert kernel.modules is not None
    assert (kernel.modules / "kernel/drivers/block/brd.ko").is_file()
    assert not (tree / ".config").exists()


def test_the_identity_is_what_was_built(tree: Path, cache: Cache) -> None:
    first = _build(tree, cache).kernel()
    assert _build(tree, cache).kernel().identity == first.identity
    (tree / "gup.c").write_text("int gup = 1;\n")
    second = _build(tree, cache).kernel()
    assert second.identity != first.identity
    assert first.boot.read_text().startswith("int gup;")
    assert second.boot.read_text().startswith("int gup = 1;")
    assert _build(tree, cache, "debug").kernel().identity not in (first.identity, second.identity)


def test_a_module_that_alone_has_changed_is_another_build(tree: Path, cache: Cache) -> None:
    first = _build(tree, cache).kernel()
    (tree / "brd.c").write_text("int brd = 1;\n")
    second = _build(tree, cache).kernel()
    assert second.boot.read_bytes() == first.boot.read_bytes()
    assert second.identity != first.identity
    assert second.modules is not None
    assert (second.modules / "kernel/drivers/block/brd.ko").read_text() == "int brd = 1;\n"
    assert second.needs_headers().identity == second.identity


def test_the_same_build_directory_is_used_again_but_not_for_other_fragments(tree: Path, cache: Cache) -> None:
    _build(tree, cache).kernel()
    _build(tree, cache).kernel()
    _build(tree, cache, "debug").kernel()
    counts = sorted(path.read_text() for path in (cache.root / "build").glob("*/out/count"))
    assert counts == ["made\n", "made\nmade\n"]


def test_a_failure_is_one_error_and_the_next_build_goes_on(tree: Path, cache: Cache) -> None:
    (tree / "gup.c").write_text("#error no\n")
    with pytest.raises(KernelBuildError) as caught:
        _build(tree, cache).kernel()
    assert caught.value.message == "Linux 7.3.4 for x86_64 does not build: gup.c:1:2: error: #error no"
    (tree / "gup.c").write_text("int gup;\n")
    assert _build(tree, cache).kernel().boot.is_file()


def test_a_configuration_that_lacks_something_stops_before_anything_is_compiled(
    tree: Path, cache: Cache
) -> None:
    (tree / "Kbuild").write_text("# LACKS\n")
    with pytest.raises(KernelBuildError, match="CONFIG_KSM=y"):
        _build(tree, cache).kernel()
    assert not list((cache.root / "build").glob("*/out/count"))


def test_the_configuration_is_made_again_when_it_must_be(tree: Path, cache: Cache) -> None:
    def configurations() -> int:
        _build(tree, cache).kernel()
        (made,) = (cache.root / "build").glob("*/out/configurations")
        return len(made.read_text().splitlines())

    assert (configurations(), configurations()) == (1, 1)
    os.utime(tree / "mm/Kconfig", ns=((now := time.time_ns() + 10**9), now))
    assert configurations() == 2
    (tree / "mm/Kconfig").unlink()
    assert configurations() == 3


def test_a_path_that_kbuild_cannot_take_is_a_usage_error(tree: Path, cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="space or a colon"):
        _build(tree, Cache(tmp_path / "with space")).kernel()
    with pytest.raises(UsageError, match="space or a colon"):
        _build(tree.rename(tmp_path / "a:b"), cache).kernel()


def test_modules_are_built_only_against_what_was_built(tree: Path, cache: Cache) -> None:
    first = _build(tree, cache).kernel().needs_headers()
    with first.held():
        pass
    (tree / "gup.c").write_text("int gup = 1;\n")
    second = _build(tree, cache).kernel().needs_headers()
    with pytest.raises(BuildInterruptedError, match="built this tree again"), first.held():
        pass
    with second.held():
        pass


def test_a_second_run_waits_for_the_first(tree: Path, cache: Cache) -> None:
    waited = threading.Event()
    waiting = Cache(cache.root, on_wait=lambda _what: nullcontext(waited.set()))
    done: list[str] = []
    headers = _build(tree, cache).kernel().needs_headers()
    other = threading.Thread(target=lambda: done.append(_build(tree, waiting).kernel().identity))
    with headers.held():
        other.start()
        assert waited.wait(30)
        assert not done
    other.join(30)
    assert done


def test_the_estimate_is_what_a_like_build_took_and_none_for_the_rest(tree: Path, cache: Cache) -> None:
    totals: list[int | None] = []

    class Seen:
        def task(self, text: str, total: int | None):
            if text.startswith("building"):
                totals.append(total)
            return SILENT.task(text, total)

    _build(tree, cache, progress=Seen()).kernel()
    _build(tree, cache, progress=Seen()).kernel()
    _build(tree, cache, "debug", progress=Seen()).kernel()
    assert totals[1:] == [None, 2]


def test_a_first_build_that_failed_gives_no_estimate(tree: Path, cache: Cache) -> None:
    (tree / "gup.c").write_text("#error no\n")
    with pytest.raises(KernelBuildError):
        _build(tree, cache).kernel()
    (tree / "gup.c").write_text("int gup;\n")
    _build(tree, cache).kernel()
    assert not list((cache.root / "build").glob("*/steps"))


def test_what_a_killed_make_was_writing_is_made_again(tmp_path: Path) -> None:
    started = 1_000_000_000
    ages = {"old.o": (-2, -2), "done.o": (1, 2), "torn.o": (1, -2), "new.o": (1, None)}
    for name, (made, command) in ages.items():
        paths = [(tmp_path / name, made), (tmp_path / f".{name}.cmd", command)]
        for path, age in paths:
            if age is not None:
                path.touch()
                os.utime(path, ns=(started + age * 10**6, started + age * 10**6))
    build_module.mend(tmp_path, started)
    assert sorted(path.name for path in tmp_path.glob("*.o")) == ["done.o", "new.o", "old.o"]


def test_a_full_disk_is_the_caches_error(tree: Path, cache: Cache) -> None:
    text = (tree / "Makefile").read_text()
    (tree / "Makefile").write_text(
        text.replace(
            "@echo '  CC", "@echo 'ld: final link failed: No space left on device'; exit 1; echo '  CC"
        )
    )
    with pytest.raises(CacheError, match="is full"):
        _build(tree, cache).kernel()
    (tree / "Makefile").write_text(text)
    assert _build(tree, cache).kernel().boot.is_file()


def _builds(cache: Cache) -> int:
    (counted,) = (cache.root / "build").glob("*/out/count")
    return len(counted.read_text().splitlines())


def test_a_tree_in_the_place_of_another_is_built_from_nothing(tree: Path, cache: Cache) -> None:
    _build(tree, cache).kernel()
    shutil.move(tree, old := tree.with_name("old"))
    shutil.copytree(old, tree)
    assert _build(tree, cache).kernel().boot.is_file()
    assert _builds(cache) == 1


def test_a_tree_that_was_written_over_with_older_files_is_built_from_nothing(
    tree: Path, cache: Cache
) -> None:
    _build(tree, cache).kernel()
    (tree / "Makefile").write_text(KBUILD.replace("7.3.4", "7.3.3"))
    os.utime(tree / "Makefile", (1, 1))
    assert _build(tree, cache).kernel().release == "7.3.3"
    assert _builds(cache) == 1


def test_a_tree_that_was_edited_is_built_on(tree: Path, cache: Cache) -> None:
    _build(tree, cache).kernel()
    (tree / "new.c").touch()
    (tree / "Makefile.new").write_text(KBUILD.replace("7.3.4", "7.3.5"))
    (tree / "Makefile.new").rename(tree / "Makefile")
    assert _build(tree, cache).kernel().release == "7.3.5"
    assert _builds(cache) == 2


def _worktree(tree: Path, cache: Cache, shows: str) -> Path:
    """Return the tree as a worktree of ours that shows something."""
    ours = cache.root / worktrees.KIND / "key" / "tree"
    if not ours.exists():
        shutil.copytree(tree, ours)
    (ours.parent / worktrees.MARK).write_text(shows)
    return ours


def test_a_worktree_of_ours_is_made_once_for_what_it_shows(tree: Path, cache: Cache) -> None:
    ours = _worktree(tree, cache, "commit a")
    first = _build(ours, cache).kernel()
    (ours / "gup.c").write_text("int changed;\n")
    assert _build(ours, cache).kernel() is first
    _worktree(tree, cache, "commit b")
    assert _build(ours, cache).kernel().identity != first.identity


def test_a_worktree_is_made_again_when_what_was_made_is_gone(tree: Path, cache: Cache) -> None:
    ours = _worktree(tree, cache, "commit a")
    first = _build(ours, cache).kernel()
    cache.remove("built", first.identity)
    assert _build(ours, cache).kernel().boot.is_file()
    cache.remove("build")
    _build(ours, cache).kernel()
    assert _builds(cache) == 1


def test_a_tree_of_the_users_is_looked_at_each_time(tree: Path, cache: Cache) -> None:
    (tree.parent / worktrees.MARK).write_text("commit a")
    first = _build(tree, cache).kernel()
    (tree / "gup.c").write_text("int changed;\n")
    assert _build(tree, cache).kernel().identity != first.identity
