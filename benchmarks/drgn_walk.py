"""Run by a Python that has drgn: walk a process's pages in a dump, and say where each leads and how long it took.

    python drgn_walk.py CORE VMCOREINFO VMLINUX PID < addresses (decimal, one per line)

Prints a JSON object: version, seconds, and phys, where null means that drgn finds no page.
"""

import json
import sys
import time
from pathlib import Path

import drgn
from drgn.helpers.linux.mm import follow_phys
from drgn.helpers.linux.pid import find_task

CORE, VMCOREINFO, VMLINUX, PID = sys.argv[1:5]


def phys_of(mm: drgn.Object, address: int) -> int | None:
    """Return the physical address, or None where the walk ends early."""
    try:
        return follow_phys(mm, address).value_()
    except (drgn.FaultError, NotImplementedError):
        return None


def main() -> None:
    """Answer for the addresses on standard input."""
    program = drgn.Program(vmcoreinfo=Path(VMCOREINFO).read_bytes())
    program.set_core_dump(CORE)
    program.load_debug_info([VMLINUX])
    mm = find_task(program, int(PID)).mm
    addresses = [int(line) for line in sys.stdin]
    begin = time.perf_counter()
    phys = [phys_of(mm, address) for address in addresses]
    seconds = time.perf_counter() - begin
    json.dump({"version": drgn.__version__, "seconds": seconds, "phys": phys}, sys.stdout)


if __name__ == "__main__":
    main()
