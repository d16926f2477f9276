"""Runs that are interrupted, terminated or killed: no machine outlives them, and the next run is well."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from failure_runs import ONE_CLAIM, Ended, Hostwalk, assert_sound, has_ended, program_with
from suite_parts import compiled, script

from hostwalk.target import Arch

CHECK = ("check", "--arch", "x86_64")
START_SECONDS = 120
END_SECONDS = 20
CLAIMS = """
import os
from hostwalk.claim import claim
from hostwalk.sabotage import refcount

@claim("signal.long.1", "signal(7)", "A long operation is under way.", sabotage=refcount(+1))
def test_long(subject, witness):
    subject.agent.seconds = 60
    with subject.spin(50_000):
        with open(os.environ["SAY_TO"], "w") as pipe:
            print(witness.machine.pid, file=pipe)
"""

CASES = "short short.sh\nlong endless\nlonger endless\nlast endless\n"


@pytest.fixture
def hostwalk(warm_cache: Path, tmp_path: Path) -> Hostwalk:
    claims = tmp_path / "claims"
    claims.mkdir()
    (claims / "test_signals.py").write_text(CLAIMS)
    return Hostwalk(tmp_path, warm_cache, program_with(claims))


def in_mid_claim(hostwalk: Hostwalk, workers: str = "0") -> tuple[subprocess.Popen[str], int]:
    """Start a run, wait until an operation is under way; return the run and QEMU's process number."""
    pipe = hostwalk.place / "pipe"
    os.mkfifo(pipe)
    fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with open(fd) as reader:  # noqa: PTH123
        process = hostwalk.start(*CHECK, "-n", workers, SAY_TO=str(pipe))
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        assert poll.poll(START_SECONDS * 1000)
        return process, int(reader.readline())


def in_mid_boot(hostwalk: Hostwalk) -> subprocess.Popen[str]:
    """Start a run and wait until it says that it boots."""
    process = hostwalk.start(*CHECK, "-n", "0")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("boot "):
            return process
    raise AssertionError("it did not come to boot")


def in_mid_suite(hostwalk: Hostwalk) -> subprocess.Popen[str]:
    """Start a suite whose first case ends, and the others never; wait for the word of the first."""
    programs, cases = hostwalk.place / "ltp/testcases/bin", hostwalk.place / "ltp/runtest/own"
    programs.mkdir(parents=True)
    cases.parent.mkdir()
    cases.write_text(CASES)
    script(programs, "short.sh", "true")
    compiled("int main(void) { for (;;); }", programs / "endless", Arch.X86_64)
    ltp = ("ltp", "own", "--ltp", str(programs.parents[1]), "--arch", "x86_64", "--memory", "256")
    process = hostwalk.start(*ltp, "-n", "2")
    assert process.stdout is not None
    for line in process.stdout:
        if "ltp own / short" in line:
            return process
    raise AssertionError("it did not come to the second case")


def end_by(hostwalk: Hostwalk, process: subprocess.Popen[str], signum: int) -> Ended:
    began = time.monotonic()
    process.send_signal(signum)
    return hostwalk.finish(process, END_SECONDS, began)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_signal_in_mid_claim_ends_it(
    hostwalk: Hostwalk, signum: signal.Signals, status: int, workers: str
) -> None:
    process, qemu = in_mid_claim(hostwalk, workers)
    done = end_by(hostwalk, process, signum)
    assert done.status == status
    assert done.explains(f"hostwalk: interrupted by {signum.name}")
    assert has_ended(qemu, 0)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_boot_ends_it(hostwalk: Hostwalk, signum: signal.Signals, status: int) -> None:
    done = end_by(hostwalk, in_mid_boot(hostwalk), signum)
    assert done.status == status
    assert done.explains(f"hostwalk: interrupted by {signum.name}")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_suite_ends_all_its_workers(
    hostwalk: Hostwalk, signum: signal.Signals, status: int
) -> None:
    done = end_by(hostwalk, in_mid_suite(hostwalk), signum)
    assert done.status == status
    assert done.explains(f"hostwalk: interrupted by {signum.name}")


def test_a_suite_that_is_killed_leaves_no_machine(hostwalk: Hostwalk) -> None:
    done = end_by(hostwalk, in_mid_suite(hostwalk), signal.SIGKILL)
    assert done.status == -signal.SIGKILL


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_killed_run_leaves_nothing(hostwalk: Hostwalk, tmp_path: Path, workers: str) -> None:
    process, qemu = in_mid_claim(hostwalk, workers)
    assert qemu in hostwalk.children()
    assert end_by(hostwalk, process, signal.SIGKILL).status == -signal.SIGKILL
    assert has_ended(qemu, END_SECONDS)
    assert Hostwalk(tmp_path, hostwalk.cache).run(*ONE_CLAIM, seconds=START_SECONDS).status == 0
    assert_sound(hostwalk.cache)


def test_a_run_killed_while_it_boots_leaves_nothing(hostwalk: Hostwalk) -> None:
    done = end_by(hostwalk, in_mid_boot(hostwalk), signal.SIGKILL)
    assert done.status == -signal.SIGKILL
