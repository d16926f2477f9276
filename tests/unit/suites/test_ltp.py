"""Cases of an LTP: which there are, which files they need, and why some cannot run."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hostwalk.errors import UsageError
from hostwalk.suites.ltp import PLACE, Ltp, machine_of
from hostwalk.suites.plan import Step
from hostwalk.target import Arch

X86_64, AARCH64, RISCV = 62, 183, 243
CASES = """\
#DESCRIPTION:Memory Mgmt tests
mmap21_01 mmap21 -m 10000
# a comment
vma05\t vma05.sh

gone gone -x
mixed TMPFILE=`mktemp $TMPDIR/example.XXXXXXXXXXXX`; mmap21 $TMPFILE
"""


def elf(machine: int, strings: bytes = b"") -> bytes:
    head = b"\x7fELF\2\1\1" + bytes(9)
    return (
        head + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 0, 0, 64, 56, 0, 64, 0, 0) + b"\0" + strings
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    programs = tmp_path / "testcases/bin"
    programs.mkdir(parents=True)
    (tmp_path / "runtest").mkdir()
    (tmp_path / "runtest/mm").write_text(CASES)
    (tmp_path / "runtest/Makefile").write_text("")
    (programs / "mmap21").write_bytes(elf(X86_64, b"mmap21_child\0"))
    (programs / "mmap21_child").write_bytes(elf(X86_64))
    (programs / "vma05.sh").write_text("#!/bin/sh\n. tst_test.sh\nvma05_vdso\n")
    (programs / "tst_test.sh").write_text("tst_test.sh again\n")
    (programs / "vma05_vdso").write_bytes(elf(AARCH64))
    (tmp_path / "testcases/data/mmap21").mkdir(parents=True)
    (tmp_path / "testcases/data/mmap21/table").write_text("1\n")
    return tmp_path


@pytest.fixture
def ltp(root: Path) -> Ltp:
    return Ltp.of(root, "mm", Arch.X86_64)


def case(ltp: Ltp, name: str) -> Step:
    return next(step for step in ltp.steps() if step.name == name)


def test_each_line_of_the_file_is_a_case(ltp: Ltp) -> None:
    steps = ltp.steps()
    assert [(step.name, step.category) for step in steps] == [
        ("mmap21_01", "mm"), ("vma05", "mm"), ("gone", "mm"), ("mixed", "mm"),
    ]  # fmt: skip
    assert steps[0].command == ("sh", "-c", "mmap21 -m 10000")
    command = ltp.command(steps[0])
    assert command[0] == "env"
    assert f"LTPROOT={PLACE}" in command
    assert "LTP_DEV=/dev/ram0" in command
    assert command[-3:] == ("sh", "-c", "mmap21 -m 10000")


def test_a_case_comes_with_what_its_programs_name_and_their_data(ltp: Ltp, root: Path) -> None:
    bin_ = f"{PLACE}/testcases/bin"
    assert ltp.files(case(ltp, "mmap21_01")) == (
        (root / "testcases/bin/mmap21", f"{bin_}/mmap21"),
        (root / "testcases/bin/mmap21_child", f"{bin_}/mmap21_child"),
        (root / "testcases/data/mmap21/table", f"{PLACE}/testcases/data/mmap21/table"),
    )
    assert [remote for _, remote in ltp.files(case(ltp, "vma05"))] == [
        f"{bin_}/vma05.sh", f"{bin_}/tst_test.sh", f"{bin_}/vma05_vdso",
    ]  # fmt: skip


def test_what_cannot_run_says_why(ltp: Ltp) -> None:
    assert ltp.why_not(case(ltp, "mixed")) == ""
    assert "has no program of 'gone -x'" in ltp.why_not(case(ltp, "gone"))
    assert ltp.why_not(Step("mm", ("sh", "-c", "vma05_vdso"))) == (
        "vma05_vdso is a program for arm64, the guest is x86_64"
    )


def test_a_tree_in_which_ltp_was_built_serves_too(root: Path) -> None:
    built = root / "tree"
    (built / "testcases/kernel/mem").mkdir(parents=True)
    (built / "runtest").mkdir()
    (built / "runtest/mm").write_text("mmap21_01 mmap21\n")
    program = built / "testcases/kernel/mem/mmap21"
    program.write_bytes(elf(X86_64))
    program.chmod(0o755)
    (built / "testcases/kernel/mem/mmap21.c").write_text("int main")
    assert Ltp.of(built, "mm", Arch.X86_64).programs == {"mmap21": program}


def test_what_is_no_ltp_or_one_for_others_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no LTP"):
        Ltp.of(root / "testcases", "mm", Arch.X86_64)
    with pytest.raises(UsageError, match=r"has no 'mn'; it has mm$"):
        Ltp.of(root, "mn", Arch.X86_64)
    with pytest.raises(UsageError, match="built for x86_64, the guest is arm64") as caught:
        Ltp.of(root, "mm", Arch.ARM64)
    assert "--host=aarch64-linux-gnu" in (caught.value.remedy or "")
    for path in (root / "testcases/bin").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="not built"):
        Ltp.of(root, "mm", Arch.X86_64)


def test_the_machine_of_a_program(tmp_path: Path) -> None:
    program = tmp_path / "p"
    for machine, arch in ((X86_64, Arch.X86_64), (AARCH64, Arch.ARM64), (RISCV, None)):
        program.write_bytes(elf(machine))
        assert machine_of(program) == arch
    program.write_bytes(b"\x7fELF\2")
    assert machine_of(program) is None
    assert machine_of(tmp_path / "none") is None
