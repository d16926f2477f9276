"""How long an audit of a whole address space takes, beside the scan that it begins with, on one stopped machine.

    python benchmarks/audit.py [--quick] [--arch x86_64] [--kernel debian:6.12] [--pages 1000 10000 100000]

For each size a subject maps that many anonymous pages of its own, none of them huge. An audit is: find all processes,
scan their tables, read their mappings and every page frame that they map, check every invariant. Processor times, the
best of several runs on an idle guest. Exit status 1 when an audit takes a second or more.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from hostwalk.audit import collect, judge
from hostwalk.cache import Cache
from hostwalk.cells import Cell, boot, prepare
from hostwalk.guest import Subject
from hostwalk.kernels import SILENT
from hostwalk.options import CheckOptions
from hostwalk.paging import scan
from hostwalk.target import Arch, Target

MEMORY = 1024
SLICE = 5000
LIMIT = 1.0
HEAD = "   pages       scan    collect      judge      audit   per page      pages/s  audit/scan"


def best(work: Callable[[], object], runs: int) -> float:
    """Return the processor seconds of the fastest run: what else the host does is none of the audit."""
    times = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def fill(subject: Subject, pages: int) -> None:
    """Map pages and touch them, some at a time: no operation is to take long."""
    area = subject.mmap(pages=pages)
    subject.madvise(area, "NOHUGEPAGE")
    for first in range(0, pages, SLICE):
        area[first : first + SLICE].touch()


def measure(cell: Cell, subject: Subject, runs: int) -> dict[str, float]:
    """Return the seconds of each part; the scan is of the subject's space alone, with its physical addresses."""
    with cell.machine.stopped():
        space = cell.moment().mm(subject.pid).space
        found = judge(collect(cell.moment()))
        if not found:
            raise SystemExit(str(found))
        return {
            "scan": best(lambda: scan(cell.memory, space, non_present=True).pfn, runs),
            "collect": best(lambda: collect(cell.moment()), runs),
            "audit": best(lambda: judge(collect(cell.moment())), runs),
        }


def row(pages: int, seconds: dict[str, float]) -> str:
    """Return a line of the table."""
    audit = seconds["audit"]
    parts = [seconds["scan"], seconds["collect"], audit - seconds["collect"], audit]
    times = " ".join(f"{part * 1e3:7.2f} ms" for part in parts)
    return f"{pages:>8} {times} {audit / pages * 1e6:7.2f} us {pages / audit:>12,.0f} {audit / seconds['scan']:>10.1f}x"


def run(arch: Arch, kernel: str, sizes: list[int], runs: int) -> float:
    """Boot a machine and measure each size; return the slowest audit's seconds."""
    cell = boot(
        prepare(Target(arch, kernel, memory=MEMORY), CheckOptions(memory=MEMORY), SILENT, Cache.user())
    )
    slowest = 0.0
    try:
        print(f"{cell.identity}\n{HEAD}")
        for pages in sizes:
            with cell.agent.spawn() as subject:
                fill(subject, pages)
                cell.settle()
                seconds = measure(cell, subject, runs)
                slowest = max(slowest, seconds["audit"])
                print(row(pages, seconds))
    finally:
        cell.close()
    return slowest


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", type=Arch.parse, default=Arch.X86_64)
    parser.add_argument("--kernel", default="debian:6.12")
    parser.add_argument("--pages", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--quick", action="store_true", help="fewer runs of each")
    options = parser.parse_args()
    slowest = run(options.arch, options.kernel, options.pages, 5 if options.quick else 20)
    print(f"slowest audit: {slowest * 1e3:.1f} ms (limit {LIMIT * 1e3:.0f} ms)")
    raise SystemExit(slowest >= LIMIT)


if __name__ == "__main__":
    main()
