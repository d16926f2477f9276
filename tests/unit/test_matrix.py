from __future__ import annotations

from pathlib import Path

import pytest

from hostwalk.errors import UsageError
from hostwalk.matrix import named
from hostwalk.options import CheckOptions
from hostwalk.target import CPUS


def names(matrix: str, start: Path) -> list[str]:
    return [target.name for target in named(matrix, start=start)]


def test_ours_are_default_and_full(tmp_path: Path) -> None:
    assert names("default", tmp_path) == ["x86_64-4level/debian:6.12", "arm64-48bit/debian:6.12"]
    full = names("full", tmp_path)
    assert len(full) == len(set(full)) == 18
    assert "arm64-52bit-smp2/debian:6.12-arm64-16k" in full


def test_the_kernel_that_is_built_is_built_in_every_format(tmp_path: Path) -> None:
    assert names("source", tmp_path) == [f"{cpu.arch}-{cpu.format}/source:7.3" for cpu in CPUS]


def test_a_project_replaces_a_name_and_adds_others(tmp_path: Path) -> None:
    (tmp_path / "hostwalk.toml").write_text('[[matrix.default]]\nkernel = "debian:6.1"\narch = "amd64"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert names("default", below) == ["x86_64-4level/debian:6.1"]
    assert len(names("full", below)) == 18


def test_pyproject_has_a_table_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[[tool.hostwalk.matrix.ours]]\nformat = ["5level"]\nsmp = [1, 4]\n'
    )
    assert names("ours", tmp_path) == ["x86_64-5level/debian:6.12", "x86_64-5level-smp4/debian:6.12"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[matrix.x]]\nkernels = 1\n", "unknown key 'kernels'"),
        ("[[matrix.x]]\nsmp = 0\n", "positive number"),
        ("[[matrix.x]]\narch = 1\n", "takes text"),
        ("[matrix]\nx = 1\n", "no entries"),
        ("[[matrix.y]]\n", "no matrix 'x'"),
        ("[[matrix.x\n", "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "hostwalk.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint):
        named("x", start=tmp_path)


def test_options_narrow_a_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = CheckOptions(matrix="full", archs=("arm64",), formats=("52bit",)).targets
    assert [target.name for target in chosen] == [
        "arm64-52bit/debian:6.12",
        "arm64-52bit-smp2/debian:6.12",
        "arm64-52bit/debian:6.12-arm64-16k",
        "arm64-52bit-smp2/debian:6.12-arm64-16k",
    ]


def test_options_that_leave_nothing_of_a_matrix_are_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="nothing is left"):
        _ = CheckOptions(matrix="full", archs=("x86_64",), formats=("52bit",)).targets


def test_a_project_s_default_is_taken_when_nothing_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostwalk.toml").write_text('[[matrix.default]]\narch = "arm64"\n')
    monkeypatch.chdir(tmp_path)
    assert [target.name for target in CheckOptions().targets] == ["arm64-48bit/debian:6.12"]
    assert len(CheckOptions(archs=("x86_64",)).targets) == 1
