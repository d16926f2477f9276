"""Guests that crash, hang and die in mid-claim: the verdict, what is said of it, and the machine afterwards."""

from __future__ import annotations

import json
import shlex
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from failure_runs import Ended, Hostwalk, program_with

X86_64 = ("check", "--arch", "x86_64")
SECONDS = 180
CLAIMS = """
import os, signal
from hostwalk.claim import claim
from hostwalk.sabotage import refcount

DEAD = set()

def says(id, sentence="The kernel survives."):
    return claim(id, "failures(7)", sentence, sabotage=refcount(+1))

def ioctl(subject, name):
    return subject.syscall("ioctl", subject.exerciser, subject.agent.abi[f"HOSTWALK_IOC_{name}"])

@says("fail.false.1", "A touched page has three references.")
def test_false(subject, witness):
    assert witness.pages(subject.mmap(pages=2, prot="rw").touch()).refcounts == 3

@says("fail.panic.1")
def test_panic(subject, witness):
    DEAD.add(witness.machine.pid)
    subject.agent.crash("panic")
    subject.mmap(pages=1).touch()

@says("fail.fresh.1")
def test_fresh(subject, witness):
    assert witness.machine.pid not in DEAD
    subject.mmap(pages=1).touch()

@says("fail.oops.1")
def test_oops(subject, witness):
    DEAD.add(witness.machine.pid)
    assert ioctl(subject, "OOPS").value == 0

@says("fail.late.1")
def test_damage_that_shows_when_the_subject_ends(subject, witness):
    assert witness.machine.pid not in DEAD
    pfn = int(witness.pages(subject.mmap(pages=1).touch()).pfns[0])
    with witness.moment() as moment:
        place = moment.page_field(moment.linux.page(pfn), "flags")
        flags = int.from_bytes(moment.memory.read(place, 8), "little") | 1 << moment.layout["PG_private"]
        moment.memory.write(place, flags.to_bytes(8, "little"))

@says("fail.spin.1")
def test_spin(subject, witness):
    DEAD.add(witness.machine.pid)
    subject.agent.seconds = 2
    ioctl(subject, "SPIN")

@says("fail.killed.1")
def test_killed(subject, witness):
    assert witness.machine.pid not in DEAD
    os.kill(witness.machine.pid, signal.SIGKILL)
    subject.mmap(pages=1).touch()

@says("fail.last.1")
def test_last(subject, witness):
    subject.mmap(pages=1).touch()
"""
SPIN_OR_KILLED = "spin or killed or last"


@pytest.fixture(scope="module")
def hostwalk(warm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Hostwalk:
    place = tmp_path_factory.mktemp("failures")
    claims = place / "claims"
    claims.mkdir()
    (claims / "test_failures_of_guests.py").write_text(CLAIMS)
    return Hostwalk(place, warm_cache, program_with(claims))


@dataclass(frozen=True)
class Reported:
    """A run and its reports."""

    ended: Ended
    place: Path

    def result(self, claim: str) -> dict[str, str]:
        results = json.loads((self.place / "run.json").read_text())["results"]
        return next(result for result in results if result["claim"] == claim)

    def verdicts(self) -> dict[str, str]:
        results = json.loads((self.place / "run.json").read_text())["results"]
        return {result["claim"]: result["verdict"] for result in results}


@pytest.fixture(scope="module")
def crashes(hostwalk: Hostwalk) -> Reported:
    words = (
        "-k",
        f"not ({SPIN_OR_KILLED})",
        "--json",
        "run.json",
        "--junit",
        "run.xml",
        "--ktap",
        "run.ktap",
    )
    return Reported(hostwalk.run(*X86_64, *words, seconds=SECONDS), hostwalk.place)


@pytest.fixture(scope="module")
def silences(hostwalk: Hostwalk, crashes: Reported) -> Reported:
    place = crashes.place / "silences"
    place.mkdir()
    words = ("-k", SPIN_OR_KILLED, "--json", str(place / "run.json"))
    return Reported(hostwalk.run(*X86_64, *words, seconds=SECONDS), place)


def test_a_crash_breaks_its_claim_and_no_other(crashes: Reported) -> None:
    assert crashes.ended.status == 1
    assert crashes.verdicts() == {
        "fail.false.1": "broken", "fail.panic.1": "broken", "fail.fresh.1": "kept",
        "fail.oops.1": "broken", "fail.late.1": "broken",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "title", "trace"),
    [
        ("fail.panic.1", "Kernel panic - not syncing: sysrq triggered crash", "sysrq_handle_crash"),
        ("fail.oops.1", "BUG: kernel NULL pointer dereference, address: 0000000000000000", "hostwalk_ioctl"),
        ("fail.late.1", "BUG: Bad page state in process subject", "bad_page"),
    ],
)
def test_a_crash_is_told_with_the_kernels_report(
    crashes: Reported, claim: str, title: str, trace: str
) -> None:
    detail = crashes.result(claim)["detail"]
    assert detail.startswith(f"operation: the guest's kernel reported: {title}")
    assert "remedy: read the kernel's report" in detail
    assert trace in detail.partition("--- kernel report ---")[2].partition("--- command ---")[0]
    assert crashes.ended.explains(f"{claim} broken on x86_64-4level", title, f"-k {claim}")


def test_damage_is_blamed_on_the_claim_that_did_it(crashes: Reported) -> None:
    reason = crashes.result("fail.late.1")["reason"]
    assert reason == "it was kept, but as its subject ended: the guest kernel crashed"


def test_whose_machine_it_was_is_said(crashes: Reported) -> None:
    assert (
        "its machine was put away: the next claim gets a fresh one"
        in crashes.result("fail.panic.1")["detail"]
    )
    assert "put away" not in crashes.result("fail.false.1")["detail"]


def test_a_false_claim_is_explained(crashes: Reported) -> None:
    assert crashes.ended.explains(
        'failures(7): "A touched page has three references."',
        "assert refcounts[1 x2] == 3",
        "what the witness saw",
        "refcount 1",
        "linux: writable young user",
    )


def test_the_command_that_is_given_repeats_it(crashes: Reported, hostwalk: Hostwalk) -> None:
    command = shlex.split(crashes.result("fail.false.1")["rerun"])
    assert command[0] == "hostwalk"
    again = hostwalk.run(*command[1:], seconds=SECONDS)
    assert again.status == 1
    assert again.explains("fail.false.1 broken on x86_64-4level", "1 broken")


def test_reports_are_valid(crashes: Reported) -> None:
    suites = ET.parse(crashes.place / "run.xml").getroot()
    assert len(list(suites.iter("testcase"))) == 5
    assert len(list(suites.iter("failure"))) == 1
    assert len(list(suites.iter("error"))) == 3
    lines = (crashes.place / "run.ktap").read_text().splitlines()
    assert lines[0] == "KTAP version 1"
    assert len([line for line in lines if line.strip().startswith("not ok ") and "fail." in line]) == 4


def test_silence_proves_nothing(silences: Reported) -> None:
    assert silences.ended.status == 3
    assert silences.verdicts() == {
        "fail.spin.1": "unproven", "fail.killed.1": "unproven", "fail.last.1": "kept",
    }  # fmt: skip


def test_a_guest_that_spins_with_interrupts_off_is_hung(silences: Reported) -> None:
    assert silences.ended.explains(
        "operation: no answer to ", "within 2 s", "the machine is running", "with interrupts off",
        "remedy: run the same alone",
    )  # fmt: skip


def test_a_killed_qemu_is_told_from_a_hang(silences: Reported) -> None:
    result = silences.result("fail.killed.1")
    assert "QEMU was killed by SIGKILL" in result["reason"]
    assert "out-of-memory killer" in result["detail"]


def test_claims_of_another_repository_are_explained_by_pytest(hostwalk: Hostwalk) -> None:
    program = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
    words = (str(hostwalk.place / "claims"), "--hostwalk-arch=x86_64", "-k", "fail.false")
    done = replace(hostwalk, program=program).run(*words, seconds=SECONDS)
    assert done.status == 1
    assert "assert refcounts[1 x2] == 3" in done.out
    assert "what the witness saw" in done.out
