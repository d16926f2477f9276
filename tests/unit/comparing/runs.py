"""Runs made by hand, for tests of comparisons."""

from __future__ import annotations

from hostwalk.comparing.comparison import Comparison, Side, compared
from hostwalk.observed import NOTHING, Observed, Seen
from hostwalk.report.model import Result, Run, Verdict
from hostwalk.target import Arch, Target

BASE, PATCHED = Side("v6.12", "tree:/b"), Side("v6.12 with fix.mbox", "tree:/p")


def observed(
    *, flags: str = "lru", faults: int = 3, printed: tuple[str, ...] = (), readings: int = 1
) -> Observed:
    """One column of four pages, read so many times."""
    seen = Seen("4 pages", (("page flags", ((flags, 4),)), ("refcount", (("1", 4),))))
    return Observed((seen,) * readings, (("minor faults", faults),), printed)


def result(
    claim: str = "gup.ref.1", verdict: Verdict = Verdict.KEPT, seen: Observed = NOTHING, **fields: str
) -> Result:
    target = Target(Arch.X86_64, fields.pop("kernel", BASE.kernel))
    return Result(
        claim, "get_user_pages(9)", "It holds.", target, verdict, rerun=f"hostwalk check -k {claim}",
        nodeid=f"test_gup.py::test_{claim}[{target}]", observed=seen, **fields,
    )  # fmt: skip


def run(*results: Result) -> Run:
    targets = tuple(dict.fromkeys(each.target for each in results))
    return Run(results, targets, {target.name: f"Linux of {target.kernel}" for target in targets}, 7, 1.0)


def comparison(before: Result, after: Result) -> Comparison:
    return compared(BASE, PATCHED, run(before), run(after))
