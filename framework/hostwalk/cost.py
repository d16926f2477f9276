"""What a claim's subject has cost the kernel: page faults and page tables, read from its own accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hostwalk.errors import HostwalkError

if TYPE_CHECKING:
    from hostwalk.guest.process import Process
    from hostwalk.witness import Witness


@dataclass(frozen=True)
class Cost:
    """Page faults of a process so far, and the bytes of its page tables now."""

    minor_faults: int
    major_faults: int
    table_bytes: int

    @classmethod
    def of(cls, witness: Witness, subject: Process) -> Self | None:
        """Return a subject's, once it has had time to end what it was doing.

        None where the machine or the subject's address space cannot be read any more.
        """
        if witness.cell.broken:
            return None
        try:
            witness.cell.settle()
            with witness.moment() as moment:
                task = moment.linux.task(subject.pid)
                return cls(*task.faults, task.mm.pgtables_bytes) if task.mm is not None else None
        except HostwalkError:
            return None

    def since(self, before: Cost) -> tuple[tuple[str, int], ...]:
        """Return by name what was added since ``before``; page tables as they are now."""
        return (
            ("minor faults", self.minor_faults - before.minor_faults),
            ("major faults", self.major_faults - before.major_faults),
            ("page-table bytes", self.table_bytes),
        )
