"""What a run of the contract was asked for; the command line and the plugin share it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hostwalk.kernels.index import Wanted
from hostwalk.target import Target, matrix

DEBIAN = "debian:"


def command() -> str:
    """Return how hostwalk was started, for commands that people paste: ``./hostwalk`` or ``hostwalk``."""
    return os.environ.get("HOSTWALK_COMMAND", "hostwalk")


@dataclass(frozen=True)
class CheckOptions:
    """A request to check the contract; an empty tuple means the default.

    ``memory`` is in MiB. ``keyword`` is a ``-k`` expression of pytest. ``headers`` and ``symbols`` belong to
    a kernel that was given as a file. ``seed`` None draws one, and the run prints it.
    """

    kernels: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    accel: str = "auto"
    memory: int = 256
    cpus: int = 1
    keyword: str = ""
    sabotage: bool = False
    mirror: str | None = None
    headers: Path | None = None
    symbols: Path | None = None
    seed: int | None = None
    verbose: int = 0
    nodeids: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[Target, ...]:
        """The cells asked for, in a stable order; raises UsageError when there are none or one makes no sense."""
        targets = matrix(
            self.archs, self.kernels, self.formats,
            accel=self.accel, memory=self.memory, cpus=(self.cpus,),
        )  # fmt: skip
        for target in targets:
            if target.kernel.startswith(DEBIAN):
                Wanted.parse(target.kernel, target.arch)
        return targets

    def pytest_arguments(self) -> list[str]:
        """Return the request as options of the pytest plugin."""
        return [*self._matrix_arguments(), *self._file_arguments(), *self._selection_arguments()]

    def _matrix_arguments(self) -> list[str]:
        return [
            *(f"--hostwalk-kernel={spec}" for spec in self.kernels),
            *(f"--hostwalk-arch={arch}" for arch in self.archs),
            *(f"--hostwalk-format={name}" for name in self.formats),
            f"--hostwalk-accel={self.accel}",
            f"--hostwalk-memory={self.memory}",
            f"--hostwalk-smp={self.cpus}",
        ]

    def _file_arguments(self) -> list[str]:
        values = {"mirror": self.mirror, "headers": self.headers, "symbols": self.symbols}
        return [f"--hostwalk-{name}={value}" for name, value in values.items() if value is not None]

    def _selection_arguments(self) -> list[str]:
        return [
            *(["--hostwalk-sabotage"] if self.sabotage else []),
            *([f"--hostwalk-seed={self.seed}"] if self.seed is not None else []),
            *(["-k", self.keyword] if self.keyword else []),
        ]
