"""The audit: what must hold at every quiet moment, of every entry, mapping, page and mm of the guest's processes."""

from hostwalk.audit import accounts, counts, entries, places
from hostwalk.audit.collect import collect
from hostwalk.audit.evidence import Evidence
from hostwalk.audit.invariant import INVARIANTS, Breach, Invariant, at, invariant
from hostwalk.audit.report import Audit, Finding, judge

FAMILIES = (entries, places, counts, accounts)

__all__ = [
    "FAMILIES",
    "INVARIANTS",
    "Audit",
    "Breach",
    "Evidence",
    "Finding",
    "Invariant",
    "at",
    "collect",
    "invariant",
    "judge",
]
