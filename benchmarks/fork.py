"""How long a fresh machine takes: boot, fork and reset, and what many of them take together.

Run it on an idle host: ``python benchmarks/fork.py [--quick] [--arch A] [--soak 1000]``. Everything is measured in
one run, in this process (forks per second with two workers: in two).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hostwalk import process
from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, boot, prepare
from hostwalk.deadline import Deadline
from hostwalk.kernels.progress import SILENT
from hostwalk.machine.frozen import own_memory
from hostwalk.options import CheckOptions
from hostwalk.report.words import duration
from hostwalk.template import Template, template_of

SIBLINGS = (1, 2, 8, 16)
AIM_BOOT_RATIO = 40.0
MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """How often each thing is done."""

    boots: int
    forks: int
    resets: int
    seconds: float


FULL = Plan(boots=3, forks=30, resets=30, seconds=10.0)
QUICK = Plan(boots=1, forks=10, resets=10, seconds=2.0)


def milliseconds(action: Callable[[], object], times: int) -> list[float]:
    """Return how long each of several calls took."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - start))
    return taken


def booted(prepared: Prepared, times: int) -> list[float]:
    """Return the milliseconds from the start of QEMU to an agent that answers and a kernel that is proven."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        cell = boot(prepared)
        taken.append(1000 * (time.perf_counter() - start))
        cell.close()
    return taken


def forked(template: Template, times: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds until a fork's agent has answered, and until a subject has touched four pages."""
    answered, worked = [], []
    for _ in range(times):
        start = time.perf_counter()
        cell = template.fork()
        answered.append(1000 * (time.perf_counter() - start))
        work(cell)
        worked.append(1000 * (time.perf_counter() - start))
        cell.close()
    return answered, worked


def work(cell: Cell) -> None:
    """Have a subject do something."""
    subject = cell.agent.spawn()
    subject.mmap(pages=4, prot="rw").touch()


def reset(template: Template, times: int) -> list[float]:
    """Return the milliseconds until a fork that was taken back has answered."""
    taken = []
    cell = template.reset(template.fork())
    for _ in range(times):
        work(cell)
        start = time.perf_counter()
        cell = template.reset(cell)
        taken.append(1000 * (time.perf_counter() - start))
    cell.close()
    return taken


def forks_per_second(arch: str, workers: int, seconds: float) -> float:
    """Return how many forks this many processes make, greet and end in a second."""
    words = [sys.executable, __file__, "--worker", str(seconds), "--arch", arch]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    return sum(float(each.communicate()[0]) for each in running)


def worker(arch: str, seconds: float) -> None:
    """Fork for some seconds and print the rate."""
    template = template_of(prepared_for(arch))
    template.fork().close()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        template.fork().close()
        count += 1
    print(count / (time.perf_counter() - start))


def pss(pid: int) -> int:
    """Return a process's proportional share of memory, in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    return int(re.search(r"^Pss: +(\d+)", text, re.MULTILINE)[1]) << 10  # type: ignore[index]


def siblings(template: Template) -> Iterator[tuple[int, int, int]]:
    """Yield (how many, PSS of all, what they have dirtied), in bytes."""
    with ExitStack() as stack:
        cells: list[Cell] = []
        for count in SIBLINGS:
            while len(cells) < count:
                cells.append(template.fork())
                stack.callback(cells[-1].close)
            pids = [cell.machine.pid for cell in cells]
            yield count, sum(pss(pid) for pid in pids), sum(own_memory(pid) for pid in pids)


@dataclass(frozen=True)
class Footprint:
    """What this process and its machines hold at a moment."""

    descriptors: int
    children: int
    threads: int
    files: int
    memory: int

    @classmethod
    def now(cls, cache: Path) -> Footprint:
        """Look."""
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
        return cls(
            sum(1 for _ in Path("/proc/self/fd").iterdir()),
            len(children),
            int(re.search(r"Threads:\s+(\d+)", status)[1]),  # type: ignore[index]
            sum(len(names) for _, _, names in os.walk(cache)),
            int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10,  # type: ignore[index]
        )


def soak(template: Template, times: int, console: Console) -> None:
    """Fork many times in a row, then reset as often, and show that nothing grows."""
    template.fork().close()
    grown(f"{times} forks in a row", template, lambda: template.fork().close(), times, console)
    cells = [template.reset(template.fork())]

    def again() -> None:
        work(cells[0])
        cells[0] = template.reset(cells[0])

    before = own_memory(cells[0].machine.pid)
    grown(f"{times} resets of one", template, again, times, console)
    after = own_memory(cells[0].machine.pid)
    console.print(f"QEMU's own memory {before / MIB:.1f} MiB before, {after / MIB:.1f} MiB after")
    cells[0].close()


def grown(title: str, template: Template, action: Callable[[], None], times: int, console: Console) -> None:
    """Do something many times; print what this process holds before and after, and how long it took."""
    home = template.frozen.directory.parent
    before, taken = Footprint.now(home), milliseconds(action, times)
    after = Footprint.now(home)
    tenth = max(1, times // 10)
    first, last = statistics.median(taken[:tenth]), statistics.median(taken[-tenth:])
    table = Table(title, "before", "after", box=None)
    for name in ("descriptors", "children", "threads", "files"):
        table.add_row(name, str(getattr(before, name)), str(getattr(after, name)))
    table.add_row("memory", f"{before.memory / MIB:.1f} MiB", f"{after.memory / MIB:.1f} MiB")
    table.add_row("one (median of a tenth)", f"{first:.1f} ms", f"{last:.1f} ms")
    console.print(table)


def virtme_ng() -> str:
    """Say how long virtme-ng takes for ``true`` on the host's kernel, or why that is not known."""
    tool = shutil.which("vng") or shutil.which("virtme-run")
    if tool is None:
        return "virtme-ng is not installed"
    start = time.perf_counter()
    done = process.run([tool, "-r", "--", "true"], deadline=Deadline.after(60), check=False)
    if done.status != 0:
        return f"virtme-ng could not boot the host's kernel: {(done.stderr.splitlines() or ['?'])[-1]}"
    return f"virtme-ng -- true: {duration(time.perf_counter() - start)}"


def prepared_for(arch: str) -> Prepared:
    """Return the default kernel of an architecture, ready to boot."""
    options = CheckOptions(archs=(arch,))
    return prepare(options.targets[0], options, SILENT, Cache.user())


def measure(arch: str, plan: Plan, console: Console) -> None:
    """Measure one architecture and print its table."""
    prepared = prepared_for(arch)
    template = template_of(prepared)
    boots = statistics.median(booted(prepared, plan.boots))
    template.fork().close()
    answered, worked = (statistics.median(each) for each in forked(template, plan.forks))
    again = statistics.median(reset(template, plan.resets))
    table = Table(f"{arch}, {prepared.target.kernel}, {template.accel.name}", "", "boot is", box=None)
    table.add_row("boot to ready", f"{boots:.0f} ms", "")
    table.add_row("fork to first answered operation", f"{answered:.1f} ms", ratio(boots, answered))
    table.add_row("fork, and a subject that touched 4 pages", f"{worked:.1f} ms", ratio(boots, worked))
    table.add_row("reset to first answered operation", f"{again:.1f} ms", ratio(boots, again))
    for workers in (1, 2):
        rate = forks_per_second(arch, workers, plan.seconds)
        table.add_row(f"forks made and ended, {workers} workers", f"{rate:.1f} /s", "")
    one = 0
    for count, total, dirtied in siblings(template):
        one = one or total
        beyond = f"{(total - dirtied) / one:.2f} of one, beyond what they dirtied" if count > 1 else ""
        table.add_row(f"PSS of {count}", f"{total / MIB:.0f} MiB, {dirtied / MIB:.0f} of them own", beyond)
    console.print(table)


def ratio(boot_time: float, other: float) -> str:
    """Say how many times longer a boot takes."""
    return f"{boot_time / other:.0f} times that"


@contextmanager
def load_told(console: Console) -> Iterator[None]:
    """Say how busy the host was, for that is in every figure."""
    console.print(f"{os.cpu_count()} cores, load before: {os.getloadavg()[0]:.1f}")
    yield
    console.print(f"load after: {os.getloadavg()[0]:.1f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under 50 seconds")
    parser.add_argument("--arch", action="append", help="x86_64 or arm64 (default: both)")
    parser.add_argument(
        "--soak", type=int, metavar="N", help="only fork N times and reset N times, and say what grew"
    )
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    archs = args.arch or ["x86_64", "arm64"]
    if args.worker:
        worker(archs[0], args.worker)
        return
    console = Console(width=110, highlight=False)
    with load_told(console):
        for arch in archs:
            if args.soak:
                soak(template_of(prepared_for(arch)), args.soak, console)
            else:
                measure(arch, QUICK if args.quick else FULL, console)
        if not args.soak:
            console.print(virtme_ng())


if __name__ == "__main__":
    main()
