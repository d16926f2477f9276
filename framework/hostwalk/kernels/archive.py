"""Debian's archive as the rest of hostwalk uses it: an index that is kept, packages fetched once."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostwalk.cache import Cache
from hostwalk.errors import FetchError, ResolveError
from hostwalk.kernels import index as index_module
from hostwalk.kernels.apt import Apt, Machine, Package
from hostwalk.kernels.index import Index
from hostwalk.kernels.mirrors import SOURCE_SUITE, VARIABLE, choose
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.manifest import Check
from hostwalk.target import Arch

_KIND, _KEY = "apt", "debian"
_INDEX, _PACKAGES = "index.json", "packages.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Archive:
    """Debian's archive through a cache; with ``offline`` only what the cache has.

    ``sources``: the archive of kernels' sources, which has one more suite and an index of its own.
    """

    cache: Cache
    mirror: str | None = None
    progress: Progress = SILENT
    offline: bool = False
    sources: bool = False

    def index(self, refresh: bool = False) -> Index:
        """Return the index, read again if it is older than a day; without network a kept one serves.

        Raises FetchError when there is none and it cannot be read.
        """
        kept = index_module.load(self._index_path)
        if kept and (self.offline or (kept.is_fresh(self._wish) and not refresh)):
            return kept
        if self.offline:
            raise FetchError("no list of Debian's kernels is in the cache", remedy="run once with a network")
        with self.cache.workspace(_KIND, self._key) as room:
            return self._read_again(room, kept)

    def packages(self, names: Sequence[str], arch: Arch) -> tuple[Package, ...]:
        """Return the newest version of each named package; raises FetchError, ResolveError where there is none."""
        kept, index = index_module.load(self._packages_path), self.index()
        if (
            kept is None
            or not _covers(kept, names, arch)
            or (kept.fetched < index.fetched and not self.offline)
        ):
            with self.cache.workspace(_KIND, _KEY) as room:
                found = (*_current(kept, index), *Apt(room).packages(names))
                kept = Index(tuple(dict.fromkeys(found)), index.fetched, index.attempted, index.wish)
                index_module.save(kept, self._packages_path)
        return tuple(_newest(kept, name, arch) for name in names)

    def fetch(self, package: Package) -> Path:
        """Return a package's file, whole as the signed index says; raises FetchError or CacheError."""
        entry = self.cache.entry("deb", package.sha256[:32], self._downloader(package), check=Check.HASH)
        return entry / package.file_name

    def _downloader(self, package: Package) -> Callable[[Path], None]:
        is_damaged = (self.cache.root / "deb" / package.sha256[:32]).is_dir()

        def download(directory: Path) -> None:
            if is_damaged:
                _log.warning("%s is damaged in the cache and is fetched again", package.file_name)
            if self.offline:
                how = "damaged" if is_damaged else "not"
                raise FetchError(
                    f"{package.file_name} is {how} in the cache", remedy="run once with a network"
                )
            text = f"fetching {package.name} {package.version}"
            with self._apt() as apt, self.progress.task(text, package.size) as report:
                apt.download(package, directory, lambda percent: report(package.size * percent // 100))

        return download

    @property
    def _wish(self) -> str:
        return (self.mirror or os.environ.get(VARIABLE, "")).strip()

    @property
    def _packages_path(self) -> Path:
        return self.cache.root / _KIND / _KEY / _PACKAGES

    @property
    def _key(self) -> str:
        return f"{_KEY}-sources" if self.sources else _KEY

    @property
    def _index_path(self) -> Path:
        return self.cache.root / _KIND / self._key / _INDEX

    @contextlib.contextmanager
    def _apt(self) -> Iterator[Apt]:
        with self.cache.workspace(_KIND, self._key) as room:
            yield self._configured(room)

    def _configured(self, room: Path) -> Apt:
        machine, apt = Machine.read(), Apt(room)
        mirrors = choose(machine.sources(), self._wish)
        apt.configure(machine, mirrors.with_suite(SOURCE_SUITE) if self.sources else mirrors)
        return apt

    def _read_again(self, room: Path, kept: Index | None) -> Index:
        newer = index_module.load(self._index_path)
        if newer and newer != kept and newer.is_fresh(self._wish):
            return newer
        try:
            index = self._read(room)
        except FetchError as error:
            serves = kept or self._from_lists(room)
            if not serves:
                raise
            _log.warning("Debian's list of kernels could not be read, a kept one serves: %s", error.message)
            return index_module.note_attempt(serves, self._wish, self._index_path)
        index_module.save(index, self._index_path)
        return index

    def _from_lists(self, room: Path) -> Index | None:
        """Return what apt fetched and verified before, where only the digest of it was lost."""
        packages = tuple(self._wanted(Apt(room).packages()))
        return Index(packages, 0.0, 0.0, self._wish) if packages else None

    def _read(self, room: Path) -> Index:
        apt = self._configured(room)
        with self.progress.task("reading Debian's package index", 100) as report:
            apt.update(report)
        found = index_module.make(self._wanted(apt.packages()), self._wish)
        if not (found.packages if self.sources else found.images()):
            raise FetchError(
                "the mirror lists no kernels", remedy=f"name another one: --mirror URL or {VARIABLE}=URL"
            )
        return found

    def _wanted(self, packages: Iterable[Package]) -> Iterator[Package]:
        """Yield the packages that this index is for."""
        return (package for package in packages if self.sources == package.name.startswith("linux-source-"))


def _current(kept: Index | None, index: Index) -> tuple[Package, ...]:
    """Return the packages that were looked up, for other names, since the index was read."""
    return kept.packages if kept and kept.fetched >= index.fetched else ()


def _covers(index: Index, names: Iterable[str], arch: Arch) -> bool:
    return all(index.newest(name, arch.debian) for name in names)


def _newest(index: Index, name: str, arch: Arch) -> Package:
    found = index.newest(name, arch.debian)
    if found is None:
        raise ResolveError(
            f"Debian has no package {name} for {arch}",
            remedy="hostwalk kernels list --refresh, then try again",
        )
    return found
