from __future__ import annotations

import re

import pytest
from quotations import claims

from hostwalk.claim import Claim

DEPARTING = [each for each in claims() if each.departs is not None]


@pytest.mark.parametrize("each", DEPARTING, ids=[each.id for each in DEPARTING])
def test_a_departure_names_a_commit_or_the_function_that_departs(each: Claim) -> None:
    assert each.departs is not None
    commit = re.search(r"\b[0-9a-f]{12}\b", each.departs.cites)
    function = re.search(r"\w+\.[ch]\b", each.departs.cites) and re.search(r"\w\(\)", each.departs.cites)
    assert commit or function, each.departs.cites


@pytest.mark.parametrize("each", DEPARTING, ids=[each.id for each in DEPARTING])
def test_a_departure_is_shown_by_one_failure_only(each: Claim) -> None:
    assert each.departs is not None
    others = (
        "",
        "assert 3 == 0",
        "assert ('EFAULT', 0) == (None, 2)",
        "EINVAL",
        "EOVERFLOW",
        "VM_LOCKED",
        "VM_MIXEDMAP",
    )
    assert not any(re.search(each.departs.shows, other) for other in others)
