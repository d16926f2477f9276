from __future__ import annotations

import pytest

from hostwalk.report.model import Result, Run, Verdict
from hostwalk.target import Target, matrix

X86, ARM = matrix(("x86_64", "arm64"))


def result(claim: str, target: Target, verdict: Verdict, **fields: str) -> Result:
    page = fields.pop("page", "get_user_pages(9)")
    return Result(
        claim, page, f"Sentence of {claim} & <more>", target, verdict,
        seconds=0.25, rerun=f"hostwalk check --arch {target.arch} -k {claim}", where="test_gup.py:7",
        nodeid=claim, **fields,
    )  # fmt: skip


@pytest.fixture
def run() -> Run:
    """One result of every verdict, on two targets."""
    evidence = "claimed: 4 pages\nwitness: 3 pages [red]\x1b[31m!\x00\n  pte 0x8000000001234567 present"
    results = (
        result("gup.ref.1", X86, Verdict.KEPT),
        result("gup.ref.1", ARM, Verdict.BROKEN, detail=evidence),
        result("gup.ret.2", X86, Verdict.NOT_APPLICABLE, reason="needs CONFIG_X # yes"),
        result("gup.ret.2", ARM, Verdict.NOT_APPLICABLE, reason="needs CONFIG_X # yes"),
        result("insert.1", X86, Verdict.DEPARTS, reason='commit 0123abc ("mm: x")', page="vm_insert_page(9)"),
        result(
            "insert.1", ARM, Verdict.UNPROVEN, reason="agent: no answer in 10 s", page="vm_insert_page(9)"
        ),
    )
    return Run(results, (X86, ARM), {X86.name: "6.12.1, boot 3fa8, QEMU 7.2, tcg: asked for"}, 4711, 12.3)


@pytest.fixture
def kept() -> Run:
    """Only promises kept."""
    return Run((result("gup.ref.1", X86, Verdict.KEPT),), (X86,), {}, 1, 0.5)
