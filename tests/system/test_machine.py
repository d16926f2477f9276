"""Machines alive: what they show, how they fail, and that nothing of them stays."""

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from hostwalk.cells import Cell, boot
from hostwalk.deadline import Deadline
from hostwalk.errors import (
    GuestCrashError,
    GuestHungError,
    HostwalkError,
    LaunchError,
    MachineDiedError,
    MachineError,
    Phase,
)
from hostwalk.machine import Machine, QmpCommandError, launch
from hostwalk.machine.gdbstub import ANSWER_SECONDS
from hostwalk.machine.probe import probe
from hostwalk.machine.qemu import find_qemu
from hostwalk.target import Arch, Target

SPIN_FOREVER = bytes.fromhex("00000014").ljust(0x38, b"\0") + b"ARM\x64" + bytes(0x100)


@pytest.fixture
def own(cell: Cell) -> Iterator[Cell]:
    """A cell of the test's own, to be broken."""
    mine = boot(cell.prepared, seconds=60)
    mine.agent.seconds = 3.0
    yield mine
    mine.close()


def start(cell: Cell, **options: object) -> AbstractContextManager[Machine]:
    """Launch a machine of the cell's target; it boots while the test looks elsewhere."""
    prepared = cell.prepared
    deadline = Deadline.after(20)
    return launch(prepared.target, prepared.kernel, prepared.image, deadline=deadline, **options)  # type: ignore[arg-type]


def ioctl(cell: Cell, name: str) -> None:
    with cell.agent.spawn() as subject:
        subject.syscall("ioctl", subject.exerciser, cell.agent.abi[f"HOSTWALK_IOC_{name}"], 0)


def ended(pid: int, seconds: float = 5.0) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def await_hello(machine: Machine, seconds: float) -> None:
    """Wait as the agent's client does, for an agent that never comes."""
    deadline = Deadline.after(seconds)
    while not deadline.expired:
        select.select([machine.console], [], [], min(0.05, deadline.remaining))
        machine.watch()
    raise machine.explain(GuestHungError("no hello"))


def running(machine: Machine) -> bool:
    return bool(machine.qmp.execute("query-status")["running"])


def test_registers_show_where_the_page_tables_are(machine: Machine, target: Target) -> None:
    registers = machine.registers()
    names = {Arch.X86_64: ("cr0", "cr3", "cr4", "efer"), Arch.ARM64: ("ttbr1_el1", "tcr_el1", "mair_el1")}
    assert all(registers[name] for name in names[target.arch])
    assert registers.pc


def test_stopping_nests_and_restores(machine: Machine) -> None:
    with machine.stopped():
        with machine.stopped():
            machine.registers()
        assert not running(machine)
    assert running(machine)


def test_a_machine_that_was_stopped_stays_stopped(machine: Machine) -> None:
    machine.qmp.execute("stop")
    try:
        machine.registers()
        with machine.stopped():
            pass
        assert not running(machine)
    finally:
        machine.qmp.execute("cont")
    assert running(machine)


def test_many_stops_do_not_choke_the_gdbstub(machine: Machine) -> None:
    machine.registers()
    deadline = Deadline.after(30)
    for _ in range(600):
        with machine.stopped():
            assert not deadline.expired
    begin = time.monotonic()
    machine.registers()
    assert time.monotonic() - begin < ANSWER_SECONDS


def test_the_ram_of_a_booted_machine_is_shared(own: Cell) -> None:
    machine = own.machine
    with own.agent.spawn() as subject:
        area = subject.mmap()
        subject.poke(area.start, b"hostwalk was here")
        with mmap.mmap(machine.ram_fd, machine.ram_size, access=mmap.ACCESS_READ) as ram:
            assert ram.find(b"hostwalk was here") >= 0


def test_qemu_has_no_file_of_the_host_open(own: Cell) -> None:
    machine = own.machine
    links = [str(path.readlink()) for path in Path(f"/proc/{machine.pid}/fd").iterdir()]
    kept = [
        link for link in links if link.startswith("/") and not link.startswith(("/dev/", "/memfd:", "/proc/"))
    ]
    allowed = {str(machine.kernel.boot), str(machine.image.initramfs)}
    assert not [link for link in kept if link not in allowed and not link.endswith("/kernel")]


def test_a_refused_command_names_itself_and_breaks_nothing(machine: Machine) -> None:
    with pytest.raises(QmpCommandError, match="no-such-command"):
        machine.qmp.execute("no-such-command")
    machine.check()


def test_watching_is_cheap(machine: Machine) -> None:
    begin = time.monotonic()
    for _ in range(200):
        machine.watch()
    assert (time.monotonic() - begin) / 200 < 0.001


def test_a_warning_is_kept_and_an_oops_breaks_the_machine(own: Cell) -> None:
    ioctl(own, "WARN")
    own.machine.check()
    assert [(report.kind, report.fatal) for report in own.machine.reports] == [("warning", False)]
    with pytest.raises(GuestCrashError, match="NULL pointer dereference") as caught:
        ioctl(own, "OOPS")
    assert caught.value.phase is Phase.OPERATION
    assert "hostwalk_ioctl" in caught.value.evidence.report
    assert "qemu-system" in caught.value.evidence.command
    with pytest.raises(MachineError, match=r"not used any more, since: .*NULL pointer"):
        own.machine.check()
    assert own.machine.registers().pc


def test_a_panic_stops_the_machine_with_its_memory(own: Cell) -> None:
    own.agent.crash("panic")
    with pytest.raises(GuestCrashError, match="Kernel panic - not syncing: sysrq triggered crash") as caught:
        own.agent.spawn()
    assert "Kernel Offset" in caught.value.evidence.report
    deadline = Deadline.after(5)
    while running(own.machine):
        assert not deadline.expired
    assert own.machine.registers().pc


def test_a_guest_that_spins_with_interrupts_off_is_hung(own: Cell) -> None:
    begin = time.monotonic()
    with pytest.raises(GuestHungError) as caught:
        ioctl(own, "SPIN")
    error = own.machine.explain(caught.value)
    assert "the machine is running, at " in error.message
    assert "with interrupts off" in error.message
    assert time.monotonic() - begin < own.agent.seconds + 10


def test_a_panic_at_boot_is_found_in_the_boot_phase(cell: Cell) -> None:
    with start(cell, cmdline_extra="rdinit=/none root=/dev/none") as machine:
        with pytest.raises(GuestCrashError, match="Kernel panic - not syncing: VFS") as caught:
            await_hello(machine, 60)
        assert caught.value.phase is Phase.BOOT


def test_a_killed_qemu_is_told_at_once(cell: Cell) -> None:
    with start(cell) as machine:
        os.kill(machine.pid, signal.SIGKILL)
        begin = time.monotonic()
        with pytest.raises(MachineDiedError, match="was killed by SIGKILL"):
            await_hello(machine, 20)
        assert time.monotonic() - begin < 5


def test_a_guest_that_prints_nothing_is_hung(cell: Cell, tmp_path: Path) -> None:
    if cell.target.arch is not Arch.ARM64:
        pytest.skip("the silent kernel is an arm64 Image")
    image = tmp_path / "Image"
    image.write_bytes(SPIN_FOREVER)
    kernel = replace(cell.prepared.kernel, boot=image, identity="silent")
    target, initramfs = cell.prepared.target, cell.prepared.image
    with launch(target, kernel, initramfs, deadline=Deadline.after(20)) as machine:
        with pytest.raises(GuestHungError, match="no hello; the guest printed nothing; ") as caught:
            await_hello(machine, 0.5)
        assert caught.value.phase is Phase.BOOT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extra": ("-no-such-option",)}, "invalid option"),
        ({"extra": ("-device", "no-such-device")}, "no-such-device"),
    ],
)
def test_what_qemu_refuses_is_a_launch_error(cell: Cell, options: dict[str, object], words: str) -> None:
    with (
        pytest.raises(LaunchError, match="QEMU did not start: it ended with status 1") as caught,
        start(cell, **options),
    ):
        pass
    assert words in caught.value.message
    assert words in caught.value.evidence.stderr


def test_a_missing_kernel_is_a_launch_error(cell: Cell, tmp_path: Path) -> None:
    image = replace(cell.prepared.image, initramfs=tmp_path / "none")
    with pytest.raises(HostwalkError) as caught:
        launch(cell.target, cell.prepared.kernel, image, deadline=Deadline.after(20)).__enter__()
    assert isinstance(caught.value, LaunchError)
    assert str(tmp_path / "none") in caught.value.evidence.command


def test_another_architectures_kernel_is_refused(cell: Cell) -> None:
    other = Target(next(arch for arch in Arch if arch is not cell.target.arch))
    manager = launch(other, cell.prepared.kernel, cell.prepared.image, deadline=Deadline.after(20))
    with pytest.raises(LaunchError, match="is a kernel for"), manager:
        pass


def test_the_end_of_the_block_ends_qemu(cell: Cell) -> None:
    before = descriptors()
    with start(cell) as machine:
        pid = machine.pid
    assert ended(pid, 0)
    with pytest.raises(ZeroDivisionError), start(cell) as machine:
        divmod(machine.pid, 0)
    assert ended(machine.pid, 0)
    assert descriptors() <= before


def descriptors() -> int:
    """Return how many files this process has open, once nothing opens or closes any in the background."""
    deadline, counts = Deadline.after(20), [-1]
    while len(set(counts[-4:])) > 1 or len(counts) < 5:
        assert not deadline.expired, f"the number of open files does not settle: {counts}"
        counts.append(len(list(Path("/proc/self/fd").iterdir())))
        threading.Event().wait(0.25)
    return counts[-1]


HOLDER = """
    import json, sys, threading
    from pathlib import Path
    from types import SimpleNamespace
    from hostwalk.cache import Cache
    from hostwalk.deadline import Deadline
    from hostwalk.machine import launch
    from hostwalk.target import Arch, Target

    given = json.loads(sys.argv[1])
    arch = Arch(given["arch"])
    kernel = SimpleNamespace(arch=arch, boot=Path(given["boot"]), identity=given["identity"], cache=Cache.user())
    image = SimpleNamespace(initramfs=Path(given["initramfs"]), cmdline="", login=False)

    def hold():
        with launch(Target(arch), kernel, image, deadline=Deadline.after(20)) as machine:
            print(machine.pid, flush=True)
            sys.stdin.read()

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
"""


def test_sigkill_of_hostwalk_leaves_no_qemu_and_no_file(cell: Cell, tmp_path: Path) -> None:
    kernel, image = cell.prepared.kernel, cell.prepared.image
    given = {
        "arch": cell.target.arch, "boot": str(kernel.boot), "identity": kernel.identity,
        "initramfs": str(image.initramfs),
    }  # fmt: skip
    argv = [sys.executable, "-c", textwrap.dedent(HOLDER), json.dumps(given)]
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    shared = set(Path("/dev/shm").iterdir())
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=tmp_path
    ) as holder:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        assert not ended(pid, 0.2)
        holder.kill()
        assert ended(pid)
    assert not list(tmp_path.iterdir())
    assert set(Path("/dev/shm").iterdir()) <= shared


def test_the_probe_boots_where_a_machine_does(target: Target) -> None:
    qemu = find_qemu(target.arch)
    assert probe(target.arch, qemu, "tcg", target.cpu.model, Deadline.after(20)) == ""
    assert "ended with status 1" in probe(target.arch, qemu, "tcg", "no-such-cpu", Deadline.after(20))
