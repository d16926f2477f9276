from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import json
from contextlib import nullcontext
from types import SimpleNamespace
import pytest
from hostwalk import twice
from hostwalk.claim import claim_of
from hostwalk.observed import NOTHING
from hostwalk.plugin import SESSION
from hostwalk.sabotage import Saboteur
from hostwalk.witness import Witness

COUNTS = {"clean": 0, "altered": 0}

class Eyes(Witness):
    observed = NOTHING

    def __init__(self, saboteur):
        self.cell = SimpleNamespace(broken=False)
        self.saboteur, self.readings = saboteur, []
        self.layout = {"LINUX_VERSION_CODE": 0x060C00}
        self.machine = SimpleNamespace(explain=lambda error: None)

    def number(self):
        self.saboteur and setattr(self.saboteur, "done", True)
        return 8 if self.saboteur else 7

    def check_console(self, claim): pass
    def check_invariants(self): raise AssertionError("no audit in a sabotage run")
    def prefer_crash(self, error): pass
    def told(self, failure, comparison): return None
    def observing(self, claim, subject): return nullcontext()

@pytest.fixture
def witness(request):
    clean = twice.is_clean(request.node)
    COUNTS["clean" if clean else "altered"] += 1
    return Eyes(None if clean else Saboteur(claim_of(request.node).sabotage))

def pytest_sessionfinish(session):
    results = session.config.stash[SESSION].results
    told = {each.claim_id: [str(each.verdict), each.reason, each.detail] for each in results}
    (session.config.rootpath / "results.json").write_text(json.dumps([told, COUNTS]))
"""
HEAD = """
from hostwalk.claim import claim, departure, not_applicable
from hostwalk.sabotage import refcount
ONCE = dict(sabotage=refcount(+1))
"""


@pytest.fixture
def judged(pytester: pytest.Pytester) -> dict[str, list[str]]:
    """Return verdict, reason and detail of each claim below, as a sabotage run finds them."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        HEAD
        + """
@claim("a.notices", "p(2)", "S", **ONCE)
def test_notices(target, witness):
    assert witness.number() == 7

@claim("a.deaf", "p(2)", "S", **ONCE)
def test_deaf(target, witness):
    assert witness.number() > 0

@claim("a.blind", "p(2)", "S", **ONCE)
def test_blind(target, witness):
    assert True

@claim("a.broken", "p(2)", "S", **ONCE)
def test_broken(target, witness):
    assert witness.number() == 9

@claim("a.elsewhere", "p(2)", "S", **ONCE)
def test_elsewhere(target, witness):
    not_applicable("no such thing here")

@claim("a.departs", "p(2)", "S", departs=departure("lies", cites="mm/a.c", shows="== 9"), **ONCE)
def test_departs(target, witness):
    assert witness.number() == 9

@claim("a.mended", "p(2)", "S", departs=departure("lied", cites="mm/a.c", shows="."), **ONCE)
def test_mended(target, witness):
    assert witness.number() > 0
"""
    )
    pytester.runpytest_inprocess("--hostwalk-sabotage", "--hostwalk-arch=x86_64")
    told, counts = json.loads(Path(pytester.path / "results.json").read_text())
    assert counts == {"clean": 7, "altered": 4}
    return dict(told)


def test_only_what_the_alteration_breaks_is_found(judged: dict[str, list[str]]) -> None:
    assert {name: each[0] for name, each in judged.items()} == {
        "a.notices": "kept",
        "a.deaf": "broken",
        "a.blind": "broken",
        "a.broken": "unproven",
        "a.elsewhere": "n/a",
        "a.departs": "departs",
        "a.mended": "broken",
    }
    assert "kept although the host altered the evidence: _refcount +1" in judged["a.deaf"][2]
    assert "the sabotage never struck" in judged["a.blind"][2]
    assert judged["a.broken"][1] == "with nothing altered the claim is broken already"
