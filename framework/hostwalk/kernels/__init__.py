"""Where kernels come from: Debian's archive, a package, a boot file, a tree in which one was built."""

from __future__ import annotations

from pathlib import Path

from hostwalk.cache import Cache
from hostwalk.errors import ResolveError
from hostwalk.kernels import deb, files, fragments
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.build import Build
from hostwalk.kernels.files import Extras
from hostwalk.kernels.index import Image as DebianImage
from hostwalk.kernels.kernel import Headers, Kernel
from hostwalk.kernels.packages import Packages
from hostwalk.kernels.progress import SILENT, Progress, Silent, telling_of_waits
from hostwalk.kernels.sources import DebianSources, Wanted, tree_at
from hostwalk.kernels.symbols import Symbols
from hostwalk.target import DEFAULT_FORMATS, Arch, is_from_source

__all__ = [
    "DebianImage",
    "Headers",
    "Kernel",
    "Progress",
    "Silent",
    "Symbols",
    "available",
    "check_buildable",
    "refresh",
    "resolve",
]


def resolve(
    spec: str,
    arch: Arch,
    *,
    cache: Cache,
    mirror: str | None = None,
    progress: Progress | None = None,
    offline: bool = False,
    headers: Path | None = None,
    symbols: Path | None = None,
    page_format: str = "",
) -> Kernel:
    """Return the kernel that a spec names, fetched and unpacked.

    A spec is ``debian:VERSION[-FLAVOUR]`` (``debian:6.12``, ``debian:6.1-rt``, ``debian:6.12.117-amd64``),
    where ``cloud`` is the flavour if none is given, or the path of a linux-image ``.deb``, a boot file, a
    build tree. ``headers`` is a directory to build modules in, ``symbols`` a System.map, where a file alone
    lacks them. ``source:VERSION`` and ``tree:PATH`` are built, for ``page_format`` or the architecture's default.
    Raises ResolveError, FetchError, CacheError, UsageError, KernelBuildError.
    """
    cache = telling_of_waits(cache, progress or SILENT)
    if is_from_source(spec):
        archive = Archive(cache, mirror, progress or SILENT, offline, sources=True)
        return _built(Wanted.parse(spec), arch, page_format or DEFAULT_FORMATS[arch], archive)
    extras = Extras(headers, symbols)
    packages = Packages(Archive(cache, mirror, progress or SILENT, offline), arch, extras)
    if spec.startswith("debian:"):
        return packages.from_archive(spec)
    path = Path(spec).expanduser()
    if path.is_dir():
        return files.from_tree(path, spec, arch, cache, extras)
    if not path.is_file():
        raise ResolveError(
            f"no such kernel: {spec}",
            remedy="give debian:VERSION (hostwalk kernels list), or the path of a .deb, a kernel or its tree",
        )
    if path.suffix == ".deb" or deb.is_deb(path):
        return packages.from_package(path, spec)
    return files.from_file(path, spec, arch, cache, extras)


def check_buildable(spec: str, arch: Arch, page_format: str) -> None:
    """Raise UsageError where a spec of a kernel to build makes no sense, before anything is fetched."""
    fragments.load(fragments.names(arch, page_format, Wanted.parse(spec).extra))


def _built(wanted: Wanted, arch: Arch, page_format: str, archive: Archive) -> Kernel:
    names = fragments.names(arch, page_format, wanted.extra)
    tree = DebianSources(archive).tree(wanted.version) if wanted.version else tree_at(wanted.path)
    return Build(wanted.spec, tree, arch, names, archive.cache, archive.progress).kernel()


def available(
    arch: Arch,
    *,
    cache: Cache,
    mirror: str | None = None,
    progress: Progress | None = None,
    offline: bool = False,
) -> tuple[DebianImage, ...]:
    """Return Debian's kernels for an architecture, oldest first, signed ones only where both kinds exist."""
    index = Archive(cache, mirror, progress or SILENT, offline).index()
    images = [image for image in index.images() if image.package.arch == arch.debian]
    return tuple({(image.release, image.package.version): image for image in images}.values())


def refresh(*, cache: Cache, mirror: str | None = None, progress: Progress | None = None) -> None:
    """Read Debian's package index again, however old the kept one is; raises FetchError without any."""
    Archive(cache, mirror, progress or SILENT).index(refresh=True)
