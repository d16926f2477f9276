"""Which kernels Debian has: what the package index said when it was last read, kept for a day."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hostwalk.errors import ResolveError, UsageError
from hostwalk.kernels.apt import Package
from hostwalk.kernels.versions import upstream, version_order
from hostwalk.target import Arch

FRESH_SECONDS = 86400.0
RETRY_SECONDS = 3600.0
_SPEC = re.compile(
    r"debian:(?P<version>\d+(?:\.\d+)*(?:\+[a-z0-9]+)?(?:-\d+(?=-|$))?)(?:-(?P<flavour>[a-z0-9][a-z0-9-]*))?"
)
_IMAGE = re.compile(
    r"linux-image-(?P<abi>\d[0-9.]*(?:-\d+|\+[a-z0-9]+))-(?P<flavour>[a-z0-9-]+?)(?P<unsigned>-unsigned)?"
)


@dataclass(frozen=True)
class Wanted:
    """What a ``debian:VERSION[-FLAVOUR]`` asks for; ``flavour`` is Debian's full name of it."""

    spec: str
    version: str
    flavour: str
    arch: Arch

    @classmethod
    def parse(cls, spec: str, arch: Arch) -> Wanted:
        """Return what is asked for; raises UsageError for another form."""
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise UsageError(
                f"not a Debian kernel: {spec!r}",
                remedy="write debian:VERSION or debian:VERSION-FLAVOUR: debian:6.12, debian:6.12-rt",
            )
        return cls(spec, match["version"], _full_flavour(match["flavour"] or "cloud", arch), arch)

    def fits(self, image: Image) -> bool:
        """Return whether a version of an image is one that is asked for."""
        version = upstream(image.package.version)
        same = self.version in (version, image.abi) or version.startswith(f"{self.version}.")
        return same and image.flavour == self.flavour and image.package.arch == self.arch.debian


def _full_flavour(flavour: str, arch: Arch) -> str:
    """Return Debian's name: cloud-amd64 for cloud, amd64 for generic, arm64-16k for 16k."""
    if flavour == "generic":
        return arch.debian
    if flavour in ("16k", "64k"):
        return f"{arch.debian}-{flavour}"
    is_full = any(word in ("amd64", "arm64") for word in flavour.split("-"))
    return flavour if is_full else f"{flavour}-{arch.debian}"


@dataclass(frozen=True)
class Image:
    """A package that holds a kernel."""

    package: Package
    abi: str
    flavour: str
    signed: bool

    @property
    def release(self) -> str:
        """What ``uname -r`` says."""
        return f"{self.abi}-{self.flavour}"


@dataclass(frozen=True)
class Index:
    """The kernel packages of an archive.

    ``fetched`` is when they were read and ``attempted`` when that was last tried (seconds since the epoch),
    from the mirror ``wish``.
    """

    packages: tuple[Package, ...]
    fetched: float
    attempted: float
    wish: str

    def is_fresh(self, wish: str, now: float | None = None) -> bool:
        """Return whether it was read within a day, or tried lately, from the mirror that is wished for."""
        moment = time.time() if now is None else now
        read = 0 <= moment - self.fetched < FRESH_SECONDS
        tried = 0 <= moment - self.attempted < RETRY_SECONDS
        return wish in ("", self.wish) and (read or tried)

    def images(self) -> list[Image]:
        """Return all kernels, oldest first; the signed package comes after the same one unsigned."""
        found = [image for package in self.packages if (image := _as_image(package))]
        return sorted(found, key=lambda image: (version_order(image.package.version), image.signed))

    def select(self, wanted: Wanted) -> Image:
        """Return the newest kernel that fits; raises ResolveError that lists what there is."""
        fitting = [image for image in self.images() if wanted.fits(image)]
        if not fitting:
            raise self._nothing(wanted)
        return fitting[-1]

    def newest(self, name: str, arch: str, version: str = "") -> Package | None:
        """Return a package of a name for an architecture or all: of this version, else the newest."""
        found = [
            package for package in self.packages if package.name == name and package.arch in (arch, "all")
        ]
        exact = [package for package in found if package.version == version]
        found.sort(key=lambda package: version_order(package.version))
        return next(reversed(exact or found), None)

    def headers(self, release: str, arch: Arch, host: Arch) -> tuple[Package, ...]:
        """Return what modules are built with: headers, common headers, the host's kbuild; or nothing."""
        own = self.newest(f"linux-headers-{release}", arch.debian)
        if own is None:
            return ()
        names = re.findall(r"linux-(?:headers-[^ ,]*-common[^ ,]*|kbuild-[^ ,]+)", own.depends)
        others = [self.newest(name, host.debian, own.version) for name in names]
        return () if None in others or not others else (own, *(other for other in others if other))

    def _nothing(self, wanted: Wanted) -> ResolveError:
        here = [image for image in self.images() if image.package.arch == wanted.arch.debian]
        lines = {_series(image): upstream(image.package.version) for image in here}
        same_flavour = sorted(
            {upstream(i.package.version) for i in here if i.flavour == wanted.flavour}, key=version_order
        )
        close = [version for version in same_flavour if version.startswith(wanted.version.rsplit(".", 1)[0])]
        known = ", ".join(f"debian:{name}" for name in sorted(lines))
        return ResolveError(
            f"Debian has no {wanted.flavour} kernel {wanted.version} for {wanted.arch}",
            remedy=f"use one of: {known}" + (f"; versions: {', '.join(close[-8:])}" if close else ""),
        )


def _series(image: Image) -> str:
    major_minor = ".".join(upstream(image.package.version).split(".")[:2])
    return f"{major_minor}-{image.flavour}"


def _as_image(package: Package) -> Image | None:
    match = _IMAGE.fullmatch(package.name)
    known = match and package.arch in match["flavour"] and not package.name.endswith("-dbg")
    return Image(package, match["abi"], match["flavour"], not match["unsigned"]) if match and known else None


def make(packages: Iterable[Package], wish: str) -> Index:
    """Return an index that was read just now."""
    now = time.time()
    return Index(tuple(dict.fromkeys(packages)), now, now, wish)


def save(index: Index, path: Path) -> None:
    """Write an index, sealed and atomically; raises OSError."""
    body = json.dumps(asdict(index))
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}", encoding="utf-8")
    new.replace(path)


def load(path: Path) -> Index | None:
    """Return the index in a file, or None if it is missing or damaged."""
    try:
        seal, _, body = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if hashlib.sha256(body.encode()).hexdigest() != seal:
        return None
    fields = json.loads(body)
    return Index(**{**fields, "packages": tuple(Package(**package) for package in fields["packages"])})


def note_attempt(index: Index, wish: str, path: Path) -> Index:
    """Remember that reading the index was tried in vain."""
    noted = replace(index, attempted=time.time(), wish=wish)
    save(noted, path)
    return noted
