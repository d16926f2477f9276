"""What a run of the contract was asked for; the command line and the plugin share it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hostwalk.errors import UsageError
from hostwalk.kernels import check_buildable
from hostwalk.kernels.index import Wanted
from hostwalk.matrix import DEFAULT, named, project_has
from hostwalk.target import Arch, Target, format_named, is_from_source, matrix

DEBIAN = "debian:"


def command() -> str:
    """Return how hostwalk was started, for commands that people paste: ``./hostwalk`` or ``hostwalk``."""
    return os.environ.get("HOSTWALK_COMMAND", "hostwalk")


@dataclass(frozen=True)
class CheckOptions:
    """A request to check the contract; an empty tuple means the default.

    ``matrix`` names a matrix, which the other choices narrow; without any choice the project's default matrix, if
    it has one, is taken. ``memory`` is in MiB. ``keyword`` is a ``-k`` expression of pytest. ``headers`` and
    ``symbols`` belong to a kernel that was given as a file. ``seed`` None draws one, and the run prints it.
    ``isolation``: each ``claim`` on a machine of its own, or all of a ``cell`` on one. ``workers`` run at once: a
    number, or auto. ``audit``: hold each kept claim's processes against the standing invariants.
    ``shard``: the Ith of N parts of the claims, as ``I/N``. ``instead``: a kernel in the place of each cell's own.
    ``costs``: look at each claim's faults and page tables, before and after.
    ``repro_dir``: where each broken claim leaves a repro script; with ``repro_departures`` each departure too.
    ``pdb``: enter the debugger where a claim fails.
    """

    kernels: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    accel: str = "auto"
    memory: int = 256
    cpus: int = 1
    keyword: str = ""
    sabotage: bool = False
    audit: bool = True
    mirror: str | None = None
    headers: Path | None = None
    symbols: Path | None = None
    seed: int | None = None
    verbose: int = 0
    isolation: str = "claim"
    workers: str = "0"
    nodeids: tuple[str, ...] = ()
    matrix: str = ""
    shard: str = ""
    instead: str = ""
    costs: bool = False
    pdb: bool = False
    repro_dir: Path | None = None
    repro_departures: bool = False

    def __post_init__(self) -> None:
        if self.sabotage and self.repro_dir:
            raise UsageError(
                "what a sabotage shows is the host's own doing: no script can repeat it",
                remedy="leave out --sabotage or --repro-dir",
            )

    @property
    def targets(self) -> tuple[Target, ...]:
        """The cells asked for, in a stable order; raises UsageError when there are none or one makes no sense."""
        targets = self._chosen()
        if self.instead:
            targets = _distinct(replace(target, kernel=self.instead) for target in targets)
        for target in targets:
            if target.kernel.startswith(DEBIAN):
                Wanted.parse(target.kernel, target.arch)
            if is_from_source(target.kernel):
                check_buildable(target.kernel, target.arch, target.format)
        return targets

    def _chosen(self) -> tuple[Target, ...]:
        asked = self.kernels or self.archs or self.formats or self.cpus != 1
        if self.matrix or (not asked and project_has(DEFAULT)):
            cells = named(self.matrix or DEFAULT, accel=self.accel, memory=self.memory)
            return self._narrowed(cells)
        return matrix(
            self.archs, (self.instead,) if self.instead else self.kernels, self.formats,
            accel=self.accel, memory=self.memory, cpus=(self.cpus,),
        )  # fmt: skip

    def _narrowed(self, cells: tuple[Target, ...]) -> tuple[Target, ...]:
        archs = {Arch.parse(arch) for arch in self.archs}
        formats = {format_named(name) for name in self.formats}
        left = tuple(
            cell
            for cell in cells
            if (not archs or cell.arch in archs)
            and (not formats or cell.format in formats)
            and (not self.kernels or cell.kernel in self.kernels)
            and (self.cpus in (1, cell.cpus))
        )
        if not left:
            raise UsageError(
                f"nothing is left of matrix {self.matrix or DEFAULT!r}",
                remedy="ask for less, or for what it has",
            )
        return left

    @property
    def request(self) -> str:
        """The choice of cells and claims as options of ``hostwalk check``, without the seed and what is the default."""
        usual = set(CheckOptions().pytest_arguments())
        words = (word for word in replace(self, seed=None).pytest_arguments() if word not in usual)
        return shlex.join(word.replace("--hostwalk-", "--", 1) for word in words)

    def pytest_arguments(self) -> list[str]:
        """Return the request as options of the pytest plugin."""
        return [*self._matrix_arguments(), *self._file_arguments(), *self._selection_arguments()]

    def _matrix_arguments(self) -> list[str]:
        return [
            *([f"--hostwalk-matrix={self.matrix}"] if self.matrix else []),
            *(f"--hostwalk-kernel={spec}" for spec in self.kernels),
            *(f"--hostwalk-arch={arch}" for arch in self.archs),
            *(f"--hostwalk-format={name}" for name in self.formats),
            f"--hostwalk-accel={self.accel}",
            f"--hostwalk-memory={self.memory}",
            f"--hostwalk-smp={self.cpus}",
            f"--hostwalk-isolation={self.isolation}",
            *([f"--hostwalk-instead={self.instead}"] if self.instead else []),
        ]

    def _file_arguments(self) -> list[str]:
        values = {"mirror": self.mirror, "headers": self.headers, "symbols": self.symbols}
        return [f"--hostwalk-{name}={value}" for name, value in values.items() if value is not None]

    def _selection_arguments(self) -> list[str]:
        return [
            *(["--hostwalk-sabotage"] if self.sabotage else []),
            *([] if self.audit else ["--hostwalk-no-audit"]),
            *([f"--hostwalk-seed={self.seed}"] if self.seed is not None else []),
            *([f"--hostwalk-shard={self.shard}"] if self.shard else []),
            *(["--hostwalk-costs"] if self.costs else []),
            *(["-k", self.keyword] if self.keyword else []),
            *([f"--hostwalk-repro-dir={self.repro_dir.absolute()}"] if self.repro_dir else []),
            *(["--hostwalk-repro-departures"] if self.repro_departures else []),
        ]


def _distinct(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Return them without those that differ in nothing but their memory: of those, the one that has most."""
    found: dict[str, Target] = {}
    for target in targets:
        if target.name not in found or found[target.name].memory < target.memory:
            found[target.name] = target
    return tuple(found.values())
