"""Kernels that are built: how they are named, and where their source is.

``source:VERSION`` is Debian's source package of it (linux-source-7.3), ``tree:PATH`` a git tree or an unpacked
source. Both take ``+NAME`` at their end, a further fragment of images/config: ``source:7.3+debug``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hostwalk import process
from hostwalk.cache import key_of
from hostwalk.deadline import Deadline
from hostwalk.errors import FetchError, ResolveError, UsageError
from hostwalk.kernels import deb
from hostwalk.kernels.apt import Package
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.index import Index
from hostwalk.kernels.versions import upstream, version_order
from hostwalk.manifest import Check

RECIPE = "source-1"
UNPACK_SECONDS = 3600.0
_SOURCE = re.compile(r"source:(?P<version>\d+\.\d+(?:\.\d+)*)(?P<extra>(?:\+[a-z0-9-]+)*)")
_VERSION = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_TAR = re.compile(r"usr/src/linux-source-[0-9.]+\.tar\.xz")


@dataclass(frozen=True)
class Wanted:
    """A kernel that is to be built: ``version`` of Debian's source, or else ``path``; ``extra`` fragments."""

    spec: str
    version: str
    path: Path
    extra: tuple[str, ...]

    @classmethod
    def parse(cls, spec: str) -> Wanted:
        """Return what a spec asks for; raises UsageError for another form."""
        if spec.startswith("tree:"):
            path, extra = _split(spec.removeprefix("tree:"))
            return cls(spec, "", path, extra)
        match = _SOURCE.fullmatch(spec)
        if match is None:
            raise UsageError(
                f"not a kernel to build: {spec!r}",
                remedy="write source:VERSION or tree:PATH, with +debug at the end for a debug kernel",
            )
        return cls(spec, match["version"], Path(), tuple(match["extra"].split("+")[1:]))


def _split(text: str) -> tuple[Path, tuple[str, ...]]:
    """Return path and fragments; a plus sign belongs to the path where such a directory is there."""
    if not text:
        raise UsageError("tree: names no directory", remedy="write tree:PATH: tree:. or tree:~/linux")
    path, extra = Path(text).expanduser(), list[str]()
    while not path.is_dir() and (match := re.fullmatch(r"(.+)\+([a-z0-9-]+)", str(path))):
        path, extra = Path(match[1]), [match[2], *extra]
    return path, tuple(extra)


@dataclass(frozen=True)
class Tree:
    """A kernel's source. ``identity`` tells it from others, ``version`` is what its Makefile says."""

    path: Path
    identity: str
    version: str


def tree_at(path: Path) -> Tree:
    """Return the source in a directory of a user; raises ResolveError where none is."""
    return Tree(path.resolve(), f"tree:{path.resolve()}", version_in(path))


def version_in(path: Path) -> str:
    """Return the version of Linux that a tree's Makefile names; raises ResolveError."""
    makefile = path / "Makefile"
    text = makefile.read_text(errors="replace") if makefile.is_file() and (path / "Kbuild").is_file() else ""
    fields = dict(_VERSION.findall(text))
    if not {"VERSION", "PATCHLEVEL"} <= fields.keys():
        raise ResolveError(
            f"{path} is no source of Linux", remedy="give the top directory of a kernel tree: tree:PATH"
        )
    sublevel = f".{fields['SUBLEVEL']}" if fields.get("SUBLEVEL") else ""
    return f"{fields['VERSION']}.{fields['PATCHLEVEL']}{sublevel}{fields.get('EXTRAVERSION', '')}"


@dataclass(frozen=True)
class DebianSources:
    """Debian's source packages, fetched and unpacked into the cache."""

    archive: Archive

    def tree(self, version: str) -> Tree:
        """Return the newest source of a version; raises ResolveError, FetchError, CacheError."""
        package = select(self.archive.index(), version)
        try:
            entry = self._unpacked(package)
        except FetchError:
            if self.archive.offline:
                raise
            package = select(self.archive.index(refresh=True), version)
            entry = self._unpacked(package)
        path = entry / "linux"
        return Tree(path, f"source:{package.sha256}", version_in(path))

    def _unpacked(self, package: Package) -> Path:
        key = key_of(RECIPE, package.sha256)
        found = self.archive.cache.lookup("source", key, Check.MARK)
        if found:
            return found
        path = self.archive.fetch(package)

        def make(directory: Path) -> None:
            with self.archive.progress.task(f"unpacking {path.name}", None):
                unpack(path, directory)

        entry = self.archive.cache.entry("source", key, make, check=Check.MARK)
        self.archive.cache.drop(path.parent)
        return entry


def select(index: Index, version: str) -> Package:
    """Return the newest source package of a version, 7.3 or 7.3.4; raises ResolveError that lists what there is."""
    known = [package for package in index.packages if package.name.startswith("linux-source-")]
    fitting = [package for package in known if f"{upstream(package.version)}.".startswith(f"{version}.")]
    if not fitting:
        there = sorted({upstream(package.version) for package in known}, key=version_order)
        raise ResolveError(
            f"Debian has no source of Linux {version}",
            remedy=f"use one of: {', '.join(f'source:{each}' for each in there)}; or a tree: tree:PATH",
        )
    return max(fitting, key=lambda package: version_order(package.version))


def unpack(package: Path, directory: Path) -> None:
    """Unpack a linux-source package into ``directory/linux``; raises ResolveError for another one, OSError."""
    done = deb.extract(package, lambda path: bool(_TAR.fullmatch(path)), directory)
    if not done:
        raise ResolveError(f"{package} holds no source of Linux", remedy="give a linux-source package")
    tar, target = directory / done[0], directory / "linux"
    target.mkdir()
    process.find_tool("xz", "xz-utils")
    argv = [
        process.find_tool("tar", "tar"),
        "-C",
        str(target),
        "--strip-components=1",
        "--no-same-owner",
        "-xJf",
        str(tar),
    ]
    process.run(
        argv, deadline=Deadline.after(UNPACK_SECONDS), error=ResolveError, what="unpacking the source"
    )
    tar.unlink()
