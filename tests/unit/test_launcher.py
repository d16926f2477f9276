from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "hostwalk"


class Checkout:
    """A checkout whose virtual environment is made of shell scripts that write down how they were called."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.log = top / "log"
        (top / ".venv/bin").mkdir(parents=True)
        shutil.copy(LAUNCHER, top / "hostwalk")
        (top / "pyproject.toml").write_text("[project]\n")
        self.program("hostwalk", 'echo "$HOSTWALK_COMMAND: $*"; exit 7')
        self.program("python", f'echo "python $*" >>"{self.log}"; sleep 0.2')
        self.stamp()

    def program(self, name: str, script: str) -> None:
        path = self.top / ".venv/bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def stamp(self) -> None:
        pyproject = (self.top / "pyproject.toml").read_text()
        (self.top / ".venv/made-from").write_text(f"{self.top}\n{pyproject}")

    def start(self, *words: str, command: Path | None = None) -> subprocess.Popen[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("HOSTWALK")}
        return subprocess.Popen(
            [str(command or self.top / "hostwalk"), *words],
            cwd="/", env=env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    top = tmp_path / "a directory with spaces"
    top.mkdir()
    return Checkout(top)


def test_a_warm_start_goes_straight_on(checkout: Checkout) -> None:
    process = checkout.start("check", "-k", "a b")
    out, err = process.communicate()
    assert (out, err) == (f"{checkout.top}/hostwalk: check -k a b\n", "")
    assert process.returncode == 7
    assert not checkout.log.exists()


def test_by_a_symbolic_link(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout.top / "hostwalk")
    out, _ = checkout.start("version", command=link).communicate()
    assert out == f"{link}: version\n"


def test_a_changed_project_is_installed_again_once(checkout: Checkout) -> None:
    with (checkout.top / "pyproject.toml").open("a") as file:
        file.write("dependencies = []\n")
    both = [checkout.start("version") for _ in range(2)]
    texts = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [7, 7]
    assert checkout.log.read_text() == f"python -m pip install -q -e {checkout.top}[dev]\n"
    assert sorted("waiting" in text for text in texts) == [False, True]
    assert checkout.start("version").communicate()[1] == ""


def test_an_installation_that_fails_keeps_what_there_was(checkout: Checkout) -> None:
    checkout.program("python", "exit 1")
    (checkout.top / "pyproject.toml").write_text("[project]\nversion = 2\n")
    process = checkout.start("version")
    assert "could not update" in process.communicate()[1]
    assert process.returncode == 3
    (checkout.top / "pyproject.toml").write_text("[project]\n")
    assert checkout.start("version").communicate()[1] == ""
