"""How fast a whole address space is read, side by side on one stopped machine.

    python benchmarks/scan.py [--arch x86_64] [--kernel debian:6.12] [--megabytes 1 64 1024 4096]

For each size a subject maps that much of the zero page by base pages. Compared are a plain copy of the same tables, our
scan (entries and addresses; then also physical addresses and effective rights), QEMU's own ``info tlb`` (x86-64), and
one walk per address. Each is the best of several runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

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
RUNS, SPIN_MS, TRIES, WALKS = 20, 5_000, 200, 2000


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
        "scan, with phys and rights": (best(lambda: everything(cell, space)), len(leaves)),
        "walk of each address": (best(lambda: [walk(cell.memory, space, at) for at in some], 1), len(some)),
    }
    if cell.target.arch is Arch.X86_64 and len(leaves) <= TLB_LEAVES:
        text: list[str] = []
        seconds = best(lambda: text.append(hmp(cell.machine.qmp, "info tlb")), 1)
        found["QEMU info tlb (both halves)"] = seconds, text[0].count("\n")
    return found


def report(megabytes: int, leaves: Leaves, found: dict[str, tuple[float, int]]) -> None:
    """Print one size's lines."""
    print(f"\n{megabytes} MiB mapped: {len(leaves)} leaves in {leaves.tables} tables")
    for name, (seconds, count) in found.items():
        print(f"  {name:<32} {seconds * 1e3:10.3f} ms {count:>9} {count / seconds / 1e6:10.3f} M/s")


def run(arch: Arch, kernel: str, sizes: list[int]) -> None:
    """Boot a machine and measure each size."""
    prepared = prepare(Target(arch, kernel), CheckOptions(), SILENT, Cache.user())
    cell = boot(prepared)
    try:
        print(cell.identity)
        for megabytes in sizes:
            with cell.agent.spawn() as subject:
                subject.mmap(pages=(megabytes << 20) // subject.page_size, prot="r", populate=True)
                with held_on_cpu(cell, subject) as space:
                    report(megabytes, scan(cell.memory, space), measure(cell, space))
    finally:
        cell.close()


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", type=Arch.parse, default=Arch.X86_64)
    parser.add_argument("--kernel", default="debian:6.12")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 64, 1024, 4096])
    options = parser.parse_args()
    run(options.arch, options.kernel, options.megabytes)


if __name__ == "__main__":
    main()
