"""Kernels that come in Debian packages: from the archive, or a package file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hostwalk import manifest
from hostwalk.cache import Cache, key_of
from hostwalk.errors import FetchError, HostwalkError, ResolveError
from hostwalk.kernels import deb, files, modules, toolchain, unpack
from hostwalk.kernels.apt import Package
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.files import Extras
from hostwalk.kernels.index import Index, Wanted
from hostwalk.kernels.kernel import Headers, Kernel, parse_config
from hostwalk.manifest import Check
from hostwalk.target import Arch


@dataclass(frozen=True)
class Packages:
    """Turns packages into kernels, with all that was downloaded and unpacked kept in the cache."""

    archive: Archive
    arch: Arch
    extras: Extras

    @property
    def cache(self) -> Cache:
        """The cache of the archive."""
        return self.archive.cache

    def from_archive(self, spec: str) -> Kernel:
        """Return the kernel that a ``debian:`` spec names; raises ResolveError, FetchError, CacheError."""
        wanted = Wanted.parse(spec, self.arch)
        index = self.archive.index()
        try:
            return self._selected(wanted, index)
        except FetchError:
            newer = self._newer(index)
            if newer is None:
                raise
            return self._selected(wanted, newer)

    def from_package(self, path: Path, spec: str) -> Kernel:
        """Return the kernel in a package file; headers come from the archive if it has them."""
        fields = deb.control(path)
        built_for = fields.get("Architecture", "")
        if built_for != self.arch.debian:
            raise ResolveError(
                f"{path} is a package for {built_for}, but {self.arch} ({self.arch.debian}) was wanted",
                remedy=f"give a package for {self.arch.debian}, or choose another --arch",
            )
        entry = self._unpacked(manifest.sha256_of(path), lambda: path)
        release = _release(entry)
        return self._kernel(spec, entry, release, lambda: self._headers_of(release, entry))

    def _newer(self, index: Index) -> Index | None:
        """Return an index read again, since a mirror drops old versions; None if there is no other one."""
        if self.archive.offline:
            return None
        newer = self.archive.index(refresh=True)
        return newer if newer.packages != index.packages else None

    def _selected(self, wanted: Wanted, index: Index) -> Kernel:
        image = index.select(wanted)
        entry = self._unpacked(image.package.sha256, lambda: self.archive.fetch(image.package))
        parts = index.headers(image.release, self.arch, toolchain.host_arch())
        return self._kernel(
            wanted.spec, entry, image.release, lambda: self._headers(parts, image.release, entry)
        )

    def _unpacked(self, digest: str, package: Callable[[], Path]) -> Path:
        """Return the directory of an unpacked kernel package, every file of it checked."""
        key = key_of(unpack.KERNEL_RECIPE, digest, *modules.wanted(), *modules.kept())
        found = self.cache.lookup("kernel", key, Check.HASH)
        if found:
            return found
        path = package()

        def make(directory: Path) -> None:
            with self.archive.progress.task(f"unpacking {path.name}", None):
                unpack.kernel(path, directory)

        return self.cache.entry("kernel", key, make, check=Check.HASH)

    def _kernel(self, spec: str, entry: Path, release: str, headers: Callable[[], Headers | None]) -> Kernel:
        boot = entry / "boot" / f"vmlinuz-{release}"
        config = parse_config((entry / "boot" / f"config-{release}").read_text(encoding="utf-8"))
        given = self.extras.headers
        own = files.headers_in(given, self.arch, release, config) if given else headers()
        return Kernel(
            spec, self.arch, release, boot, config, unpack.modules_directory(entry, release), own,
            manifest.digests(entry)[f"boot/{boot.name}"], self.cache, self.extras.symbols,
        )  # fmt: skip

    def _headers_of(self, release: str, entry: Path) -> Headers | None:
        """Return Debian's headers of a release, or None if Debian has none or cannot be asked."""
        try:
            parts = self.archive.index().headers(release, self.arch, toolchain.host_arch())
            return self._headers(parts, release, entry)
        except HostwalkError:
            return None

    def _headers(self, parts: tuple[Package, ...], release: str, entry: Path) -> Headers | None:
        if not parts:
            return None
        key = key_of(unpack.HEADERS_RECIPE, *(part.sha256 for part in parts))
        found = self.cache.lookup("headers", key, Check.MARK) or self._unpack_headers(key, parts)
        config = parse_config((entry / "boot" / f"config-{release}").read_text(encoding="utf-8"))
        tree = found / f"usr/src/linux-headers-{release}"
        made = files.make_headers(tree, self.arch, release, config, key)
        return replace(made, renew=lambda: self._unpack_headers(key, parts))

    def _unpack_headers(self, key: str, parts: tuple[Package, ...]) -> Path:
        paths = [self.archive.fetch(part) for part in parts]

        def make(directory: Path) -> None:
            with self.archive.progress.task(f"unpacking {paths[0].name}", None):
                unpack.headers(paths, self.arch, directory)

        return self.cache.entry("headers", key, make, check=Check.MARK)


def _release(entry: Path) -> str:
    """Return the release of an unpacked kernel package: that of its only boot file."""
    names = [path.name for path in sorted((entry / "boot").glob("vmlinuz-*"))]
    if not names:
        raise ResolveError(
            "the package holds a kernel that is not compressed", remedy="give its vmlinux file itself"
        )
    return names[0].removeprefix("vmlinuz-")
