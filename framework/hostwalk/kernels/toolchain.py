"""The compiler for an architecture, and what ``make`` must be told to use it."""

from __future__ import annotations

import functools
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.errors import BuildError
from hostwalk.target import Arch

_GCC = re.compile(r"gcc-(\d+)|\(.*\) (\d+)\.\d+")


@dataclass(frozen=True)
class Toolchain:
    """A C compiler: CROSS_COMPILE, CC, and the first line that it prints about itself."""

    arch: Arch
    prefix: str
    cc: str
    version: str

    @property
    def variables(self) -> Mapping[str, str]:
        """What goes on the command line of ``make``."""
        return {"ARCH": self.arch.kernel, "CROSS_COMPILE": self.prefix, "CC": self.cc}


def host_arch() -> Arch:
    """Return the architecture of this machine; raises UsageError for one that hostwalk does not know."""
    return Arch.parse(platform.machine())


def find(arch: Arch, config: Mapping[str, str] | None = None) -> Toolchain:
    """Return the compiler for an architecture: the one that built the kernel if there, else the default.

    Raises MissingToolError.
    """
    prefix = f"{arch.gnu}-"
    names = [f"{prefix}gcc", *(["gcc"] if arch is host_arch() else [])]
    built_with = _major((config or {}).get("CONFIG_CC_VERSION_TEXT", ""))
    choices = [f"{name}-{built_with}" for name in names if built_with] + names
    cc = next((name for name in choices if shutil.which(name)), None)
    if cc is None:
        package = "gcc" if arch is host_arch() else f"gcc-{arch.gnu.replace('_', '-')}"
        cc = Path(process.find_tool(names[0], package)).name
    has_binutils = shutil.which(f"{prefix}ld") is not None
    return Toolchain(arch, prefix if has_binutils else "", cc, _version(shutil.which(cc) or cc))


def _major(text: str) -> str:
    match = _GCC.search(text)
    return (match[1] or match[2]) if match else ""


@functools.cache
def _version(cc: str) -> str:
    done = process.run([cc, "--version"], deadline=Deadline.after(30), error=BuildError, what="the compiler")
    return next(iter(done.stdout.splitlines()), cc)
