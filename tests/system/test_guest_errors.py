"""What goes wrong in a guest: each with a result that says so, and a guest that is well afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from suite_parts import EATS

from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, prepare
from hostwalk.cells import Source
from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError
from hostwalk.image import build_module
from hostwalk.kernels import toolchain
from hostwalk.kernels.progress import SILENT
from hostwalk.machine.pump import Streams
from hostwalk.plugin import Session
from hostwalk.suites.expected import Needs
from hostwalk.suites.furnishing import within
from hostwalk.target import Arch, Target

SECONDS = 240
PATIENCE = (3, 40)
"""Seconds that a time-out is given: more where the host was too busy for the program to come to it."""
PROMPT = "guest:~# "
FORKS = "#include <unistd.h>\nint main(void) { for (;;) fork(); }"
LACKS = "int given(void);\nint main(void) { return given(); }"
MODULE = """
#include <linux/module.h>
static int wrong;
module_param(wrong, int, 0444);
static int __init ring_init(void) { return wrong; }
static void __exit ring_exit(void) { pr_warn("ring is gone\\n"); }
module_init(ring_init);
module_exit(ring_exit);
MODULE_LICENSE("GPL");
"""


@pytest.fixture(scope="module")
def prepared(session: Session, target: Target) -> Prepared:
    return prepare(target, session.options, SILENT, Cache.user(), login=True)


@pytest.fixture(scope="module")
def guest(prepared: Prepared) -> Iterator[Cell]:
    made = Source.of(prepared).make()
    yield made
    assert made.machine.ssh(deadline()).run(["true"], deadline=deadline()).status == 0
    made.machine.check()
    made.close()


@pytest.fixture(scope="module")
def module(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ring")
    (place / "Kbuild").write_text("obj-m := ring.o\n")
    (place / "ring.c").write_text(MODULE)
    return build_module(prepared.kernel, place, Cache.user())


def deadline() -> Deadline:
    return Deadline.after(60)


def compiled(cell: Cell, place: Path, text: str, *words: str) -> Path:
    """Compile a program for a cell, and put it there."""
    (place / "program.c").write_text(text)
    argv = [toolchain.find(cell.target.arch).cc, "-o", place / "program", place / "program.c", *words]
    subprocess.run(argv, check=True, timeout=SECONDS)
    cell.machine.ssh(deadline()).put(place / "program", "/root/program")
    return place / "program"


def hostwalk(target: Target, *words: str) -> subprocess.CompletedProcess[str]:
    where = ("--arch", target.arch, "--kernel", target.kernel)
    argv = [sys.executable, "-m", "hostwalk", words[0], *where, *words[1:]]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL
    )


def test_a_library_that_is_missing_is_named(guest: Cell, tmp_path: Path) -> None:
    cc = toolchain.find(guest.target.arch).cc
    (tmp_path / "given.c").write_text("int given(void) { return 0; }")
    library = tmp_path / "libgiven.so"
    subprocess.run([cc, "-shared", "-fPIC", "-o", library, tmp_path / "given.c"], check=True, timeout=SECONDS)
    compiled(guest, tmp_path, LACKS, f"-L{tmp_path}", "-lgiven")
    done = guest.machine.ssh(deadline()).run(["./program"], deadline=deadline())
    assert done.status == 127
    assert b"libgiven.so: cannot open shared object file" in done.stderr
    guest.machine.ssh(deadline()).put(library, "/root/libgiven.so")
    mended = ["env", "LD_LIBRARY_PATH=/root", "./program"]
    assert guest.machine.ssh(deadline()).run(mended, deadline=deadline()).status == 0


def test_an_interpreter_that_is_missing_is_named(guest: Cell, tmp_path: Path) -> None:
    compiled(guest, tmp_path, "int main(void) { return 0; }", "-Wl,--dynamic-linker=/lib/ld-none.so.1")
    done = guest.machine.ssh(deadline()).run(["./program"], deadline=deadline())
    assert done.status == 127
    assert b"its interpreter /lib/ld-none.so.1 is not in the guest" in done.stderr


def test_a_program_that_forks_for_ever_is_bounded_and_ended(guest: Cell, tmp_path: Path) -> None:
    if guest.target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    compiled(guest, tmp_path, FORKS, "-static")
    ssh, said = guest.machine.ssh(deadline()), bytearray()
    for seconds in PATIENCE:
        with pytest.raises(CommandTimeoutError, match=f"did not end within {seconds} s"):
            ssh.stream(["./program"], Streams(stderr=said.extend), deadline=Deadline.after(seconds))
        if said:
            break
    assert b"the bound of 256 processes was met" in said
    limit = deadline()
    while b"program" in ssh.run(["ps"], deadline=limit).stdout:
        assert not limit.expired, "what was killed still runs"


def test_memory_of_the_guest_and_the_bound_on_it_are_told_apart(guest: Cell, tmp_path: Path) -> None:
    if guest.target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    compiled(guest, tmp_path, EATS, "-static")
    ssh = guest.machine.ssh(deadline())
    bounded = ssh.run(["./program"], deadline=deadline())
    unbounded = ssh.run(
        within(Needs(unbounded=True), ("sh", "-c", "./program; echo $?")), deadline=deadline()
    )
    assert bounded.status == 128 + signal.SIGKILL
    assert re.search(rb"the bound of \d+ MiB was met, all its processes were killed", bounded.stderr)
    assert (unbounded.status, unbounded.stdout) == (0, b"137\n")
    assert b"the guest has no more, its kernel killed 1 of the processes" in unbounded.stderr
    assert b"the bound of" not in unbounded.stderr


def test_a_program_that_fills_the_disk_is_told(guest: Cell) -> None:
    if guest.target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    ssh = guest.machine.ssh(deadline())
    full = ssh.run(["sh", "-c", "cat /dev/zero > /root/full"], deadline=deadline())
    ssh.run(["rm", "-f", "/root/full"], deadline=deadline())
    assert full.status in (1, 128 + signal.SIGKILL)
    assert b"No space left on device" in full.stderr or b"out of memory: the bound of" in full.stderr


def test_a_time_out_is_a_status_of_its_own(target: Target) -> None:
    if target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    command = ("--", "sh", "-c", "echo begun; while :; do :; done")
    for seconds in PATIENCE:
        late = hostwalk(target, "run", "--timeout", str(seconds), *command)
        assert late.returncode == 124
        assert f"the command did not end within {seconds} s" in late.stderr
        if late.stdout:
            break
    assert late.stdout == "begun\n"


def test_a_module_is_loaded_for_the_command_and_unloaded(target: Target, module: Path) -> None:
    done = hostwalk(target, "run", "--module", str(module), "--", "grep", "-c", "^ring ", "/proc/modules")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    held = hostwalk(target, "run", "--module", str(module), "--", "sh", "-c", "rmmod ring; dmesg | tail -n 1")
    assert held.stdout.endswith("ring is gone\n")
    assert not held.stderr


def test_a_module_that_the_kernel_refuses_has_its_words(target: Target, module: Path, tmp_path: Path) -> None:
    data = module.read_bytes()
    magic = tmp_path / "magic.ko"
    start = data.index(b"vermagic=")
    magic.write_bytes(data[:start] + data[start:].replace(b"SMP", b"UPS", 1))
    symbol = tmp_path / "symbol.ko"
    symbol.write_bytes(data.replace(b"param_ops_int", b"param_oops_nt"))
    for file, words in (
        (f"{magic}", "ENOEXEC: ring: version magic"),
        (f"{symbol}", "Unknown symbol param_oops_nt"),
        (f"{module} wrong=-19", "ENODEV"),
    ):
        refused = hostwalk(target, "run", "--module", file, "--", "true")
        assert refused.returncode == 125
        assert words in refused.stderr


def test_another_architecture_s_module_boots_nothing(target: Target, module: Path) -> None:
    other = next(arch for arch in Arch if arch is not target.arch)
    argv = [sys.executable, "-m", "hostwalk", "run", "--arch", other, "--module", module, "--", "true"]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert refused.returncode == 2
    assert f"is built for {target.arch}, the guest is {other}" in refused.stderr


def shell(target: Target, *words: str) -> pexpect.spawn[str]:
    argv = ["-m", "hostwalk", "shell", "--arch", target.arch, "--kernel", target.kernel, *words]
    env = {**os.environ, "TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
    return pexpect.spawn(sys.executable, argv, timeout=SECONDS, env=env, encoding="utf-8")  # type: ignore[arg-type]


def ended(child: pexpect.spawn[str]) -> int | None:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_a_shell_that_a_signal_ends_has_the_signal_s_status(target: Target) -> None:
    child = shell(target)
    child.expect_exact(PROMPT)
    child.sendline("kill -KILL $$")
    assert ended(child) == 128 + signal.SIGKILL


def test_a_shell_that_never_returns_can_be_left(target: Target) -> None:
    if target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    child = shell(target)
    child.expect_exact(PROMPT)
    child.sendline("stty -isig; echo be''gun; while :; do :; done")
    child.expect_exact("begun")
    child.send("\r")
    child.send("~")
    child.send(".")
    assert ended(child) == 255


def test_a_crash_in_a_shell_is_a_crash(target: Target) -> None:
    if target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    child = shell(target)
    child.expect_exact(PROMPT)
    child.sendline("echo c > /proc/sysrq-trigger")
    child.expect_exact("sysrq triggered crash")
    assert ended(child) == 123


def test_the_other_kinds_have_their_statuses(target: Target) -> None:
    if target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    console = shell(target, "--console")
    console.expect_exact(PROMPT)
    console.send("\x1d")
    assert ended(console) == 0
    python = shell(target, "--python")
    python.expect_exact("in hand")
    python.sendline("import sys; sys.exit(5)")
    assert ended(python) == 5
