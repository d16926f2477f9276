"""What becomes of a log: QEMU is given time to finish it, and one that it did not finish is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostwalk.errors import AgentError, HostwalkError, MachineError, UsageError
from hostwalk.exact import making
from hostwalk.machine.machine import REAP_SECONDS, Machine
from hostwalk.repro import run
from hostwalk.repro.run import Outcome, Result
from hostwalk.repro.script import parse
from hostwalk.target import Arch, Target

VERSION = b"\x00\xe0\x20\x0c"
REPRODUCES = Outcome(Result.REPRODUCES)


def recorded(monkeypatch: pytest.MonkeyPatch, log: bytes, outcome: Outcome = REPRODUCES) -> Any:
    """Return what record gives where the recorded run leaves this log."""
    monkeypatch.setattr(making, "_timed", lambda _make, _script: (1.0, REPRODUCES))
    monkeypatch.setattr(making, "_recorded", lambda *_: (SimpleNamespace(log=log), outcome))
    given: Any = SimpleNamespace(target=Target(Arch.X86_64))
    return making.record(given, given)


def test_a_log_with_its_header_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded(monkeypatch, VERSION + b"log").log == VERSION + b"log"


@pytest.mark.parametrize("log", [b"", bytes(4), bytes(4) + b"log"])
def test_a_log_that_was_not_finished_is_refused(monkeypatch: pytest.MonkeyPatch, log: bytes) -> None:
    with pytest.raises(HostwalkError, match="the log is not whole") as caught:
        recorded(monkeypatch, log)
    assert "less busy" in caught.value.remedy


def test_why_a_script_did_not_reproduce_comes_before_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostwalkError, match="while it is recorded, in 3 tries: QEMU ended"):
        recorded(monkeypatch, bytes(4), Outcome(Result.UNPROVEN, said="QEMU ended"))


def test_a_machine_of_more_than_one_processor_is_refused_before_it_boots() -> None:
    given: Any = SimpleNamespace(target=Target(Arch.ARM64, cpus=2))
    with pytest.raises(UsageError, match="2 processors, and QEMU records no more than one") as caught:
        making.record(given, given)
    assert "--smp 1" in caught.value.remedy


SCRIPT = """
from hostwalk.repro import Failure, Pin, repro

PIN = Pin(arch="x86_64", kernel="debian:6.12", format="4level")
SHOWS = Failure("assertion", "seen == before", ("1 == 2",))


@repro(PIN, SHOWS)
def test_toy(subject):
    before = 2
    seen = subject
    assert seen == before
"""


def test_the_names_of_a_script_are_had_outside_of_a_handler() -> None:
    """Where a prompt is given in one, each mistake there is told with the failure of the script before it."""
    script = parse(SCRIPT, Path("toy.py"))
    subject: Any = 1
    failed = run._failed(script, SimpleNamespace(cell=SimpleNamespace(agent=None)), subject)  # type: ignore[arg-type]
    assert sys.exc_info() == (None, None, None)
    assert isinstance(failed, AssertionError)
    assert making.names_at_failure(script, failed) == {"subject": 1, "before": 2, "seen": 1}
    assert making.names_at_failure(script, None) == {}


def test_what_failed_first_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def __enter__(self) -> int:
            return 1

        def __exit__(self, *_: object) -> None:
            raise AgentError("the answer to reap(2) belongs to another operation")

    machine = SimpleNamespace(explain=lambda error: error)
    cell: Any = SimpleNamespace(machine=machine, agent=SimpleNamespace(spawn=Process))
    seen = SimpleNamespace(cell=cell, machine=machine, prefer_crash=lambda _error: None)
    monkeypatch.setattr(run, "Witness", lambda _cell: seen)
    monkeypatch.setattr(run, "_failed", lambda *_: MachineError("no answer to mprotect"))
    outcome = run.perform(parse(SCRIPT, Path("toy.py")), cell)
    assert (outcome.result, outcome.said) == (Result.UNPROVEN, "operation: no answer to mprotect")


class Ending:
    """A machine that is told to quit."""

    def __init__(self, error: HostwalkError | None = None) -> None:
        self.error, self.waited = error, 0.0
        self.qmp = self

    def execute(self, command: str) -> None:
        assert command == "quit"
        if self.error is not None:
            raise self.error

    def ending(self, seconds: float = REAP_SECONDS) -> str:
        self.waited = seconds
        return ""


def test_qemu_has_longer_for_its_log_than_for_an_end_under_way() -> None:
    machine: Any = Ending()
    making._finish(machine)
    assert machine.waited >= 10 * REAP_SECONDS
    making._finish(Ending(MachineError("it has ended")))  # type: ignore[arg-type]


def test_an_end_is_awaited_as_long_as_is_said() -> None:
    machine: Any = Machine.__new__(Machine)
    with subprocess.Popen(["sleep", "0.2"]) as machine._process:
        assert machine.ending(0.01) == "has closed its sockets but still runs"
        assert machine.ending(20.0) == "ended with status 0"
