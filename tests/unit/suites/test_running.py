"""Running a step: why it cannot run, what a broken guest leaves, and pages that are still pinned behind it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostwalk.errors import CommandTimeoutError, GuestCrashError, HostwalkError, LoginError
from hostwalk.machine.ssh import Finished
from hostwalk.suites import pins, running
from hostwalk.suites.building import Built
from hostwalk.suites.expected import Expectation, Known, Needs
from hostwalk.suites.kselftests import Kselftests
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.plan import Step
from hostwalk.suites.running import Runner
from hostwalk.target import Arch

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
        self.setup: Finished | HostwalkError = Finished(0, b"", b"")
        self.deadline = 0.0
        self.settled = 0
        self.machine = SimpleNamespace(ssh=lambda: self, reports=(), stopped=nullcontext, pid=0)
        kernel = SimpleNamespace(config={"CONFIG_MMU": "y"}, modules=None, release="7.3.4")
        self.prepared = SimpleNamespace(kernel=kernel, target=SimpleNamespace(arch=Arch.X86_64))

    def put(self, local: Path, remote: str) -> None:
        local.stat()
        self.put_files.append(remote)

    def run(self, argv: Sequence[str], *, deadline: object, stdin: bytes) -> Finished:
        assert stdin == b"CONFIG_MMU=y\n"
        self.commands.append(argv)
        if isinstance(self.setup, HostwalkError):
            raise self.setup
        return self.setup

    def stream(self, argv: Sequence[str], streams, *, deadline, whole: bool) -> int:
        self.commands.append(argv)
        assert whole, "run_vmtests.sh reads to the end of what a program and its children say"
        self.deadline = deadline.seconds
        streams.stdout(self.said)
        if isinstance(self.end, HostwalkError):
            raise self.end
        return self.end

    def settle(self) -> None:
        """Nothing is batched here."""
        self.settled += 1

    def moment(self) -> SimpleNamespace:
        return SimpleNamespace(linux=self)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    made = Guest()

    def counted(_linux: object) -> int:
        return made.pins.pop(0) if len(made.pins) > 1 else made.pins[0]

    monkeypatch.setattr(pins, "counted", counted)
    monkeypatch.setattr(pins, "pinned_frames", lambda _moment: {})
    monkeypatch.setattr(
        running, "leaked", lambda *_: "pfn 0x12 (4), anonymous memory of cow (pid 9) at 0x7000"
    )
    monkeypatch.setattr(pins, "SETTLE_SECONDS", 0.01)
    return made


@pytest.fixture
def runner(guest: Guest, tmp_path: Path) -> Runner:
    (tmp_path / "cow").touch()
    (tmp_path / "test_hmm.sh").write_text("./cow")
    built = Built(tmp_path, ("cow", "migration"), {"migration": "numa.h: No such file or directory"})
    needs = (
        ("cow", Needs("echo 8 >nr_hugepages", config=(("CONFIG_GUP_TEST", "*gup_test*"),))),
        ("slow*", Needs(seconds=900.0)),
    )
    suite = Kselftests("mm", built, Known(needs=needs, commands={"sudo": "#!/bin/sh\n"}))
    return Runner(suite, lambda: guest, None)  # type: ignore[arg-type, return-value]


def test_a_step_runs_with_its_files_and_setup_in_a_machine_that_ends(runner: Runner, guest: Guest) -> None:
    (result,) = runner.run(STEP)
    assert (result.name, result.outcome) == ("mm / cow -x / a", Outcome.PASS)
    assert guest.put_files == ["/root/cow"]
    setup, command = guest.commands
    assert "echo 8 >nr_hugepages" in setup[-1]
    assert ">/usr/local/bin/sudo" in setup[-1]
    assert command == ("./cow", "-x")
    assert (guest.deadline, guest.closed) == (running.SECONDS, True)


def test_a_guest_that_cannot_be_made_ready_proves_nothing(runner: Runner, guest: Guest) -> None:
    guest.setup = Finished(1, b"", b"nr_hugepages: Permission denied\n")
    (result,) = runner.run(STEP)
    assert result.outcome is Outcome.UNPROVEN
    assert "Permission denied" in result.reason


def test_a_setup_that_takes_too_long_is_no_time_out_of_the_test(runner: Runner, guest: Guest) -> None:
    guest.setup = CommandTimeoutError("late")
    (result,) = runner.run(STEP)
    assert result.outcome is Outcome.UNPROVEN
    assert result.reason.startswith("the guest could not be made ready for it in time")


def test_a_guest_that_crashes_while_it_is_made_ready_has_crashed(runner: Runner, guest: Guest) -> None:
    guest.setup = GuestCrashError("kernel BUG at mm/gup.c")
    (result,) = runner.run(STEP)
    assert result.outcome is Outcome.CRASH


def test_a_file_of_the_host_s_that_cannot_be_read_proves_nothing(
    runner: Runner, guest: Guest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Kselftests, "files", lambda *_: ((tmp_path / "gone", "/root/gone"),))
    (result,) = runner.run(STEP)
    assert result.outcome is Outcome.UNPROVEN
    assert "its files cannot be read: " in result.reason
    assert str(tmp_path / "gone") in result.reason
    assert guest.closed


def test_what_is_known_to_fail_is_expected_to(runner: Runner, guest: Guest) -> None:
    guest.said = b"1..1\nnot ok 1 a\n"
    expected = (Expectation("mm / cow*", "7.3*", "x86_64", "since 6.1"),)
    suite = replace(runner.suite, known=Known(expected))  # type: ignore[type-var]
    (result,) = replace(runner, suite=suite).run(STEP)
    assert (result.outcome, result.reason) == (Outcome.XFAIL, "since 6.1 (fail)")
    guest.prepared.target.arch = Arch.ARM64
    (result,) = replace(runner, suite=suite).run(STEP)
    assert result.outcome is Outcome.FAIL


def test_a_step_has_the_time_that_it_is_known_to_take_or_that_was_asked_for(
    runner: Runner, guest: Guest
) -> None:
    slow = Step("x", ("./cow", "slow"), title="slow cow")
    runner.run(slow)
    assert guest.deadline == 900.0
    replace(runner, seconds=5.0).run(slow)
    assert guest.deadline == 5.0


def test_a_skip_says_what_the_kernel_lacks(runner: Runner, guest: Guest) -> None:
    guest.said = b"1..3\nok 1 a # SKIP gup_test not available\nok 2 b\nok 3 c # SKIP no swap\n"
    skip, passed, other = runner.run(STEP)
    assert skip.reason == "gup_test not available (this kernel has no CONFIG_GUP_TEST)"
    assert (passed.outcome, passed.reason) == (Outcome.PASS, "")
    assert (other.outcome, other.reason) == (Outcome.SKIP, "no swap")


def test_a_script_comes_with_the_programs_that_it_names(runner: Runner, guest: Guest) -> None:
    runner.run(Step("hmm", ("bash", "./test_hmm.sh", "smoke")))
    assert guest.put_files == ["/root/test_hmm.sh", "/root/cow"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("./migration",), "not built: numa.h: No such file or directory"),
        (("su", "nobody", "./cow"), "needs su, which is not in the guest"),
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
    assert (leak.outcome, leak.reason) == (
        Outcome.LEAK,
        "3 pages were pinned before it, 7 after it: pfn 0x12 (4), anonymous memory of cow (pid 9) at 0x7000",
    )


def test_pages_that_are_released_late_are_none(runner: Runner, guest: Guest) -> None:
    guest.pins = [3, 7, 7, 3]
    assert [result.outcome for result in runner.run(STEP)] == [Outcome.PASS]


def test_fewer_pins_than_before_are_no_leak_and_nothing_to_wait_for(runner: Runner, guest: Guest) -> None:
    guest.pins = [3, 1]
    assert [result.outcome for result in runner.run(STEP)] == [Outcome.PASS]
    assert guest.settled == 0


def test_a_machine_that_does_not_come_is_unproven(runner: Runner) -> None:
    def fail() -> None:
        raise LoginError("no machine")

    broken = Runner(runner.suite, fail)  # type: ignore[arg-type]
    (result,) = broken.run(STEP)
    assert (result.outcome, result.reason) == (Outcome.UNPROVEN, "no machine")


@pytest.mark.parametrize(
    ("outcome", "share", "reason"),
    [
        (Outcome.FAIL, 0.12, "late (the host was busy: it ran the guest for 12% of the time)"),
        (Outcome.TIMEOUT, 0.12, "late (the host was busy: it ran the guest for 12% of the time)"),
        (Outcome.FAIL, 0.9, "late"),
        (Outcome.SKIP, 0.12, "late"),
    ],
)
def test_what_fails_on_a_busy_host_says_so(outcome: Outcome, share: float, reason: str) -> None:
    assert running.remarked(Result("mm / hmm", outcome, "late"), share).reason == reason
