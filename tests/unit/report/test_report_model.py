from __future__ import annotations

from dataclasses import replace

import pytest

from hostwalk.report.model import Run, Verdict, by_page


def test_a_broken_claim_outweighs_an_unproven_one(run: Run) -> None:
    assert run.exit_status == 1


def test_unproven_is_an_infrastructure_failure(run: Run) -> None:
    rest = tuple(result for result in run.results if result.verdict is not Verdict.BROKEN)
    assert replace(run, results=rest).exit_status == 3


def test_a_kernel_that_cannot_be_tested_is_one_to_skip(run: Run) -> None:
    lost = replace(run.results[0], verdict=Verdict.UNPROVEN, untestable=True)
    other = replace(run.results[0], verdict=Verdict.UNPROVEN)
    assert replace(run, results=(other, lost)).exit_status == 125
    assert replace(run, results=(lost, replace(lost, verdict=Verdict.BROKEN))).exit_status == 1


def test_nothing_judged_proves_nothing() -> None:
    assert Run((), ()).exit_status == 3


@pytest.mark.parametrize("verdict", [Verdict.KEPT, Verdict.NOT_APPLICABLE, Verdict.DEPARTS])
def test_what_is_no_failure(kept: Run, verdict: Verdict) -> None:
    assert replace(kept, results=(replace(kept.results[0], verdict=verdict),)).exit_status == 0


def test_results_are_grouped_by_page_and_claim(run: Run) -> None:
    pages = by_page(run.results)
    assert {page: list(claims) for page, claims in pages.items()} == {
        "get_user_pages(9)": ["gup.ref.1", "gup.ret.2"],
        "vm_insert_page(9)": ["insert.1"],
    }
    assert len(pages["get_user_pages(9)"]["gup.ref.1"]) == 2


def test_results_of_a_target(run: Run) -> None:
    assert [result.claim_id for result in run.on(run.targets[1])] == ["gup.ref.1", "gup.ret.2", "insert.1"]
