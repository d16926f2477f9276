"""A guest is made ready for one test: its files, commands that the guest has not, the kernel's modules and settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from hostwalk import drivers
from hostwalk.cell import Cell
from hostwalk.deadline import Deadline
from hostwalk.errors import LoginError
from hostwalk.kernels import Kernel, modules
from hostwalk.suites.expected import Needs
from hostwalk.suites.plan import Step
from hostwalk.suites.suite import PLACE, Suite

SETUP_SECONDS = 60.0
_CONFIG = "mkdir -p /boot && cat >/boot/config-$(uname -r) && chmod a+rx /root"
_UNBOUNDED = (
    "group=/sys/fs/cgroup$(cut -d: -f3- /proc/self/cgroup | tail -n 1); "
    'if [ -e "$group/memory.max" ]; then echo 0 >"$group/memory.oom.group"; echo max >"$group/memory.max"; fi; '
    'exec "$@"'
)


def furnish(cell: Cell, suite: Suite, step: Step) -> None:
    """Make a guest ready for a step.

    Raises LoginError where it cannot be, ResolveError for a damaged module, ModuleRefusedError for one that the kernel
    does not load, CommandTimeoutError, and OSError for a file of the host's.
    """
    ssh, needs, kernel = cell.machine.ssh(), suite.known.needs_of(step), cell.prepared.kernel
    files = suite.files(step)
    places = shlex.join(sorted({remote.rpartition("/")[0] for _, remote in files}))
    load_modules(cell, needs)
    script = "\n".join(
        ["set -e", _CONFIG, f"mkdir -p {places}", commands_script(suite.known.commands), needs.setup]
    )
    _run(cell, script, config_text(kernel).encode())
    for local, remote in files:
        ssh.put(local, remote)
    carry_modules(cell, needs)


def _run(cell: Cell, script: str, stdin: bytes) -> None:
    done = cell.machine.ssh().run(["sh", "-c", script], deadline=Deadline.after(SETUP_SECONDS), stdin=stdin)
    if done.status:
        said = done.stderr.decode(errors="replace").strip() or f"its setup ended with status {done.status}"
        raise LoginError(f"the guest could not be made ready for it: {said}")


def load_modules(cell: Cell, needs: Needs) -> None:
    """Load what a test needs of the kernel's own modules, each after what it depends on, where the kernel has them."""
    directory = cell.prepared.kernel.modules
    if not needs.modules or directory is None:
        return
    there = modules.files(directory)
    wanted = dict(entry.partition(" ")[::2] for entry in needs.modules)
    depends = {name: modules.depends(modules.read(path), path) for name, path in there.items()}
    with cell.agent.spawn() as loader:
        for name in modules.load_order(wanted, depends):
            if name in there:
                data = modules.read(there[name])
                drivers.load(cell, loader, there[name], wanted.get(name, ""), unpacked=data)


def carry_modules(cell: Cell, needs: Needs) -> None:
    """Put the files of modules beside a test that loads them itself, decompressed, where the kernel has them."""
    directory = cell.prepared.kernel.modules
    there = modules.files(directory) if needs.carries and directory is not None else {}
    for name in needs.carries:
        if name in there:
            _run(cell, f"cat >{PLACE}/{name}.ko", modules.read(there[name]))


def commands_script(commands: Mapping[str, str]) -> str:
    """Return shell commands that make scripts of commands that the guest has not."""
    lines = [
        f"printf %s {shlex.quote(text)} >/usr/local/bin/{name} && chmod 755 /usr/local/bin/{name}"
        for name, text in commands.items()
    ]
    return "\n".join(lines)


def config_text(kernel: Kernel) -> str:
    """Return a kernel's configuration as tests look for it in /boot."""
    return "".join(f"{name}={_quoted(value)}\n" for name, value in kernel.config.items())


def _quoted(value: str) -> str:
    plain = value in ("y", "m") or value.removeprefix("-").removeprefix("0x").isalnum()
    return value if plain and (len(value) == 1 or value.lstrip("-")[0].isdigit()) else f'"{value}"'


def within(needs: Needs, command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command as it is to be run: without a bound on its memory where it needs all there is."""
    return ("sh", "-c", _UNBOUNDED, "sh", *command) if needs.unbounded else command
