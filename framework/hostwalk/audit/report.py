"""What an audit found, in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hostwalk.audit.evidence import NOWHERE, Evidence
from hostwalk.audit.invariant import INVARIANTS, Breach, Invariant
from hostwalk.errors import HostwalkError
from hostwalk.linux import Mm

LISTED = 4


@dataclass(frozen=True)
class Finding:
    """An invariant that does not hold in one process: where (``count`` addresses, the first ones listed) and why.

    ``lines`` shows the first entry as decoded, its mapping and its page.
    """

    invariant: Invariant
    who: str
    pid: int
    why: str
    addresses: tuple[int, ...] = ()
    count: int = 0
    lines: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The invariant's."""
        return self.invariant.id

    def __str__(self) -> str:
        where = ", ".join(f"{address:#x}" for address in self.addresses)
        more = f" and {self.count - len(self.addresses)} more" if self.count > len(self.addresses) else ""
        place = f" at {where}{more}" if where else ""
        return "\n".join([f"invariant {self.invariant}", f"  {self.who}{place}: {self.why}", *self.lines])


@dataclass(frozen=True)
class Audit:
    """What an audit looked at and what it found; true when nothing was found."""

    findings: tuple[Finding, ...]
    processes: int
    leaves: int
    frames: int
    checked: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.findings

    @property
    def broken(self) -> frozenset[str]:
        """The ids of the invariants that do not hold."""
        return frozenset(finding.id for finding in self.findings)

    def confirmed_by(self, later: Audit) -> Audit:
        """Return the later audit with those of its findings that this one has too: same invariant, same process."""
        known = {(finding.id, finding.pid) for finding in self.findings}
        kept = tuple(finding for finding in later.findings if (finding.id, finding.pid) in known)
        return replace(later, findings=kept)

    def __str__(self) -> str:
        seen = f"{self.leaves} entries and {self.frames} page frames of {self.processes} processes"
        head = f"audit of {seen}, {len(self.checked)} invariants: {len(self.findings) or 'no'} findings"
        return "\n".join([head, *map(str, self.findings)])


def judge(seen: Evidence, pids: frozenset[int] | None = None) -> Audit:
    """Check every invariant that applies; keep the findings about some processes, by default about all."""
    applied = [each for each in INVARIANTS.values() if each.applies(seen)]
    findings = [
        finding
        for each in applied
        for breach in each.check(seen)
        for finding in _findings(seen, each, breach)
        if pids is None or finding.pid in pids
    ]
    return Audit(
        tuple(findings), len(seen.spaces), len(seen.leaves), len(seen.frames.pfn) - 1,
        tuple(each.id for each in applied),
    )  # fmt: skip


def _findings(seen: Evidence, broken: Invariant, breach: Breach) -> list[Finding]:
    """Return a finding for each process that the breach is in."""
    if breach.leaves is None:
        space = seen.spaces[breach.space or 0]
        return [Finding(broken, str(space), space.pid, breach.why)]
    found = []
    for i in sorted(set(seen.space[breach.leaves].tolist())):
        here, space = breach.leaves[seen.space[breach.leaves] == i], seen.spaces[i]
        addresses = tuple(int(at) for at in seen.leaves.virt_addr[here[:LISTED]])
        lines = tuple(f"    {line}" for line in _decoded(seen, int(here[0])))
        found.append(Finding(broken, str(space), space.pid, breach.why, addresses, len(here), lines))
    return found


def _decoded(seen: Evidence, leaf: int) -> list[str]:
    """Return an entry, its mapping and its page as lines."""
    lines = [f"entry   {seen.leaves[leaf]}", f"mapping {_mapping(seen, leaf)}"]
    if seen.frame[leaf] != NOWHERE and seen.linux is not None:
        lines.append(f"page    {seen.linux.page(int(seen.leaves.pfn[leaf]))}")
    return lines


def _mapping(seen: Evidence, leaf: int) -> str:
    if seen.vma[leaf] == NOWHERE:
        return "none"
    start, end = (int(column[seen.vma[leaf]]) for column in (seen.vmas.start, seen.vmas.end))
    if seen.linux is None:
        return f"{start:012x}-{end:012x} flags {int(seen.vmas.flags[seen.vma[leaf]]):#x}"
    try:
        return str(Mm(seen.linux, seen.spaces[seen.space[leaf]].address).vma(start))
    except HostwalkError as error:
        return f"{start:012x}-{end:012x}: {error.message}"
