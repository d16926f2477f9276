"""The wheel: the same command without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", place, TOP], check=True, timeout=120
    )
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(place)
    return place


def hostwalk(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the wheel's command in an empty directory."""
    empty = installed / "empty"
    empty.mkdir(exist_ok=True)
    env = {**os.environ, "PYTHONPATH": str(installed)}
    argv = [sys.executable, "-m", "hostwalk", *words]
    return subprocess.run(argv, cwd=empty, env=env, text=True, capture_output=True, timeout=60, check=False)


def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize(
    ("tree", "place", "pattern"),
    [("guest", "guest", "*.[ch]"), ("guest", "guest", "Kbuild"), ("tests/contract", "contract", "test_*.py")],
)
def test_what_runs_in_the_guest_and_the_contract_are_in_it(
    wheel: Path, tree: str, place: str, pattern: str
) -> None:
    sources = [path.relative_to(TOP / tree) for path in (TOP / tree).rglob(pattern)]
    assert sources
    assert {f"hostwalk/_data/{place}/{path}" for path in sources} <= names(wheel)


def test_no_build_products_are_in_it(wheel: Path) -> None:
    assert not [name for name in names(wheel) if name.endswith((".o", ".ko", ".mod", ".pyc"))]


def test_the_page_finds_its_style_and_script(wheel: Path) -> None:
    assert {f"hostwalk/report/html/{name}" for name in ("page.css", "page.js")} <= names(wheel)


def test_licences_and_types_are_in_it(wheel: Path) -> None:
    found = names(wheel)
    assert "hostwalk/py.typed" in found
    for name in ("LICENSE", "LICENSES/GPL-2.0-only.txt", "LICENSES/Linux-syscall-note.txt"):
        assert [each for each in found if each.endswith(f"licenses/{name}")]


def test_its_command_runs_from_an_empty_directory(installed: Path) -> None:
    done = hostwalk(installed, "--help")
    assert done.returncode == 0
    assert "hostwalk check" in done.stdout


def test_it_finds_its_own_sources_and_contract(installed: Path) -> None:
    code = "from hostwalk import resources as r; print(r.contract(), r.guest_sources(), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(installed)},
        text=True, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert [Path(line) for line in done.stdout.split()] == [
        installed / "hostwalk/_data/contract",
        installed / "hostwalk/_data/guest",
    ]


def test_it_has_no_tests_of_the_project(installed: Path) -> None:
    done = hostwalk(installed, "test")
    assert done.returncode == 2
    assert "run ./hostwalk test in a checkout" in done.stderr
