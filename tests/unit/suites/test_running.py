"""Running a step: why it cannot run, what a broken guest leaves, and pages that are still pinned behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostwalk.errors import CommandTimeoutError, GuestCrashError, HostwalkError, LoginError
from hostwalk.suites import running
from hostwalk.suites.building import Built
from hostwalk.suites.expected import Known
from hostwalk.suites.outcome import Outcome
from hostwalk.suites.plan import Step
from hostwalk.suites.running import Runner

STEP = Step("cow", ("./cow", "-x"))


class Guest:
    """Stands for a cell: what a program says, how it ends, and the pins that the host reads one after another."""

    def __init__(self) -> None:
        self.said = b"TAP version 13\n1..1\nok 1 a\n"
        self.end: int | HostwalkError = 0
        self.pins = [0, 0]
        self.put_files: list[str] = []
        self.commands: list[Sequence[str]] = []
        self.closed = False
        self.machine = SimpleNamespace(ssh=lambda: self, reports=())

    def put(self, local: Path, remote: str) -> None:
        self.put_files.append(remote)

    def run(self, argv: Sequence[str], *, deadline: object) -> None:
        self.commands.append(argv)

    def stream(self, argv: Sequence[str], streams, *, deadline) -> int:
        self.commands.append(argv)
        streams.stdout(self.said)
        if isinstance(self.end, HostwalkError):
            raise self.end
        return self.end

    def settle(self) -> None:
        """Nothing is batched here."""

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    made = Guest()
    monkeypatch.setattr(
        running, "pinned", lambda cell: made.pins.pop(0) if len(made.pins) > 1 else made.pins[0]
    )
    monkeypatch.setattr(running, "SETTLE_SECONDS", 0.01)
    return made


@pytest.fixture
def runner(guest: Guest, tmp_path: Path) -> Runner:
    (tmp_path / "cow").touch()
    (tmp_path / "test_hmm.sh").write_text("./cow")
    built = Built(tmp_path, ("cow", "migration"), {"migration": "numa.h: No such file or directory"})
    known = Known(setup=(("cow", "echo 8 >nr_hugepages"),))
    return Runner("mm", built, known, lambda: guest, 5.0)  # type: ignore[arg-type, return-value]


def test_a_step_runs_with_its_files_and_setup_in_a_machine_that_ends(runner: Runner, guest: Guest) -> None:
    (result,) = runner.run(STEP)
    assert (result.name, result.outcome) == ("mm / cow -x / a", Outcome.PASS)
    assert guest.put_files == ["/root/cow"]
    assert guest.commands == [["sh", "-c", "echo 8 >nr_hugepages"], ("./cow", "-x")]
    assert guest.closed


def test_a_script_comes_with_the_programs_that_it_names(runner: Runner, guest: Guest) -> None:
    runner.run(Step("hmm", ("bash", "./test_hmm.sh", "smoke")))
    assert guest.put_files == ["/root/test_hmm.sh", "/root/cow"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("./migration",), "not built: numa.h: No such file or directory"),
        (("sudo", "-u", "nobody", "./cow"), "needs sudo, which is not in the guest"),
        (("./protection_keys_32",), "the Makefile of this kernel does not build it here"),
    ],
)
def test_what_cannot_run_is_a_skip_with_its_reason(
    runner: Runner, guest: Guest, command: tuple[str, ...], why: str
) -> None:
    (result,) = runner.run(Step("x", command))
    assert (result.outcome, result.reason) == (Outcome.SKIP, why)
    assert not guest.commands


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (CommandTimeoutError("late"), Outcome.TIMEOUT),
        (GuestCrashError("kernel BUG at mm/gup.c"), Outcome.CRASH),
        (LoginError("no answer"), Outcome.UNPROVEN),
    ],
)
def test_a_broken_end_keeps_the_lines_before_it(
    runner: Runner, guest: Guest, error: HostwalkError, outcome: Outcome
) -> None:
    guest.end = error
    before, last = runner.run(STEP)
    assert (before.outcome, last.outcome) == (Outcome.PASS, outcome)
    assert guest.closed


def test_pages_that_stay_pinned_are_a_leak(runner: Runner, guest: Guest) -> None:
    guest.pins = [3, 7]
    leak = runner.run(STEP)[-1]
    assert (leak.outcome, leak.reason) == (Outcome.LEAK, "3 pages were pinned before it, 7 after it")


def test_pages_that_are_released_late_are_none(runner: Runner, guest: Guest) -> None:
    guest.pins = [3, 7, 7, 3]
    assert [result.outcome for result in runner.run(STEP)] == [Outcome.PASS]


def test_a_machine_that_does_not_come_is_unproven(runner: Runner) -> None:
    def fail() -> None:
        raise LoginError("no machine")

    broken = Runner("mm", runner.built, runner.known, fail, 5.0)  # type: ignore[arg-type]
    (result,) = broken.run(STEP)
    assert (result.outcome, result.reason) == (Outcome.UNPROVEN, "no machine")
