from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.errors import BuildError, BuildInterruptedError, CacheError, UsageError
from hostwalk.image import compile as compiling
from hostwalk.kernels import toolchain
from hostwalk.kernels.kernel import Headers, Kernel
from hostwalk.target import Arch

BUILDS = "modules:\n\t@cat $(M)/ring.c > $(M)/ring.ko; echo built >> $(CURDIR)/log\n"
FAILS = 'modules:\n\t@echo "$(M)/ring.c:7:1: error: expected ;" >&2; exit 1\n'


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    compiler = toolchain.Toolchain(Arch.X86_64, "", "true", "true 1.0")
    monkeypatch.setattr(toolchain, "find", lambda *_: compiler)
    monkeypatch.setattr(
        compiling, "_strip", lambda module, _, target: target.write_bytes(module.read_bytes())
    )
    place = tmp_path / "driver"
    place.mkdir()
    (place / "ring.c").write_text("a ring\n")
    (place / "Kbuild").write_text("obj-m := ring.o\n")
    return place


def kernel(tmp_path: Path, makefile: str) -> tuple[Kernel, Cache]:
    tree, cache = tmp_path / "headers", Cache(tmp_path / "cache")
    tree.mkdir(exist_ok=True)
    (tree / "Makefile").write_text(makefile)
    headers = Headers(tree, Arch.X86_64, "6.9", {}, "id")
    made = Kernel("spec", Arch.X86_64, "6.9", tmp_path / "boot", {}, None, headers, "boot-id", cache)
    return made, cache


def test_a_module_is_built_in_a_copy_and_once_for_the_same_sources(driver: Path, tmp_path: Path) -> None:
    target, cache = kernel(tmp_path, BUILDS)
    module = compiling.build_module(target, driver, cache)
    assert module.read_text() == "a ring\n"
    assert compiling.build_module(target, driver, cache) == module
    assert (tmp_path / "headers/log").read_text() == "built\n"
    assert sorted(path.name for path in driver.iterdir()) == ["Kbuild", "ring.c"]
    (driver / "ring.c").write_text("another ring\n")
    assert compiling.build_module(target, driver, cache).read_text() == "another ring\n"


def test_a_directory_without_a_kbuild_builds_nothing(driver: Path, tmp_path: Path) -> None:
    (driver / "Kbuild").unlink()
    with pytest.raises(UsageError, match="it has no Kbuild"):
        compiling.build_module(*_split(kernel(tmp_path, BUILDS), driver))


def test_one_module_is_to_be_built(driver: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it builds none"):
        compiling.build_module(*_split(kernel(tmp_path, "modules:\n"), driver))


def test_what_the_compiler_says_is_told(driver: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"driver does not build .*driver/ring.c:7:1: error: expected ;"):
        compiling.build_module(*_split(kernel(tmp_path, FAILS), driver))


def _split(made: tuple[Kernel, Cache], driver: Path) -> tuple[Kernel, Path, Cache]:
    return made[0], driver, made[1]


def test_a_compiler_that_was_killed_says_nothing_of_the_source(driver: Path, tmp_path: Path) -> None:
    killed = 'modules:\n\t@echo "gcc: fatal error: Killed signal terminated program cc1" >&2; exit 1\n'
    with pytest.raises(BuildInterruptedError, match="terminated program cc1"):
        compiling.build_module(*_split(kernel(tmp_path, killed), driver))


def test_a_full_disk_is_told_of_however_much_is_said_after_it(driver: Path, tmp_path: Path) -> None:
    full = 'modules:\n\t@echo "as: x.o: No space left on device" >&2; seq 9000 >&2; exit 1\n'
    with pytest.raises(CacheError, match="is full"):
        compiling.build_module(*_split(kernel(tmp_path, full), driver))


def test_as_many_compilers_run_as_this_process_has_processors(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {5})
    says = 'modules:\n\t@echo "error: <$(MAKEFLAGS)>" >&2; exit 1\n'
    with pytest.raises(BuildError, match=r"<.*-j1\b"):
        compiling.build_module(*_split(kernel(tmp_path, says), driver))
