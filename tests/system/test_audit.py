"""The audit, on a subject with a bit of everything: clean as it is, and each sabotage is found."""

import pytest
from busy_subject import busy_subject

from hostwalk.audit import INVARIANTS, collect, judge
from hostwalk.audit.sabotages import SABOTAGES, Scene
from hostwalk.sabotage import SabotageError, altered
from hostwalk.witness import Witness


@pytest.fixture
def busy(cell):
    with busy_subject(cell) as made:
        yield made


def test_a_busy_subject_is_clean(cell, busy):
    # Huge pages of 32 MiB are more than a small guest has.
    assert busy.missing in ((), ("pool",))
    audit = Witness(cell).audit()
    assert audit, str(audit)
    assert audit.processes >= 4
    assert audit.leaves > 500


def test_an_audit_may_be_about_one_process(cell, busy):
    with cell.machine.stopped():
        moment = cell.moment()
        scene = Scene(moment, collect(moment), busy.subject.pid)
        with altered(moment, scene.mm("total_vm", 1)):
            assert judge(collect(cell.moment()), frozenset({busy.child.pid}))
            found = judge(collect(cell.moment()), frozenset({busy.subject.pid}))
    assert found.broken == {"13.total_vm"}
    assert f"(pid {busy.subject.pid}): mm total_vm is" in str(found)


def test_every_sabotage_is_found(cell, busy):
    cell.settle()
    with cell.machine.stopped():
        seen = collect(cell.moment())
        applied = [each for each in INVARIANTS.values() if each.applies(seen)]
        outcomes = {
            (each.id, alter.__name__): _found(cell, busy, each.id, alter)
            for each in applied
            for alter in SABOTAGES[each.id]
        }
        again = judge(collect(cell.moment()))
    assert {what: done for what, done in outcomes.items() if done != "found"} == {}
    assert again, f"what was altered did not go back:\n{again}"


def _found(cell, busy, invariant, alter):
    moment = cell.moment()
    try:
        writes = alter(Scene(moment, collect(moment), busy.subject.pid))
    except SabotageError as error:
        return str(error)
    with altered(moment, writes):
        audit = judge(collect(cell.moment()))
    return "found" if invariant in audit.broken else f"unnoticed; found instead: {sorted(audit.broken)}"


@pytest.mark.parametrize("prot", ["r", "none"])
def test_rights_that_are_gone_are_gone_for_every_processor(cell, subject, prot):
    area = subject.mmap(pages=8)
    with Witness(cell).probe(area) as probe:
        subject.mprotect(area, prot)
    assert probe.faulted, str(probe)
