"""How fast a whole address space is read, side by side on one stopped machine.

    python benchmarks/scan.py [--arch x86_64] [--kernel debian:6.12] [--megabytes 1 64 1024 4096] [--quick]

For each size a subject maps that much of the zero page by base pages. Compared are a plain copy of the same tables, our
scan (entries and addresses; then also physical addresses and effective rights), QEMU's own ``info tlb`` (x86-64), one
walk per address, and drgn's walk of each address in a dump of the same machine, where HOSTWALK_DRGN names a Python that
has drgn and HOSTWALK_VMLINUX the kernel's debug information. Each is the best of several runs; the last column is how
many times as fast as each the full scan is, by leaves a second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from drgn_side import Drgn

from hostwalk.cache import Cache
from hostwalk.cells import Cell, boot, prepare
from hostwalk.guest import Subject
from hostwalk.kernels import SILENT
from hostwalk.memory import hmp
from hostwalk.options import CheckOptions
from hostwalk.paging import AddressSpace, Leaves, scan, spaces, walk
from hostwalk.target import Arch, Target

# The monitor's answer is one line of JSON, and the client takes lines of a few megabytes at most.
TLB_LEAVES = 1 << 15
RUNS, SPIN_MS, TRIES, WALKS, DRGN_WALKS = 20, 5_000, 200, 2000, 20_000
PIECE_MIB = 128
FULL_SCAN = "scan, with phys and rights"


def best(work: Callable[[], object], runs: int = RUNS) -> float:
    """Return the seconds of the fastest run."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


@contextmanager
def held_on_cpu(cell: Cell, subject: Subject) -> Iterator[AddressSpace]:
    """Hold the machine while the subject's root is the processor's; yield the subject's space."""
    with subject.spin(SPIN_MS):
        for _ in range(TRIES):
            with cell.machine.stopped():
                space = cell.linux.anew().task(subject.pid).mm.space
                if spaces(cell.machine.registers()).user.root == space.root:
                    yield space
                    return
        raise SystemExit("the subject was not caught on a processor")


def everything(cell: Cell, space: AddressSpace) -> Leaves:
    """Scan, and work the derived columns out."""
    leaves = scan(cell.memory, space)
    _ = leaves.phys_addr, leaves.rights
    return leaves


def tables_of(leaves: Leaves, page_size: int) -> np.ndarray:
    """Return the addresses of the tables that hold the leaves."""
    return np.unique(leaves.entry_phys & np.uint64(-page_size % (1 << 64)))


def measure(cell: Cell, space: AddressSpace) -> dict[str, tuple[float, int]]:
    """Return (seconds, leaves) of each way."""
    leaves = everything(cell, space)
    size = space.format.page_size
    tables = tables_of(leaves, size)
    some = leaves.virt_addr[:: max(1, len(leaves) // WALKS)].tolist()
    found = {
        "copy of the tables, gathered": (best(lambda: cell.memory.gather(tables, size)), len(leaves)),
        "copy of the tables, one by one": (
            best(lambda: [cell.memory.read(int(t), size) for t in tables]),
            len(leaves),
        ),
        "scan": (best(lambda: scan(cell.memory, space)), len(leaves)),
        FULL_SCAN: (best(lambda: everything(cell, space)), len(leaves)),
        "walk of each address": (best(lambda: [walk(cell.memory, space, at) for at in some], 1), len(some)),
    }
    if cell.target.arch is Arch.X86_64 and len(leaves) <= TLB_LEAVES:
        text: list[str] = []
        seconds = best(lambda: text.append(hmp(cell.machine.qmp, "info tlb")), 1)
        found["QEMU info tlb (both halves)"] = seconds, text[0].count("\n")
    return found


def with_drgn(cell: Cell, pid: int, leaves: Leaves) -> dict[str, tuple[float, int]]:
    """Return drgn's (seconds, leaves), where it is at hand and knows the kernel; its own clock counts."""
    drgn = Drgn.find()
    if drgn is None or not drgn.fits(cell.prepared.kernel.release):
        return {}
    addresses = leaves.virt_addr[:: max(1, len(leaves) // DRGN_WALKS)].tolist()
    with tempfile.TemporaryDirectory(prefix="hostwalk-") as directory:
        said = drgn.walk(cell, pid, addresses, Path(directory))
    phys = leaves.phys_addr[:: max(1, len(leaves) // DRGN_WALKS)].tolist()
    if said["phys"] != phys:
        raise SystemExit("drgn finds other pages")
    return {f"drgn {said['version']} follow_phys": (said["seconds"], len(addresses))}


def report(megabytes: int, leaves: Leaves, found: dict[str, tuple[float, int]]) -> None:
    """Print one size's lines."""
    print(f"\n{megabytes} MiB mapped: {len(leaves)} leaves in {leaves.tables} tables")
    seconds, count = found[FULL_SCAN]
    ours = count / seconds
    for name, (seconds, count) in found.items():
        rate = count / seconds
        print(
            f"  {name:<32} {seconds * 1e3:10.3f} ms {count:>9} {rate / 1e6:10.3f} M/s {ours / rate:10.2f} x"
        )


def populate(subject: Subject, megabytes: int) -> None:
    """Map the zero page over and over, in pieces that each take little time."""
    area = subject.mmap(pages=(megabytes << 20) // subject.page_size, prot="r")
    piece = (PIECE_MIB << 20) // subject.page_size
    for first in range(0, area.pages, piece):
        subject.madvise(area[first : first + piece], "POPULATE_READ")


def run(arch: Arch, kernel: str, sizes: list[int], *, quick: bool) -> None:
    """Boot a machine and measure each size; drgn, which takes seconds to start, where quick only once."""
    prepared = prepare(Target(arch, kernel), CheckOptions(), SILENT, Cache.user())
    cell = boot(prepared)
    try:
        print(cell.identity)
        for megabytes in sizes:
            with cell.agent.spawn() as subject:
                populate(subject, megabytes)
                with held_on_cpu(cell, subject) as space:
                    leaves, found = scan(cell.memory, space), measure(cell, space)
                    if not quick or megabytes == sizes[-1]:
                        found |= with_drgn(cell, subject.pid, leaves)
                    report(megabytes, leaves, found)
    finally:
        cell.close()


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", type=Arch.parse, default=Arch.X86_64)
    parser.add_argument("--kernel", default="debian:6.12")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 64, 1024, 4096])
    parser.add_argument(
        "--quick", action="store_true", help="under 50 seconds: 1, 64 and 1024 MiB, drgn once"
    )
    options = parser.parse_args()
    sizes = options.megabytes[:3] if options.quick else options.megabytes
    run(options.arch, options.kernel, sizes, quick=options.quick)


if __name__ == "__main__":
    main()
