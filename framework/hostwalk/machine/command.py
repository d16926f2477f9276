"""The command line of QEMU: each function turns a part of the target into words, and does nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hostwalk.machine.qemu import Qemu
from hostwalk.target import Arch, Target

AGENT_PORT = "hostwalk.agent"
SSH_PORT = "hostwalk.ssh"
SSH = "ssh"
RAM = "ram"
GDB = "gdb"
CONSOLES = {Arch.X86_64: "ttyS0", Arch.ARM64: "ttyAMA0"}
EARLY_CONSOLES = {Arch.X86_64: "uart8250,io,0x3f8", Arch.ARM64: "pl011,0x9000000"}
BASE_TIME = "2024-01-01T00:00:00"

# Self-tests, certificates, a random source of its own and BPF's type information: over a third of the time
# that a distribution's kernel needs to boot under TCG, and nothing that memory management knows of.
_SKIPPED_INITCALLS = (
    "jent_mod_init",
    "load_system_certificate_list",
    "crypto_algapi_init",
    "bpf_dummy_struct_ops_init",
    "bpf_prog_test_run_init",
    "bpf_tcp_ca_kfunc_init",
)
_HASTE = ("cryptomgr.notests", f"initcall_blacklist={','.join(_SKIPPED_INITCALLS)}")
# The checks of timers fail on a loaded host; lock prefixes stay, for patching code is slow under TCG.
_X86_64_HASTE = ("no_timer_check", "tsc=reliable", "noreplace-smp")
TRANSLATED_MIB = 96
_BOARD_OPTIONS = {
    Arch.X86_64: "hpet=off,vmport=off,sata=off,smbus=off,i8042=off,smm=off",
    Arch.ARM64: "gic-version=3,its=off",
}


@dataclass(frozen=True)
class Wiring:
    """File descriptors that QEMU inherits: one end of each socket pair, and the file of the RAM.

    ``state`` is that of a frozen machine's devices, -1 for a machine that boots; ``log`` that of an execution which
    is recorded or replayed, -1 for none.
    """

    qmp: int
    agent: int
    gdb: int
    ram: int
    state: int = -1
    log: int = -1

    @property
    def wires(self) -> tuple[int, ...]:
        """The ends of socket pairs."""
        return (self.qmp, self.agent, self.gdb)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        more = tuple(each for each in (self.state, self.log) if each >= 0)
        return (*self.wires, self.ram, *more)


@dataclass(frozen=True)
class Payload:
    """What QEMU loads: a kernel, an initramfs and the kernel's command line; ``login``: a user land with a door."""

    boot: Path
    initramfs: Path
    cmdline: str
    login: bool = False


def base_args() -> tuple[str, ...]:
    """Return what keeps defaults out; a guest that ends leaves a machine that is stopped, not gone."""
    return (
        "-nodefaults", "-no-user-config", "-display", "none",
        "-action", "reboot=shutdown,shutdown=pause,panic=pause",
        "-name", "hostwalk",
    )  # fmt: skip


def machine_args(target: Target, machine: str, accel: str) -> tuple[str, ...]:
    """Return the board, its accelerator and its clock; ``machine`` is its name with its version.

    TCG runs all processors in turn on one thread: with a thread each, two that wait for one another keep a host of
    two cores busy, and what they do takes five times as long. Code that it has translated is kept while claims come
    and go, hence the limit. The saved state carries devices alone: no description of the machine before them or after.
    """
    return (
        "-machine", f"{machine},memory-backend={RAM},suppress-vmdesc=on,{_BOARD_OPTIONS[target.arch]}",
        "-global", "migration.send-configuration=off",
        "-accel", f"{accel},thread=single,tb-size={TRANSLATED_MIB}" if accel == "tcg" else accel,
        "-rtc", f"base={BASE_TIME},clock=vm",
    )  # fmt: skip


def cpu_model(target: Target, accel: str) -> str:
    """Return the processor; KVM offers the host's own on arm64, and must have what is asked of x86-64."""
    if accel != "kvm":
        return target.cpu.model
    return "host" if target.arch is Arch.ARM64 else f"{target.cpu.model},enforce"


def cpu_args(target: Target, accel: str) -> tuple[str, ...]:
    """Return the processors."""
    return ("-cpu", cpu_model(target, accel), "-smp", str(target.cpus))


def memory_args(target: Target, ram: int, *, share: bool = True) -> tuple[str, ...]:
    """Return the RAM: a file whose pages host and guest share, or of which the guest has a copy-on-write view."""
    file = f"size={target.memory}M,mem-path=/proc/self/fd/{ram},share={'on' if share else 'off'}"
    return ("-m", f"{target.memory}M", "-object", f"memory-backend-file,id={RAM},{file}")


def channel_args(wiring: Wiring) -> tuple[str, ...]:
    """Return QMP, the serial console (standard input and output), the agent's port and a line for gdb to come."""
    return (
        "-chardev", f"socket,id=qmp,fd={wiring.qmp}",
        "-mon", "chardev=qmp,mode=control",
        "-chardev", "stdio,id=console,signal=off",
        "-serial", "chardev:console",
        "-chardev", f"socket,id={GDB},fd={wiring.gdb}",
        "-device", "virtio-serial-pci,max_ports=2",
        "-chardev", f"socket,id=agent,fd={wiring.agent}",
        "-device", f"virtserialport,chardev=agent,name={AGENT_PORT}",
    )  # fmt: skip


def exact_args(log: int, *, replay: bool) -> tuple[str, ...]:
    """Return what has an execution recorded in a log, or replayed from it, instruction by instruction.

    The clock counts instructions, each as 64 ns: loops that wait for time to pass are short then, in instructions,
    of which each pause is in the log. QEMU logs the input of serial lines alone (qemu_chr_new, chardev/char.c), so
    the agent's port is given to it as the fifth, one more than a board has. A replay waits to be told to go on.
    """
    file = f"rr={'replay' if replay else 'record'},rrfile=/proc/self/fd/{log}"
    unused = ("-serial", "none") * 3
    return (
        "-icount", f"shift=6,{file}",
        *unused, "-serial", "chardev:agent",
        "-global", "virtio-serial-pci.ioeventfd=off",
        *(("-S",) if replay else ()),
    )  # fmt: skip


def login_args() -> tuple[str, ...]:
    """Return the port for SSH; whoever connects puts a socket in the place of nothing (see ssh.py)."""
    return (
        "-chardev", f"null,id={SSH}",
        "-device", "virtio-serial-pci,id=login,max_ports=2",
        "-device", f"virtserialport,bus=login.0,chardev={SSH},name={SSH_PORT}",
    )  # fmt: skip


def kernel_args(payload: Payload) -> tuple[str, ...]:
    """Return the kernel, booted directly."""
    return (
        "-kernel", str(payload.boot),
        "-initrd", str(payload.initramfs),
        "-append", payload.cmdline,
    )  # fmt: skip


MOVABLE = "movablecore=32M"
"""Memory that nothing may stay in for long, which long-term pins have to leave; user pages come from it first."""


def kernel_cmdline(target: Target, extra: str = "") -> str:
    """Return the kernel's command line.

    A panic resets the machine, which stops it with its memory intact (see base_args). Warnings and worse
    reach the console, from early on.
    """
    words = (
        f"earlycon={EARLY_CONSOLES[target.arch]}",
        f"console={CONSOLES[target.arch]}",
        "loglevel=5",
        "panic=-1",
        MOVABLE,
        "" if target.kaslr else "nokaslr",
        *_HASTE,
        *(_X86_64_HASTE if target.arch is Arch.X86_64 else ()),
        extra,
    )
    return " ".join(word for word in words if word)


def board_args(target: Target, qemu: Qemu, accel: str) -> tuple[str, ...]:
    """Return the machine without its memory, its wires and what it boots; the program first."""
    return (
        str(qemu.path),
        *base_args(),
        *machine_args(target, qemu.machine, accel),
        *cpu_args(target, accel),
    )


def qemu_args(target: Target, qemu: Qemu, accel: str, payload: Payload, wiring: Wiring) -> tuple[str, ...]:
    """Return the whole command line of a machine that boots."""
    return (
        *board_args(target, qemu, accel),
        *memory_args(target, wiring.ram),
        *channel_args(wiring),
        *(login_args() if payload.login else ()),
        *kernel_args(payload),
    )


def fork_args(
    target: Target, qemu: Qemu, accel: str, wiring: Wiring, *, login: bool = False
) -> tuple[str, ...]:
    """Return the command line of a machine that goes on where a frozen one stopped: it loads no kernel.

    It has to be told to go on, for an event while QMP negotiates would be one too early.
    """
    return (
        *board_args(target, qemu, accel),
        *memory_args(target, wiring.ram, share=False),
        *channel_args(wiring),
        *(login_args() if login else ()),
        "-S", "-incoming", f"fd:{wiring.state}",
    )  # fmt: skip
