"""drgn beside us: a Python that has it, and a kernel's debug information, both named by the environment."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.errors import HostwalkError

SCRIPT = Path(__file__).with_name("drgn_walk.py")
SECONDS = 300


@dataclass(frozen=True)
class Drgn:
    """Where drgn and the debug information are: HOSTWALK_DRGN (a Python), HOSTWALK_VMLINUX."""

    python: str
    vmlinux: str

    @classmethod
    def find(cls):
        """Return it, or None where the environment names none."""
        python, vmlinux = os.environ.get("HOSTWALK_DRGN", ""), os.environ.get("HOSTWALK_VMLINUX", "")
        return cls(python, vmlinux) if python and vmlinux else None

    def fits(self, release):
        """Whether the debug information is of a kernel: of the file's name, for drgn itself checks the build."""
        return release in Path(self.vmlinux).name

    def walk(self, cell, pid, addresses, directory):
        """Dump the held machine and return what drgn says: version, seconds, and where each address leads."""
        core, info = directory / "core", directory / "vmcoreinfo"
        info.write_bytes(vmcoreinfo(cell.linux.anew()))
        arguments = {"paging": False, "protocol": f"file:{core}"}
        cell.machine.qmp.execute("dump-guest-memory", arguments, Deadline.after(SECONDS))
        words = [self.python, SCRIPT, core, info, self.vmlinux, str(pid)]
        lines = "".join(f"{address}\n" for address in addresses).encode()
        deadline = Deadline.after(SECONDS)
        done = process.run(words, input_bytes=lines, deadline=deadline, error=HostwalkError, what="drgn")
        core.unlink()
        return json.loads(done.stdout)


def vmcoreinfo(linux):
    """Return the note that a crash kernel would get: vmcoreinfo_data."""
    size = linux.uint(linux.symbols["vmcoreinfo_size"])
    return linux.read_virt(linux.uint(linux.symbols["vmcoreinfo_data"]), size)
