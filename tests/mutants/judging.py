"""What a run of the contract said of a kernel, and what of it was not so before."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

LISTED = 6
_INVARIANT = re.compile(r"\binvariant (\d+[.a-z0-9_]*)")


@dataclass(frozen=True)
class Judged:
    """What a run of the contract said: which claims were broken or crashed the guest, which invariants were named.

    ``once``: what was broken in the first run, and not when it was repeated.
    """

    broken: frozenset[str]
    crashed: frozenset[str]
    unproven: frozenset[str]
    invariants: frozenset[str]
    seconds: float = 0.0
    once: frozenset[str] = frozenset()

    @classmethod
    def read(cls, report: Path, seconds: float) -> Judged:
        """Return what a report of check --json says."""
        results = json.loads(report.read_text())["results"]
        broken = [each for each in results if each["verdict"] == "broken"]
        said = "\n".join(f"{each['reason']}\n{each['detail']}" for each in broken)
        return cls(
            frozenset(each["claim"] for each in broken),
            frozenset(each["claim"] for each in results if each["crashed"]),
            frozenset(each["claim"] for each in results if each["verdict"] == "unproven"),
            frozenset(_INVARIANT.findall(said)),
            seconds,
        )

    def beyond(self, base: Judged) -> Judged:
        """Return what was not so before."""
        return Judged(
            self.broken - base.broken, self.crashed - base.crashed, self.unproven - base.unproven,
            self.invariants - base.invariants, self.seconds,
        )  # fmt: skip

    @property
    def repeated(self) -> tuple[str, ...]:
        """The claims to be judged once more, before they count; a few, for each may hang until its deadline."""
        return tuple(sorted(self.broken | self.crashed)[:LISTED])

    def confirmed(self, again: Judged) -> Judged:
        """Return what a second run of the repeated claims showed too; the others stay if one of these does."""
        tried = frozenset(self.repeated)
        once = tried - again.broken - again.crashed
        rest = frozenset() if once == tried else (self.broken | self.crashed) - tried
        left = (tried - once) | rest
        invariants = self.invariants if left else frozenset()
        return replace(
            self, broken=self.broken & left, crashed=self.crashed & left, invariants=invariants, once=once,
            seconds=self.seconds + again.seconds,
        )  # fmt: skip

    @property
    def status(self) -> int:
        """0: somebody noticed, twice. 1: nobody did. 3: nobody did for certain, or not all claims were judged."""
        if self.broken or self.crashed:
            return 0
        return 3 if self.unproven or self.once else 1

    @property
    def words(self) -> str:
        """Who noticed, in a few words; empty if nobody did and all was judged."""
        claims = sorted(self.broken)
        more = f" and {len(claims) - LISTED} more" if len(claims) > LISTED else ""
        parts = [", ".join(claims[:LISTED]) + more]
        if self.invariants:
            parts.append(f"invariants {', '.join(sorted(self.invariants))}")
        if self.crashed:
            parts.append(f"crash in {min(self.crashed)}")
        if self.once:
            parts.append(f"only once: {', '.join(sorted(self.once))}")
        if self.unproven:
            parts.append(f"{len(self.unproven)} unproven")
        return "; ".join(part for part in parts if part)
