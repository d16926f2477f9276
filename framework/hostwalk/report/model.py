"""The outcome of a run: one result for each claim on each target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hostwalk.errors import UNTESTABLE
from hostwalk.observed import NOTHING, Observed
from hostwalk.report.story import Story
from hostwalk.target import Target


class Verdict(StrEnum):
    """What became of a claim on one target.

    In a sabotage run KEPT means that the sabotage was found, BROKEN that it went unnoticed.
    """

    KEPT = "kept"
    BROKEN = "broken"
    NOT_APPLICABLE = "n/a"
    UNPROVEN = "unproven"
    DEPARTS = "departs"
    """An expected departure of the kernel from its manual page, with a citation: not a failure."""


@dataclass(frozen=True)
class Result:
    """One claim on one target.

    ``page`` is the manual page and ``sentence`` its words, ``reading`` what of them is tested; with ``code``, the
    functions of the source file ``page`` that do it, the sentence is no quotation. ``reason`` says why the claim
    is not applicable, is unproven or departs; ``detail`` explains a broken claim in several lines: what was
    claimed, what the witness saw, the decoded entry. ``rerun`` is a command that repeats just this, ``where`` is
    FILE:LINE.
    ``crashed``: the guest's kernel broke down. ``kernels`` is the condition on versions that the claim makes (empty:
    none), ``departs`` the known departure with its citation, on this kernel or another. ``story`` tells how a claim
    that is broken or unproven came to be so. ``untestable``: the kernel is built from source and could not be built or
    booted. ``observed`` is what another run of the same claim can be compared with.
    """

    claim_id: str
    page: str
    sentence: str
    target: Target
    verdict: Verdict
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    rerun: str = ""
    where: str = ""
    nodeid: str = ""
    crashed: bool = False
    kernels: str = ""
    departs: str = ""
    story: Story | None = None
    untestable: bool = False
    observed: Observed = NOTHING
    reading: str = ""
    code: str = ""

    @property
    def cell(self) -> str:
        """The name of its target without the kernel."""
        return self.target.cell


@dataclass(frozen=True)
class Run:
    """All results of one run.

    ``identities`` tells, per target name, what was really booted (kernel release, SHA-256 of the boot file,
    QEMU's version, the accelerator and why); ``seconds`` is the wall time. ``command`` is the command line that
    asked for it, without what changes nothing in the verdicts; ``shard`` the part of the claims, such as 2/5.
    """

    results: tuple[Result, ...]
    targets: tuple[Target, ...]
    identities: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    seconds: float = 0.0
    sabotage: bool = False
    command: str = ""
    shard: str = ""

    @property
    def counts(self) -> Counter[Verdict]:
        """How many results have each verdict."""
        return Counter(result.verdict for result in self.results)

    @property
    def exit_status(self) -> int:
        """Return 1 when a claim is broken, 3 when one is unproven or nothing was judged, else 0.

        It is 125, not 3, where a kernel from source could not be built or booted. A shard may be empty.
        """
        if self.counts[Verdict.BROKEN]:
            return 1
        if any(result.untestable for result in self.results):
            return UNTESTABLE
        return 3 if self.counts[Verdict.UNPROVEN] or not (self.results or self.shard) else 0

    def having(self, *verdicts: Verdict) -> tuple[Result, ...]:
        """Return the results with one of these verdicts, in order."""
        return tuple(result for result in self.results if result.verdict in verdicts)

    def on(self, target: Target) -> tuple[Result, ...]:
        """Return the results of one target, in order."""
        return tuple(result for result in self.results if result.target == target)


def kernel_in(identity: str) -> str:
    """Return the part of what ``Run.identities`` tells that is about the kernel: its release and its digest."""
    return identity.partition(")")[0]


def by_page(results: Iterable[Result]) -> dict[str, dict[str, list[Result]]]:
    """Group results by manual page and then by claim, each in the order of first appearance."""
    pages: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        pages.setdefault(result.page, {}).setdefault(result.claim_id, []).append(result)
    return pages
