"""An SSH server and a small user land for a guest, as a further segment of its initramfs; see images/login.toml."""

from __future__ import annotations

import io
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Self

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from hostwalk import resources
from hostwalk.cache import Cache, key_of
from hostwalk.errors import BuildError
from hostwalk.image import cpio
from hostwalk.image.compile import build_login
from hostwalk.kernels import deb
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.manifest import Check
from hostwalk.target import Arch

RECIPE = "userland-1"
SEGMENT = "userland.cpio"
MANIFEST = "login.toml"
LOGIN = "usr/lib/hostwalk/login"
"""Where the guest's own program for logins lies; also its first process."""
_MERGED = ("bin", "sbin", "lib", "lib64")
_DIRECTORIES = ("root", "run", "var", "var/log", "var/run", "usr/local/bin", "mnt")


@dataclass(frozen=True)
class Manifest:
    """What the user land is made of; ``keep`` and ``omit`` are patterns of paths."""

    packages: tuple[str, ...]
    keep: tuple[str, ...]
    omit: tuple[str, ...]
    links: Mapping[str, str]
    files: Mapping[str, str]
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a manifest's text says."""
        found: dict[str, Any] = tomllib.loads(text)
        packages, keep, omit = (tuple(found[name]) for name in ("packages", "keep", "omit"))
        return cls(packages, keep, omit, found["links"], found["files"], text)

    @classmethod
    def load(cls) -> Self:
        """Return the manifest that comes with hostwalk."""
        return cls.parse((resources.images() / MANIFEST).read_text(encoding="utf-8"))

    def keeps(self, path: str) -> bool:
        """Return whether a file of a package, by its path there, goes into the guest."""
        name = merged(path)
        kept = any(fnmatchcase(name, pattern) for pattern in self.keep)
        return kept and not any(fnmatchcase(name, pattern) for pattern in self.omit)


def merged(path: str) -> str:
    """Return a path as it is where /bin, /sbin, /lib and /lib64 lie below /usr."""
    return f"usr/{path}" if path.partition("/")[0] in _MERGED else path


def build_userland(
    arch: Arch, cache: Cache, *, mirror: str | None = None, progress: Progress = SILENT
) -> Path:
    """Return the segment, a cpio archive, made if it is not in the cache.

    Raises FetchError, ResolveError, BuildError, CacheError.
    """
    manifest, archive = Manifest.load(), Archive(cache, mirror, progress)
    login = build_login(arch, cache, progress)
    packages = archive.packages(manifest.packages, arch)
    key = key_of(RECIPE, manifest.text, login.parent.name, *(package.sha256 for package in packages))

    def make(directory: Path) -> None:
        with cache.temporary() as tree:
            for package in packages:
                deb.extract(archive.fetch(package), manifest.keeps, tree)
            check_libraries(tree)
            (directory / SEGMENT).write_bytes(cpio.write(nodes(tree, manifest, login.read_bytes())))

    return cache.entry("userland", key, make, check=Check.HASH) / SEGMENT


def nodes(tree: Path, manifest: Manifest, login: bytes) -> Iterator[cpio.Node]:
    """Yield what the segment holds: directories before what is in them, all in a stable order."""
    found = {merged(str(path.relative_to(tree))): _node(path) for path in _files(tree)}
    found |= {name: cpio.symlink(name, to) for name, to in manifest.links.items()}
    found |= {name: cpio.file(name, text.lstrip("\n").encode()) for name, text in manifest.files.items()}
    found[LOGIN] = cpio.file(LOGIN, login, 0o755)
    parents = {str(parent) for name in found for parent in PurePosixPath(name).parents} - {"."}
    yield from (cpio.directory(name) for name in sorted({*parents, *_DIRECTORIES, "usr/local"}))
    yield from (cpio.named(found[name], name) for name in sorted(found))


def _files(tree: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(tree):
        folders.sort()
        links = [name for name in folders if Path(directory, name).is_symlink()]
        yield from (Path(directory, name) for name in sorted(names + links))


def _node(path: Path) -> cpio.Node:
    if path.is_symlink():
        return cpio.symlink(path.name, str(path.readlink()))
    return cpio.file(path.name, path.read_bytes(), 0o755 if os.access(path, os.X_OK) else 0o644)


def check_libraries(tree: Path) -> None:
    """Raise BuildError for a shared library that a file of the tree needs and that is not there."""
    there = {path.name for path in _files(tree)}
    for path in _files(tree):
        lacking = sorted(set(_needed(path)) - there)
        if lacking:
            raise BuildError(
                f"the guest's {path.relative_to(tree)} needs {', '.join(lacking)}, which is in no package of it",
                remedy=f"list the package that has it in images/{MANIFEST}",
            )


def _needed(path: Path) -> list[str]:
    data = b"" if path.is_symlink() else path.read_bytes()
    if data[:4] != b"\x7fELF":
        return []
    sections = ELFFile(io.BytesIO(data)).iter_sections()
    dynamic = (section for section in sections if isinstance(section, DynamicSection))
    return [str(getattr(tag, "needed", "")) for section in dynamic for tag in section.iter_tags("DT_NEEDED")]
