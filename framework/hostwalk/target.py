"""Targets: what is to be booted. One target is one cell of the matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hostwalk.errors import UsageError


class Arch(StrEnum):
    """An architecture; values are what ``--arch`` takes."""

    X86_64 = "x86_64"
    ARM64 = "arm64"

    @classmethod
    def parse(cls, text: str) -> Arch:
        """Return the architecture of a name in any common spelling; raise UsageError."""
        try:
            return _SPELLINGS[text.lower().replace("-", "_")]
        except KeyError:
            raise UsageError(f"unknown architecture {text!r}", remedy="use x86_64 or arm64") from None

    @property
    def debian(self) -> str:
        """Debian's name of the architecture."""
        return {"x86_64": "amd64", "arm64": "arm64"}[self]

    @property
    def kernel(self) -> str:
        """The kernel's ARCH= value."""
        return {"x86_64": "x86", "arm64": "arm64"}[self]

    @property
    def gnu(self) -> str:
        """The GNU triplet's prefix of the compiler."""
        return {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[self]

    @property
    def qemu(self) -> str:
        """The name of the QEMU binary."""
        return {"x86_64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[self]


_SPELLINGS = {
    "x86_64": Arch.X86_64,
    "amd64": Arch.X86_64,
    "x64": Arch.X86_64,
    "arm64": Arch.ARM64,
    "aarch64": Arch.ARM64,
}


@dataclass(frozen=True)
class Cpu:
    """A processor that makes a kernel choose one page-table format."""

    arch: Arch
    format: str
    model: str


_ARM64 = "neoverse-n1"
_ARM64_WIDE = "max,sve=off,sme=off,pauth-impdef=on"
CPUS = (
    Cpu(Arch.X86_64, "4level", "max,la57=off"),
    Cpu(Arch.X86_64, "5level", "max,la57=on"),
    Cpu(Arch.ARM64, "39bit", _ARM64),
    Cpu(Arch.ARM64, "48bit", _ARM64),
    Cpu(Arch.ARM64, "52bit", _ARM64_WIDE),
    Cpu(Arch.ARM64, "16k-36bit", _ARM64),
    Cpu(Arch.ARM64, "16k-47bit", _ARM64),
    Cpu(Arch.ARM64, "16k-48bit", _ARM64),
    Cpu(Arch.ARM64, "16k-52bit", _ARM64_WIDE),
    Cpu(Arch.ARM64, "64k-42bit", _ARM64),
    Cpu(Arch.ARM64, "64k-48bit", _ARM64),
    Cpu(Arch.ARM64, "64k-52bit", _ARM64_WIDE),
)
"""A format is 4 KiB pages unless it names a granule. Only kernels built from source come in all of them."""
GIVEN_FORMATS = ("4level", "5level", "48bit", "52bit")
"""What a processor alone decides, where the kernel is given: its granule is what it was built with."""
_FORMAT_SPELLINGS = {
    "4k-39bit": "39bit", "4k-48bit": "48bit", "4k-52bit": "52bit",
    "36bit": "16k-36bit", "47bit": "16k-47bit", "42bit": "64k-42bit",
}  # fmt: skip
FROM_SOURCE = ("source:", "tree:")
DEFAULT_FORMATS = {Arch.X86_64: "4level", Arch.ARM64: "48bit"}
DEFAULT_KERNEL = "debian:6.12"
LEAST_MEMORY = 64
"""MiB; with less, Debian's kernels and the image do not fit."""


def is_from_source(kernel: str) -> bool:
    """Return whether a kernel's spec asks for one that hostwalk builds."""
    return kernel.startswith(FROM_SOURCE)


def format_named(text: str) -> str:
    """Return the name of a format in another spelling: 16k-36bit for 36bit, 39bit for 4k-39bit."""
    return _FORMAT_SPELLINGS.get(text.lower(), text.lower())


def granule_of(page_format: str) -> str:
    """Return the granule of a format: 4k, 16k or 64k."""
    granule, dash, _ = page_format.partition("-")
    return granule if dash else "4k"


@dataclass(frozen=True)
class Target:
    """One cell: which kernel on which processor, and the machine's shape.

    ``format`` asks for a page-table format by choosing the processor; what the machine then really uses is read
    from its registers, never from here. ``memory`` is in MiB.
    """

    arch: Arch
    kernel: str = DEFAULT_KERNEL
    format: str = ""
    accel: str = "auto"
    memory: int = 256
    cpus: int = 1
    kaslr: bool = False

    def __post_init__(self) -> None:
        chosen = format_named(self.format) or DEFAULT_FORMATS[self.arch]
        object.__setattr__(self, "format", chosen)
        known = [cpu.format for cpu in CPUS if cpu.arch is self.arch]
        if self.format not in known:
            raise UsageError(
                f"{self.arch} has no format {self.format!r}", remedy=f"use one of: {', '.join(known)}"
            )
        if not is_from_source(self.kernel) and self.format not in GIVEN_FORMATS:
            raise UsageError(
                f"{self.kernel} cannot be had as {self.format}: its granule is what it was built with",
                remedy=f"use {', '.join(name for name in GIVEN_FORMATS if name in known)}, "
                "or a kernel that is built: source:VERSION, tree:PATH",
            )
        if self.accel not in ("auto", "tcg", "kvm"):
            raise UsageError(f"unknown accelerator {self.accel!r}", remedy="use auto, tcg or kvm")
        if self.memory < LEAST_MEMORY:
            raise UsageError(f"no kernel boots in {self.memory} MiB", remedy=f"use {LEAST_MEMORY} or more")
        if self.cpus < 1:
            raise UsageError(f"a machine cannot have {self.cpus} processors", remedy="use 1 or more")

    @property
    def cpu(self) -> Cpu:
        """The processor that gives the format."""
        return next(cpu for cpu in CPUS if (cpu.arch, cpu.format) == (self.arch, self.format))

    @property
    def name(self) -> str:
        """Short and unique in a matrix: ``x86_64-4level/debian:6.12``."""
        return f"{self.cell}/{self.kernel}"

    @property
    def cell(self) -> str:
        """The same without its kernel: ``x86_64-4level``."""
        smp = f"-smp{self.cpus}" if self.cpus > 1 else ""
        return f"{self.arch}-{self.format}{smp}"

    def __str__(self) -> str:
        return self.name

    def with_accel(self, accel: str) -> Target:
        """Return the same target on another accelerator."""
        return replace(self, accel=accel)


def matrix(
    archs: Sequence[str] = (),
    kernels: Sequence[str] = (),
    formats: Sequence[str] = (),
    *,
    accel: str = "auto",
    memory: int = 256,
    cpus: Iterable[int] = (1,),
) -> tuple[Target, ...]:
    """Return the cells of a matrix, in a stable order.

    A format that an architecture does not have drops that architecture; raises UsageError when nothing is left.
    """
    chosen = [Arch.parse(arch) for arch in archs] or list(Arch)
    cells = [
        Target(arch, kernel, format_, accel, memory, smp)
        for kernel in kernels or (DEFAULT_KERNEL,)
        for arch in chosen
        for format_ in _formats_of(arch, formats)
        for smp in cpus
    ]
    if not cells:
        raise UsageError(
            f"no architecture of {', '.join(chosen)} has a format of {', '.join(formats)}",
            remedy="known formats: " + ", ".join(f"{cpu.arch} {cpu.format}" for cpu in CPUS),
        )
    return tuple(dict.fromkeys(cells))


def _formats_of(arch: Arch, formats: Sequence[str]) -> list[str]:
    known = [cpu.format for cpu in CPUS if cpu.arch is arch]
    named = [format_named(name) for name in formats]
    return [name for name in named if name in known] if named else [DEFAULT_FORMATS[arch]]
