"""What of the host no package can mend: the cache, free space, the accelerator, Python's packages."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from rich.filesize import decimal

from hostwalk.cache import Cache
from hostwalk.doctor import Finding
from hostwalk.errors import HostwalkError
from hostwalk.machine import accel
from hostwalk.target import Arch, Target

SPACE_NEEDED = 2_000_000_000
"""Bytes that the kernels and builds of a wide matrix take."""


def look(archs: Iterable[Arch]) -> Iterator[Finding]:
    """Yield a finding for each; looks at the accelerator of each architecture by booting a probe."""
    yield cache_writable()
    yield free_space()
    yield python_packages()
    for arch in archs:
        yield accelerator(arch)


def cache_writable() -> Finding:
    """Look whether the cache can be written."""
    try:
        cache = Cache.user()
        with cache.temporary():
            return Finding("cache", ok=True, detail=f"{cache.root} can be written")
    except HostwalkError as error:
        return Finding("cache", ok=False, detail=f"{error.message}; {error.remedy}")


def free_space() -> Finding:
    """Look whether the cache's disk has room."""
    try:
        place = Cache.user().root
    except HostwalkError as error:
        return Finding("free disk space", ok=False, detail=error.message)
    free = shutil.disk_usage(_existing(place)).free
    enough = free >= SPACE_NEEDED
    advice = "" if enough else f"; {decimal(SPACE_NEEDED)} are needed"
    return Finding("free disk space", ok=enough, detail=f"{decimal(free)} at {place}{advice}")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def python_packages() -> Finding:
    """Look whether what hostwalk was installed with is still there, in versions that will do."""
    try:
        wanted = [Requirement(line) for line in importlib.metadata.requires("hostwalk") or []]
    except importlib.metadata.PackageNotFoundError:
        return Finding("Python packages", ok=False, detail="hostwalk itself is not installed; pip install it")
    lacking = [str(each) for each in wanted if _lacks(each)]
    detail = f"{', '.join(lacking)} missing; pip install hostwalk again" if lacking else "as installed"
    return Finding("Python packages", ok=not lacking, detail=detail)


def _lacks(wanted: Requirement) -> bool:
    if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
        return False
    try:
        return not wanted.specifier.contains(importlib.metadata.version(wanted.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return True


def accelerator(arch: Arch) -> Finding:
    """Look which accelerator a run would choose; having none to speed it up is no fault."""
    name = f"accelerator for {arch}"
    try:
        chosen = accel.choose(Target(arch))
    except HostwalkError as error:
        return Finding(name, ok=False, detail=error.message)
    return Finding(name, ok=True, detail=f"{chosen.name}: {chosen.reason}")
