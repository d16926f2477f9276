"""The system registers of a processor, by lower-case name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hostwalk.errors import WalkError
from hostwalk.target import Arch

ARM64_NAMES = (
    "ttbr0_el1", "ttbr1_el1", "tcr_el1", "mair_el1", "sctlr_el1", "contextidr_el1",
    "id_aa64mmfr0_el1", "id_aa64mmfr1_el1", "id_aa64mmfr2_el1",
    "esr_el1", "far_el1", "elr_el1", "vbar_el1", "sp_el0", "pc", "sp", "cpsr",
)  # fmt: skip
ARM64_FRAME = ("x29", "x30")
_HMP_PAIR = re.compile(r"\b(?!FPR|XMM|YMM|ZMM)([A-Z][A-Z0-9]{1,7})\s*=\s*([0-9a-f]{8,16})\b")
_HMP_SEGMENT = re.compile(r"^(ES|CS|SS|DS|FS|GS|LDT|TR) *=([0-9a-f]{4}) ([0-9a-f]{16})", re.MULTILINE)
_HMP_CPL = re.compile(r"\bCPL=(\d)")


@dataclass(frozen=True)
class Registers:
    """One processor's registers: ``registers["cr3"]``. Raises WalkError for a name that was not read."""

    arch: Arch
    values: Mapping[str, int]
    cpu: int = 0

    def __getitem__(self, name: str) -> int:
        try:
            return self.values[name]
        except KeyError:
            raise WalkError(
                f"register {name!r} of processor {self.cpu} was not read",
                remedy=f"known: {', '.join(self.values)}",
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __contains__(self, name: object) -> bool:
        return name in self.values

    @property
    def pc(self) -> int:
        """The address of the instruction that is next."""
        return self["rip" if self.arch is Arch.X86_64 else "pc"]

    @property
    def interrupts(self) -> bool:
        """Whether the processor takes interrupts: RFLAGS.IF, PSTATE.I."""
        return bool(self["rfl"] >> 9 & 1) if self.arch is Arch.X86_64 else not self["cpsr"] >> 7 & 1

    def __str__(self) -> str:
        return "\n".join(f"{name:<18} {value:#018x}" for name, value in self.values.items())


def parse_info_registers(text: str) -> dict[str, int]:
    """Return the registers in what the human monitor's ``info registers`` prints for x86-64.

    Segment bases are called ``fs_base`` and so on. Raises WalkError when CR3 is not among them.
    """
    values = {name.lower(): int(number, 16) for name, number in _HMP_PAIR.findall(text)}
    for name, selector, base in _HMP_SEGMENT.findall(text):
        values[name.lower()] = int(selector, 16)
        values[f"{name.lower()}_base"] = int(base, 16)
    if (cpl := _HMP_CPL.search(text)) is not None:
        values["cpl"] = int(cpl[1])
    if "cr3" not in values:
        raise WalkError(f"no CR3 in QEMU's answer to info registers: {text[:200]!r}")
    return values
