"""Symbols and layout of the kernel in somebody else's guest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hostwalk.cache import Cache
from hostwalk.errors import UsageError
from hostwalk.image import Layout, build_exerciser
from hostwalk.kernels import Kernel, Progress, resolve
from hostwalk.kernels.symbols import Symbols, from_system_map
from hostwalk.target import Arch, format_named
from hostwalk.walking.guest import Build


@dataclass(frozen=True)
class Sources:
    """Where they come from: a kernel's spec gives both; a System.map and a built exerciser come first."""

    kernel: str | None = None
    symbols: Path | None = None
    layout: Path | None = None
    headers: Path | None = None
    mirror: str | None = None
    page_format: str = ""


def build_of(sources: Sources, arch: Arch, cache: Cache, progress: Progress) -> Build:
    """Return what the sources give; raises ResolveError, FetchError, BuildError, LayoutError, UsageError."""
    kernel = _kernel(sources, arch, cache, progress) if sources.kernel else None
    symbols = _symbols(sources.symbols) if sources.symbols else kernel.symbols if kernel else None
    if sources.layout:
        return Build(symbols, _layout(sources.layout))
    return Build(symbols, Layout.load(build_exerciser(kernel, cache, progress)) if kernel else None)


def _kernel(sources: Sources, arch: Arch, cache: Cache, progress: Progress) -> Kernel:
    return resolve(
        sources.kernel or "",
        arch,
        cache=cache,
        mirror=sources.mirror,
        progress=progress,
        headers=sources.headers,
        page_format=format_named(sources.page_format),
    )


def _symbols(path: Path) -> Symbols:
    try:
        return from_system_map(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except OSError as error:
        raise UsageError(f"cannot read --symbols {path}: {error.strerror}") from error


def _layout(path: Path) -> Layout:
    if not path.is_file():
        raise UsageError(f"there is no --layout {path}")
    return Layout.load(path)
