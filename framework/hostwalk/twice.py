"""A sabotage run: each claim's test runs twice, each time with fresh fixtures, first with nothing altered.

Both runs start from the same state, a fork of the same template. So when the claim is kept the first time and fails
the second, after the host has altered what the witness read, the alteration is what made it fail.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest
from _pytest.runner import runtestprotocol

from hostwalk.claim import Claim
from hostwalk.report.model import Verdict
from hostwalk.sabotage import Saboteur
from hostwalk.verdicts import Ending, UnnoticedError

CLEAN = pytest.StashKey[bool]()
"""Of a claim's test: whether it runs for the first time."""
UNFIT = pytest.StashKey[bool]()
"""And whether that has shown that the sabotage would prove nothing here."""


def run(item: pytest.Function, nextitem: pytest.Item | None) -> None:
    """Run a claim's test clean, and sabotaged if the claim was kept; the reports of the last run are logged."""
    where = {"nodeid": item.nodeid, "location": item.location}
    item.ihook.pytest_runtest_logstart(**where)
    item.stash[CLEAN], item.stash[UNFIT] = True, False
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    item.stash[CLEAN] = False
    if item.stash[UNFIT]:
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
    else:
        item._initrequest()
        runtestprotocol(item, nextitem=nextitem)
    item.ihook.pytest_runtest_logfinish(**where)


def is_clean(item: pytest.Item) -> bool:
    """Whether this is the run of a sabotage run in which nothing is altered."""
    return item.stash.get(CLEAN, False)


def unfit(item: pytest.Item, ending: Ending) -> Ending:
    """Give up a sabotage whose clean run ended thus, and return the verdict on it."""
    item.stash[UNFIT] = True
    if ending.verdict is Verdict.BROKEN:
        return Ending(Verdict.UNPROVEN, "with nothing altered the claim is broken already", ending.detail)
    return ending


def noticed(claim: Claim, saboteur: Saboteur) -> Generator[None, object, object]:
    """Run the test (at the ``yield``) and raise UnnoticedError unless an assertion fails after the alteration."""
    try:
        yield
    except (AssertionError, pytest.fail.Exception):
        if not saboteur.done:
            raise
        return True
    if not saboteur.done:
        raise UnnoticedError(f"the sabotage never struck: {claim.sabotage}")
    raise UnnoticedError(f"the claim was kept although the host altered the evidence: {claim.sabotage}")
