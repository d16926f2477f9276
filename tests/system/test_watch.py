"""Watching a program of somebody else's: each change of its page tables, and the call that made it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, prepare
from hostwalk.cells import Source
from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, UsageError
from hostwalk.kernels import toolchain
from hostwalk.kernels.progress import SILENT
from hostwalk.machine.pump import Streams
from hostwalk.plugin import Session
from hostwalk.target import Arch, Target
from hostwalk.watching import Sample, Wanted, lines, watched
from hostwalk.witness import Witness

SECONDS = 240
PAGES = 6
PROGRAM = """
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	long size = sysconf(_SC_PAGESIZE);
	char *area = mmap(0, 6 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;

	for (int i = 0; i < 4; i++)
		area[i * size] = 1;
	printf("%p\\n", area);
	fflush(stdout);
	mprotect(area, 2 * size, PROT_READ);
	munmap(area + size, size);
	madvise(area + 2 * size, size, MADV_DONTNEED);
	if (!fork()) {
		area[3 * size] = 2;
		_exit(3);
	}
	wait(&status);
	if (argc > 1)
		for (;;)
			area[4 * size] += 1;
	return 7;
}
"""


SPAWNER = """
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
	int status;

	if (!vfork()) {
		execl("/bin/true", "true", (char *)0);
		_exit(1);
	}
	return wait(&status) < 0;
}
"""


THREADED = """
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
static pthread_t first;
static void *go_on(void *area)
{
	pthread_join(first, NULL);
	usleep(1000000);
	mprotect(area, sysconf(_SC_PAGESIZE), PROT_READ);
	usleep(1000000);
	_exit(7);
}
int main(void)
{
	char *area = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t other;

	area[0] = 1;
	printf("%p\\n", area);
	fflush(stdout);
	first = pthread_self();
	pthread_create(&other, NULL, go_on, area);
	syscall(SYS_exit, 0);
}
"""


@pytest.fixture(scope="module")
def prepared(session: Session, target: Target) -> Prepared:
    return prepare(target, session.options, SILENT, Cache.user(), login=True)


@pytest.fixture(scope="module")
def guest(prepared: Prepared, program: Path) -> Iterator[Cell]:
    made = Source.of(prepared).make()
    made.machine.ssh(deadline()).put(program, "/root/program")
    yield made
    made.close()


@pytest.fixture(scope="module")
def program(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(target, tmp_path_factory.mktemp("watched") / "program.c", PROGRAM)


def compiled(target: Target, source: Path, text: str) -> Path:
    source.write_text(text)
    built = source.with_suffix("")
    argv = [toolchain.find(target.arch).cc, "-static", "-O1", "-o", str(built), str(source)]
    subprocess.run(argv, check=True, timeout=SECONDS)
    return built


def deadline() -> Deadline:
    return Deadline.after(120)


def of(samples: list[Sample], name: str) -> list[Sample]:
    return [sample for sample in samples if sample.call is not None and sample.call.name == name]


def test_each_change_has_the_call_that_made_it(guest: Cell) -> None:
    with watched(guest, ["./program"], deadline=deadline()) as run:
        samples = list(run)
    assert run.finished is not None
    assert run.finished.status == 7
    start, page = int(run.finished.stdout, 16), guest.prepared.image.layout["PAGE_SIZE"]
    (mapped,) = (s for s in of(samples, "mmap") if s.call is not None and s.call.result == start)
    assert [(vma.start, vma.end) for vma in mapped.mapped] == [(start, start + PAGES * page)]
    assert not mapped.diff
    touched = samples[mapped.number + 1]
    assert touched.occasion == "meanwhile"
    appeared = {leaf.virt_addr for leaf in touched.diff.appeared}
    assert appeared >= {start + i * page for i in range(4)}
    protect = of(samples, "mprotect")[-1]
    assert protect.occasion == f"mprotect({start:#x}, {2 * page:#x}, PROT_READ) = 0"
    assert [change.after.virt_addr for change in protect.diff.changed] == [start, start + page]
    assert all({"-writable"} <= set(change.words) for change in protect.diff.changed)
    assert not len(protect.diff.appeared)
    assert not len(protect.diff.vanished)
    (unmap,) = of(samples, "munmap")
    assert [leaf.virt_addr for leaf in unmap.diff.vanished] == [start + page]
    assert not unmap.diff.changed
    (advise,) = of(samples, "madvise")
    assert [leaf.virt_addr for leaf in advise.diff.vanished] == [start + 2 * page]
    assert not advise.mapped


def test_children_are_watched_and_copy_on_write_is_seen(guest: Cell) -> None:
    with watched(guest, ["./program"], deadline=deadline()) as run:
        samples = list(run)
    assert run.finished is not None
    written = int(run.finished.stdout, 16) + 3 * guest.prepared.image.layout["PAGE_SIZE"]
    (fork,) = of(samples, "clone")
    assert written in {change.after.virt_addr for change in fork.diff.changed if "-writable" in change.words}
    child = [sample for sample in samples if sample.pid != samples[0].pid]
    assert [sample.occasion for sample in child] == ["forked", "exit"]
    (copied,) = (change for change in child[1].diff.changed if change.after.virt_addr == written)
    assert copied.moved
    assert "+writable" in copied.words
    assert [sample.occasion for sample in samples if sample.pid == samples[0].pid][-1] == "exit"


def test_a_child_that_runs_before_its_parent_goes_on_is_watched_from_its_first_call(
    guest: Cell, tmp_path: Path
) -> None:
    guest.machine.ssh(deadline()).put(
        compiled(guest.target, tmp_path / "spawner.c", SPAWNER), "/root/spawner"
    )
    with watched(guest, ["./spawner"], deadline=deadline()) as run:
        samples = list(run)
    assert run.finished is not None
    assert run.finished.status == 0
    child = [sample for sample in samples if sample.pid != samples[0].pid]
    assert child[0].occasion == "forked"
    assert [sample.comm for sample in of(child, "execve")] == ["true"]
    assert child[-1].occasion == "exit"


@pytest.mark.parametrize("wanted", [Wanted(at=("mprotect",)), Wanted(every=0.05)], ids=["points", "clock"])
def test_a_process_is_watched_on_when_its_first_thread_has_exited(
    guest: Cell, tmp_path: Path, wanted: Wanted
) -> None:
    built = compiled(guest.target, tmp_path / "threaded.c", THREADED)
    guest.machine.ssh(deadline()).put(built, "/root/threaded")
    with watched(guest, ["./threaded"], wanted, deadline()) as run:
        samples = list(run)
    assert run.finished is not None
    assert run.finished.status == 7
    area = int(run.finished.stdout, 16)
    (protected,) = (
        sample.number
        for sample in samples
        for change in sample.diff.changed
        if change.after.virt_addr == area and "-writable" in change.words
    )
    assert [sample.number for sample in samples if sample.occasion == "exit"] == [samples[-1].number]
    assert protected < samples[-1].number


def test_two_runs_tell_the_same(prepared: Prepared, program: Path) -> None:
    if prepared.target.arch is not Arch.X86_64:
        pytest.skip("once is enough")
    told = []
    for _ in range(2):
        own = Source.of(prepared).make()
        try:
            own.machine.ssh(deadline()).put(program, "/root/program")
            with watched(own, ["./program"], Wanted(at=("mprotect", "munmap")), deadline()) as run:
                told.append(["\n".join(lines(sample)) for sample in run if sample.call is not None])
        finally:
            own.close()
    assert told[0] == told[1]
    assert len(told[0]) >= 3


def test_a_function_of_the_kernel_is_a_point(guest: Cell) -> None:
    with watched(guest, ["./program"], Wanted(at=("handle_mm_fault",)), deadline()) as run:
        samples = list(run)
    faults = of(samples, "handle_mm_fault")
    assert len(faults) > 10
    assert any(len(sample.diff.appeared) for sample in faults)
    with (
        pytest.raises(UsageError, match="neither a system call nor a function"),
        watched(guest, ["./program"], Wanted(at=("no_such_function",)), deadline()),
    ):
        pass


def test_a_watch_by_time_ends_at_its_deadline_and_the_program_is_killed(guest: Cell) -> None:
    wanted = Wanted(every=0.05)
    with watched(guest, ["./program", "forever"], wanted, Deadline.after(3)) as run:
        with pytest.raises(CommandTimeoutError):
            run.finish(Streams(beside=run.watch))
        assert run.watch.over
    assert next(sample.occasion for sample in run.watch.take()) == "a new address space"
    guest.machine.check()
    assert b"forever" not in guest.machine.ssh(deadline()).run(["ps"], deadline=deadline()).stdout


def test_the_witness_watches_a_subject(guest: Cell) -> None:
    with guest.agent.spawn() as subject:
        area = subject.mmap(pages=4, prot="rw").touch()
        with Witness(guest).watch(subject, at=["mprotect"], deadline=deadline()) as seen:
            pending = subject.start_syscall("mprotect", area.start, 2 * area.page_size, 1)
            sample = next(seen)
        pending.result()
        assert [change.after.virt_addr for change in sample.diff.changed] == [
            area.start,
            area.start + area.page_size,
        ]
    assert guest.machine.running


def test_run_tells_it(target: Target, program: Path, tmp_path: Path) -> None:
    if target.arch is not Arch.ARM64:
        pytest.skip("once is enough")
    words = ["run", "--arch", target.arch, "--kernel", target.kernel, "--put", str(program)]
    place = tmp_path / "watch.json"
    for more in (["--watch=munmap,mprotect"], ["--watch-json", str(place)]):
        done = subprocess.run(
            [sys.executable, "-m", "hostwalk", *words, *more, "--", "./program"],
            capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 7, done.stderr
        if "--watch-json" not in more:
            assert f"munmap({int(done.stdout, 16) + 4096:#x}, 0x1000) = 0" in done.stderr
    told = [json.loads(line) for line in place.read_text().splitlines()]
    assert {"mmap", "mprotect", "munmap", "madvise", "clone"} <= {
        each["call"]["name"] for each in told if each["call"]
    }
    assert told[-1]["occasion"] == "exit"
