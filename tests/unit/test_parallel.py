"""Results travel, and workers fit."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from execnet.gateway_base import dumps, loads

from hostwalk import parallel
from hostwalk.errors import HostwalkError
from hostwalk.machine.command import TRANSLATED_MIB
from hostwalk.parallel import Receiver, Sender, fitting, packed, unpacked
from hostwalk.report.model import Result, Verdict
from hostwalk.report.story import Comparison, Entry, Operation, Seen, SeenPage, Story
from hostwalk.target import Arch, Target

TARGETS = (Target(Arch.X86_64), Target(Arch.ARM64, "debian:6.1"))
MIB = 1 << 20


def result(number: int, verdict: Verdict = Verdict.KEPT, target: Target = TARGETS[0]) -> Result:
    return Result(
        f"claim.{number}", "page(2)", "It holds.", target, verdict, nodeid=f"t.py::t{number}[{target}]"
    )


def session(*results: Result) -> SimpleNamespace:
    cells = SimpleNamespace(identities={"x": "booted"})
    return SimpleNamespace(results=list(results), cells=cells, targets=TARGETS, seed=7)


def report(**values: object) -> SimpleNamespace:
    return SimpleNamespace(**{"when": "call", "nodeid": "", "longreprtext": "", **values})


def sent(sender: Sender) -> SimpleNamespace:
    """Drive the hook wrapper as pluggy does."""
    loaded = report()
    steps = sender.pytest_runtest_makereport()
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(loaded)  # type: ignore[arg-type]
    return loaded


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("where", TARGETS, ids=str)
def test_a_result_survives_the_journey(verdict: Verdict, where: Target) -> None:
    before = Result("a.b", "p(2)", "s", where, verdict, "why", "line\nline", 1.5, "hostwalk", "f.py:3", "id")
    assert unpacked(json.loads(json.dumps(packed(before))), TARGETS) == before


def test_what_was_seen_survives_the_journey() -> None:
    entry = Entry("pte", 0x1000, 511, 0x8000_0000_0345_D867, "leaf", 0x345D000, ("P",), 0, ("was empty",))
    seen = Seen(2, "1 page", 1, (SeenPage(0, 0x7FFF_F7FF_5000, (entry,)),))
    story = Story("f", (Operation("mmap()", "0"),), (seen,), Comparison("==", "a", "b", ((0, "1", "2"),)))
    before = replace(result(0, Verdict.BROKEN), crashed=True, kernels=">=6.1", departs="it does", story=story)
    parcel = packed(before)
    assert unpacked(loads(dumps(parcel)), TARGETS) == before
    assert unpacked(json.loads(json.dumps(parcel)), TARGETS) == before


def test_results_come_in_the_order_of_collection() -> None:
    results = [result(number) for number in range(4)]
    order = [SimpleNamespace(nodeid=each.nodeid) for each in results]
    here = session()
    receiver = Receiver(here)  # type: ignore[arg-type]
    for number in (3, 1, 0, 2):
        there = session(results[number])
        sender = Sender(there)  # type: ignore[arg-type]
        sender.pytest_collection_finish(SimpleNamespace(items=order))  # type: ignore[arg-type]
        receiver.pytest_runtest_logreport(sent(sender))  # type: ignore[arg-type]
    assert here.results == results
    assert here.cells.identities == {"x": "booted"}


def test_a_result_is_sent_once_and_again_when_it_was_amended() -> None:
    there, here = session(result(0)), session()
    sender, receiver = Sender(there), Receiver(here)  # type: ignore[arg-type]
    first = sent(sender)
    assert len(first.hostwalk["results"]) == 1
    assert sent(sender).hostwalk["results"] == []
    there.results[-1] = result(0, Verdict.BROKEN)
    for each in (first, sent(sender)):
        receiver.pytest_runtest_logreport(each)  # type: ignore[arg-type]
    assert [each.verdict for each in here.results] == [Verdict.BROKEN]


def test_the_last_but_one_is_amended_when_the_next_claim_begins() -> None:
    there = session(result(0))
    sender = Sender(there)  # type: ignore[arg-type]
    sent(sender)
    there.results[:] = [result(0, Verdict.BROKEN), result(1)]
    verdicts = [values["verdict"] for _, values in sent(sender).hostwalk["results"]]
    assert verdicts == ["broken", "kept"]


def test_a_claim_whose_worker_died_is_unproven() -> None:
    here = session()
    name = f"t.py::t[{TARGETS[1]}]"
    crash = report(when=parallel.CRASHED, nodeid=name, longreprtext="worker gw0 crashed")
    Receiver(here).pytest_runtest_logreport(crash)  # type: ignore[arg-type]
    (lost,) = here.results
    assert (lost.verdict, lost.target, lost.detail) == (Verdict.UNPROVEN, TARGETS[1], "worker gw0 crashed")


def test_a_worker_that_died_without_a_claim_is_an_error() -> None:
    crash = report(when=parallel.CRASHED, nodeid="elsewhere", longreprtext="gone")
    with pytest.raises(HostwalkError, match="a worker process ended: gone"):
        Receiver(session()).pytest_runtest_logreport(crash)  # type: ignore[arg-type]


def judged(found: Result, identity: str) -> SimpleNamespace:
    there = session(found)
    there.cells.identities = {found.target.name: identity}
    return sent(Sender(there))  # type: ignore[arg-type]


def test_a_report_is_about_one_kernel_of_each_target() -> None:
    here = session()
    receiver = Receiver(here)  # type: ignore[arg-type]
    of_first, of_other = "Linux 7.3 (0123), 4level, tcg, {}", "Linux 7.3 (4567), 4level, tcg, {}"
    receiver.pytest_runtest_logreport(judged(result(0), of_first.format("booted")))  # type: ignore[arg-type]
    receiver.pytest_runtest_logreport(judged(result(1), of_first.format("forked")))  # type: ignore[arg-type]
    receiver.pytest_runtest_logreport(judged(result(2), of_other.format("booted")))  # type: ignore[arg-type]
    receiver.pytest_runtest_logreport(judged(result(3, target=TARGETS[1]), of_other))  # type: ignore[arg-type]
    verdicts = {each.claim_id: each.verdict for each in here.results}
    unproven = verdicts.pop("claim.2")
    assert (unproven, set(verdicts.values())) == (Verdict.UNPROVEN, {Verdict.KEPT})
    assert "built anew while it was checked" in next(each.reason for each in here.results if each.reason)
    assert here.cells.identities[TARGETS[0].name] == of_first.format("forked")


def test_workers_get_the_seed() -> None:
    node = SimpleNamespace(workerinput={})
    Receiver(session()).pytest_configure_node(node)  # type: ignore[arg-type]
    assert node.workerinput == {parallel.SEED: 7}


@pytest.mark.parametrize(
    ("cores", "memory", "machine", "workers"),
    [(2, 8192, 100, 2), (64, 8192, 100, 20), (8, 700, 256, 1), (8, 100, 256, 1), (1, 99999, 1, 1)],
)
def test_as_many_workers_as_cores_and_memory_allow(
    cores: int, memory: int, machine: int, workers: int
) -> None:
    assert fitting(cores, memory * MIB, machine * MIB) == workers


def test_a_machine_takes_what_was_measured_or_all_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "measured_forks", lambda: ())
    assert parallel.machine_bytes(256 * MIB) == (256 + TRANSLATED_MIB) * MIB
    monkeypatch.setattr(parallel, "measured_forks", lambda: (10 * MIB, 30 * MIB))
    assert parallel.machine_bytes(256 * MIB) == (90 + TRANSLATED_MIB) * MIB
    assert parallel.machine_bytes(64 * MIB) == (64 + TRANSLATED_MIB) * MIB


def test_the_host_has_memory() -> None:
    assert parallel.available_memory() > MIB


def test_an_interrupt_reaches_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout is not None
            worker.stdout.readline()  # who started the tests may have had SIGINT ignored
            assert worker.pid in parallel.children()
            monkeypatch.setattr(parallel, "children", lambda: (worker.pid,))
            Receiver(session()).pytest_keyboard_interrupt()  # type: ignore[arg-type]
            assert worker.wait(10) == -signal.SIGINT
        finally:
            worker.kill()
