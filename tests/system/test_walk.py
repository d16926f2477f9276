"""``hostwalk walk`` against QEMUs that were started by hand: a stock kernel, KASLR on, nothing of ours in it."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostwalk import process
from hostwalk.cache import Cache
from hostwalk.cell import prepare
from hostwalk.cli.main import main
from hostwalk.deadline import Deadline
from hostwalk.errors import BuildError, HostwalkError
from hostwalk.image import cpio
from hostwalk.kernels import SILENT
from hostwalk.machine import Qmp
from hostwalk.machine.qemu import find_qemu
from hostwalk.options import CheckOptions
from hostwalk.target import Arch
from hostwalk.walking import foreign

BOARDS = {Arch.X86_64: ("-M", "q35"), Arch.ARM64: ("-M", "virt")}
CONSOLES = {Arch.X86_64: "ttyS0", Arch.ARM64: "ttyAMA0"}
INIT = """
static char page[65536] __attribute__((aligned(65536))) = "walk me";
void _start(void) { for (;;) (*(volatile char *)page)++; }
"""
BOOT_SECONDS, SETTLE_SECONDS = 240, 0.2


@dataclass(frozen=True)
class ByHand:
    """A QEMU that runs; ``qmp`` is the socket for hostwalk, ``own`` the test's second one."""

    arch: Arch
    kernel: str
    qmp: str
    gdb: str
    own: Qmp

    def status(self):
        return self.own.execute("query-status")["status"]


def build_init(arch, directory):
    source, program = directory / "init.c", directory / "init"
    source.write_text(INIT)
    flags = ("-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-o", program, source)
    process.run([f"{arch.gnu}-gcc", *flags], deadline=Deadline.after(60), error=BuildError, what="init")
    archive = directory / "initramfs.cpio"
    device = cpio.character_device("dev/console", 5, 1)
    nodes = [cpio.directory("dev"), device, cpio.file("init", program.read_bytes(), 0o755)]
    archive.write_bytes(cpio.write(nodes))
    return archive


def connected(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return Qmp.connect(sock, Deadline.after(10))


def wait_for(deadline, what, found):
    while not (answer := found()):
        if deadline.expired:
            pytest.fail(f"no {what}")
        process.run(["sleep", "0.1"], deadline=Deadline.after(5), error=HostwalkError, what="a moment")
    return answer


@contextmanager
def started(prepared, directory: Path) -> Iterator[ByHand]:
    """Start a QEMU as one would by hand, and wait until its init runs."""
    arch, target = prepared.target.arch, prepared.target
    ours, theirs, gdb, log = (directory / name for name in ("own", "qmp", "gdb", "console"))
    words = [
        find_qemu(arch).path, *BOARDS[arch], "-cpu", target.cpu.model, "-m", "192", "-nodefaults", "-display", "none",
        "-kernel", prepared.kernel.boot, "-initrd", build_init(arch, directory),
        "-append", f"console={CONSOLES[arch]}", "-serial", f"file:{log}",
        "-qmp", f"unix:{ours},server=on,wait=off", "-qmp", f"unix:{theirs},server=on,wait=off",
    ]  # fmt: skip
    qemu = process.spawn(words, stdout=None, stderr=None)
    try:
        deadline = Deadline.after(BOOT_SECONDS)
        wait_for(deadline, "QMP socket", ours.exists)
        own = connected(ours)
        wait_for(deadline, "init", lambda: "as init process" in log.read_text(errors="replace"))
        yield ByHand(arch, target.kernel, str(theirs), str(gdb), own)
        own.close(Deadline.after(5))
    finally:
        process.kill(qemu)


@pytest.fixture(scope="module")
def by_hand(target, tmp_path_factory):
    prepared = prepare(target, CheckOptions(), SILENT, Cache.user())
    with started(prepared, tmp_path_factory.mktemp("by-hand")) as qemu:
        yield qemu


@pytest.fixture(params=["running", "paused"])
def status(request, by_hand):
    if request.param == "paused":
        by_hand.own.execute("stop")
    yield request.param
    by_hand.own.execute("cont")


def walked(capsys, by_hand, *words, status=0):
    assert main(["walk", "--qmp", by_hand.qmp, *words]) == status
    return capsys.readouterr()


def test_tables_of_the_processor(by_hand, status, capsys):
    said = walked(capsys, by_hand, "-v")
    assert "process_vm_readv" in said.err
    assert re.search(r"^processor 0, kernel half: .*root 0x[0-9a-f]+.* \d+ pages", said.out, re.MULTILINE)
    assert by_hand.status() == status


def test_init_is_found_by_name_wherever_the_kernel_is(by_hand, status, capsys):
    answer = json.loads(
        walked(capsys, by_hand, "--kernel", by_hand.kernel, "--task", "init", "--writable", "--json").out
    )
    (space,) = answer["spaces"]
    assert space["title"] == "init (pid 1)"
    assert any("dirty" in run["linux"] for run in space["runs"])
    assert by_hand.status() == status


def test_the_page_that_init_writes_is_found_from_its_address(by_hand, status, capsys):
    words = ("--kernel", by_hand.kernel)
    answer = json.loads(walked(capsys, by_hand, *words, "--task", "1", "--dirty", "--json", "--leaves").out)
    leaf = answer["spaces"][0]["runs"][0]
    said = walked(capsys, by_hand, *words, "--find", leaf["phys_addr"], "--all-tasks").out
    assert re.search(r"refcount \d+ mapcount 1", said)
    assert re.search(rf"{int(leaf['virt_addr'], 16):#018x} init \(pid 1\), pte", said)
    assert "kernel, " in said, "the direct map maps it as well"
    assert by_hand.status() == status


def test_symbols_are_addresses(by_hand, status, capsys):
    said = walked(capsys, by_hand, "--kernel", by_hand.kernel, "init_task").out
    assert "init_task+0x0" in said
    assert "  = 0x" in said
    address = said.split()[0]
    answer = by_hand.own.hmp(f"gva2gpa {address}")
    translated = re.search("0x[0-9a-f]+", answer)
    assert (translated is None and "Unmapped" in answer) or f"  = {translated[0]}," in said
    assert by_hand.status() == status


def test_what_a_moment_changes(by_hand, status, capsys):
    said = walked(capsys, by_hand, "--diff", str(SETTLE_SECONDS)).out
    assert "kernel half" in said
    assert by_hand.status() == status


def test_a_tree(by_hand, status, capsys):
    said = walked(capsys, by_hand, "--tree", "--half", "kernel").out
    assert re.search(r"^  0x[0-9a-f]+ pgd ", said, re.MULTILINE)
    assert by_hand.status() == status


def test_a_task_that_is_not_there(by_hand, status, capsys):
    said = walked(capsys, by_hand, "--kernel", by_hand.kernel, "--task", "nobody", status=3)
    assert "no task named 'nobody'" in said.err
    assert "init (1)" in said.err
    assert by_hand.status() == status


def test_a_socket_in_use(by_hand, capsys, monkeypatch):
    monkeypatch.setattr(foreign, "CONNECT_SECONDS", 0.5)
    first = connected(by_hand.qmp)
    said = walked(capsys, by_hand, status=2)
    assert "in use" in said.err
    first.close(Deadline.after(5))


def test_a_gdbstub_of_its_own_stays(by_hand, status, capsys):
    if by_hand.arch is not Arch.ARM64:
        pytest.skip("x86-64 shows its registers without gdb")
    by_hand.own.hmp(f"gdbserver unix:{by_hand.gdb},server=on,wait=off")
    assert "--gdb" in walked(capsys, by_hand, status=2).err
    assert "processor 0" in walked(capsys, by_hand, "--gdb", by_hand.gdb).out
    assert by_hand.status() == status
    assert "processor 0" in walked(capsys, by_hand, "--gdb", by_hand.gdb).out, "it serves again and again"
    by_hand.own.hmp("gdbserver none")
