"""Static libraries that other people's tests link against: Debian's packages of the guest's architecture, unpacked.

Nothing of them is installed on the host, and the guest needs none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hostwalk.cache import Cache, key_of
from hostwalk.kernels import deb
from hostwalk.kernels.archive import Archive
from hostwalk.target import Arch

RECIPE = "libraries-1"
PACKAGES = ("libcap-dev", "libnuma-dev", "liburing-dev")
_KEEP = ("usr/include/*", "usr/lib/*.a")


@dataclass(frozen=True)
class Libraries:
    """Headers and archives below ``root``; ``identity`` is that of the packages."""

    root: Path
    arch: Arch
    identity: str

    @property
    def headers(self) -> Path:
        """Where headers are."""
        return self.root / "usr/include"

    @property
    def archives(self) -> Path:
        """Where ``lib*.a`` are."""
        return self.root / "usr/lib" / self.arch.gnu


def libraries(arch: Arch, archive: Archive, cache: Cache) -> Libraries:
    """Return the libraries, unpacked if they are not in the cache.

    Raises FetchError, ResolveError, CacheError.
    """
    packages = archive.packages(PACKAGES, arch)
    key = key_of(RECIPE, arch, *(package.sha256 for package in packages))

    def make(directory: Path) -> None:
        for package in packages:
            deb.extract(archive.fetch(package), is_kept, directory)

    return Libraries(cache.entry("libraries", key, make), arch, key)


def is_kept(path: str) -> bool:
    """Return whether a file of a package is a header or an archive."""
    return any(fnmatchcase(path, pattern) for pattern in _KEEP)
