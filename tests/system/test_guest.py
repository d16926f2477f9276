"""Working in a guest: commands, files, a terminal, bounds, crashes, and the debugger where a claim fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, prepare
from hostwalk.cells import Source
from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, GuestCrashError, UsageError
from hostwalk.kernels.progress import SILENT
from hostwalk.plugin import Session
from hostwalk.target import Arch, Target

HOSTWALK = [sys.executable, "-m", "hostwalk"]
SECONDS = 180
PROMPT = "guest:~# "
FAILING = """
def test_pins(subject, witness):
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True):
        assert witness.pages(area).refcounts == before.refcounts
"""


@pytest.fixture(scope="module")
def prepared(session: Session, target: Target) -> Prepared:
    return prepare(target, session.options, SILENT, Cache.user(), login=True)


@pytest.fixture(scope="module")
def guest(prepared: Prepared) -> Iterator[Cell]:
    """A machine that is logged in to, shared by the tests of a target."""
    made = Source.of(prepared).make()
    yield made
    made.close()


def deadline() -> Deadline:
    return Deadline.after(60)


def hostwalk(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HOSTWALK, *words], capture_output=True, text=True, check=False, timeout=SECONDS, **options
    )  # type: ignore[call-overload]


def test_commands_run_apart_with_their_own_status(guest: Cell) -> None:
    ssh = guest.machine.ssh(deadline())
    machine = {Arch.X86_64: b"x86_64", Arch.ARM64: b"aarch64"}[guest.target.arch]
    done = ssh.run(["sh", "-c", "uname -m; cat; echo said >&2; exit 3"], stdin=b"given", deadline=deadline())
    assert (done.status, done.stdout, done.stderr) == (3, machine + b"\ngiven", b"said\n")
    assert ssh.run(["sh", "-c", "kill -SEGV $$"], deadline=deadline()).status == 128 + signal.SIGSEGV
    gone = ssh.run(["no-such-command"], deadline=deadline())
    assert (gone.status, gone.stderr) == (127, b"hostwalk: no-such-command: command not found\n")
    names = "cat <(echo of a pipe) /dev/stdin; echo said >/dev/stderr"
    named = ssh.run(["bash", "-c", names], stdin=b"given", deadline=deadline())
    assert (named.stdout, named.stderr) == (b"of a pipe\ngiven", b"said\n")
    ssh.run(["cp", "/bin/true", "here"], deadline=deadline())
    here = ssh.run(["here"], deadline=deadline())
    assert (here.status, here.stderr) == (127, b"hostwalk: here: command not found, but ./here is here\n")
    assert ssh.run(["ls", "/sys/class/net"], deadline=deadline()).stdout in (b"lo\n", b"")


def test_files_come_and_go_and_a_second_login_is_another(guest: Cell, tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "sent").write_bytes(data)
    (tmp_path / "sent").chmod(0o640)
    first = guest.machine.ssh(deadline())
    first.put(tmp_path / "sent", "/root/kept", deadline=deadline())
    first.get("/root/kept", tmp_path / "back", deadline=deadline())
    assert (tmp_path / "back").read_bytes() == data
    assert first.sftp(deadline()).stat("/root/kept").st_mode & 0o777 == 0o640
    first.close()
    second = guest.machine.ssh(deadline())
    assert second is not first
    assert second.sftp(deadline()).listdir("/root").count("kept") == 1
    second.sftp(deadline()).remove("/root/kept")


def test_bounds_hold_and_the_guest_is_well_after(guest: Cell) -> None:
    if guest.target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    ssh = guest.machine.ssh(deadline())
    with pytest.raises(CommandTimeoutError):
        ssh.run(["sh", "-c", "sleep 1000 & sleep 1000"], deadline=Deadline.after(1))
    assert b"sleep" not in ssh.run(["ps"], deadline=deadline()).stdout
    hungry = ssh.run(["dd", "if=/dev/zero", "of=/dev/null", "bs=200M"], deadline=deadline())
    assert (hungry.status, b"out of memory" in hungry.stderr) == (128 + signal.SIGKILL, True)
    forks = "for i in $(seq 400); do sleep 1000 & done"
    many = ssh.run(["sh", "-c", forks], deadline=deadline())
    assert b"the bound of 256 processes was met" in many.stderr
    assert ssh.run(["true"], deadline=deadline()).status == 0
    guest.machine.check()


def test_the_image_that_claims_run_on_is_in_it_as_it_is(guest: Cell, cell: Cell) -> None:
    plain, whole = cell.prepared.image, guest.prepared.image
    data = plain.initramfs.read_bytes()
    assert whole.initramfs.read_bytes()[: len(data)] == data
    assert "ssh" not in cell.machine.command_line
    with pytest.raises(UsageError, match="no login"):
        cell.machine.ssh()


def test_another_architecture_s_program_is_named(guest: Cell) -> None:
    other = next(arch for arch in Arch if arch is not guest.target.arch)
    machine = {Arch.X86_64: 62, Arch.ARM64: 183}[other]
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0" + machine.to_bytes(2, "little") + bytes(44)
    ssh = guest.machine.ssh(deadline())
    ssh.run(["sh", "-c", "cat > /tmp/other; chmod +x /tmp/other"], stdin=header, deadline=deadline())
    refused = ssh.run(["/tmp/other"], deadline=deadline())
    assert refused.status == 126
    assert f"it is a program for {other}, this guest is {guest.target.arch}" in refused.stderr.decode()


def test_a_terminal_is_a_terminal(target: Target) -> None:
    words = ["-m", "hostwalk", "shell", "--arch", target.arch, "--kernel", target.kernel]
    env = {**os.environ, "TERM": "xterm"}
    shell = pexpect.spawn(sys.executable, words, dimensions=(33, 101), timeout=SECONDS, env=env)
    shell.expect_exact(PROMPT)
    shell.sendline("stty size; echo $TERM")
    shell.expect_exact("33 101")
    shell.expect_exact("xterm")
    shell.setwinsize(40, 120)
    shell.sendline("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo re''sized")
    shell.expect_exact("resized")
    shell.sendline("echo be''gun; sleep 1000")
    shell.expect_exact("begun")
    shell.send("\x03")
    shell.expect_exact(PROMPT)
    shell.sendline("exit 7")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 7


def test_a_crash_of_the_kernel_has_its_report_and_a_status_of_its_own(target: Target) -> None:
    if target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    where = ("--arch", target.arch, "--kernel", target.kernel)
    crashed = hostwalk("run", *where, "--", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000")
    assert crashed.returncode == 123
    assert "Kernel panic - not syncing: sysrq triggered crash" in crashed.stderr
    assert not crashed.stdout


def test_the_debugger_begins_where_the_claim_fails(target: Target, tmp_path: Path) -> None:
    if target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    (tmp_path / "test_failing.py").write_text(FAILING)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--pdb",
        "--hostwalk-arch",
        target.arch,
        "--hostwalk-kernel",
        target.kernel,
    ]
    asked = 'p "runs", machine.qmp.execute("query-status")["running"]\np "seen", witness.pages(area).refcounts\nc\n'
    done = subprocess.run(
        argv, input=asked, capture_output=True, text=True, check=False, timeout=SECONDS, cwd=tmp_path
    )
    assert "in hand: cell, machine, agent" in done.stdout
    assert "('runs', False)" in done.stdout
    assert "('seen', refcounts[2 x4])" in done.stdout
    assert done.stdout.count("(Pdb) ") == 3
    assert done.returncode == 1


def test_a_panic_during_a_command_is_a_crash(prepared: Prepared) -> None:
    if prepared.target.arch is not Arch.ARM64:
        pytest.skip("the verb's own test is about x86-64")
    own = Source.of(prepared).make()
    try:
        with pytest.raises(GuestCrashError, match="sysrq triggered crash"):
            own.machine.ssh(deadline()).run(["sh", "-c", "echo c > /proc/sysrq-trigger"], deadline=deadline())
    finally:
        own.close()
