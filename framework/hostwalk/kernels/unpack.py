"""Kernel and header packages, unpacked as far as hostwalk needs them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from hostwalk.errors import ResolveError
from hostwalk.kernels import deb, modules
from hostwalk.target import Arch

KERNEL_RECIPE = "kernel-1"
HEADERS_RECIPE = "headers-2"
_BOOT = re.compile(r"boot/(?:vmlinu[xz]|config|System\.map)-.+")
_LISTS = re.compile(r"(?:usr/)?lib/modules/[^/]+/modules\.(?:builtin|order)")
_VIRTIO = re.compile(r"(?:usr/)?lib/modules/[^/]+/kernel/drivers/virtio/.*")
_HEADERS = re.compile(r"usr/(?:src|lib)/linux-(?:headers|kbuild)-.+")
_HEADERS_ARCH = re.compile(r"usr/src/linux-headers-[^/]+/arch/([^/]+)/.*")
# Device trees' names, and empty files for make to compare times with: thousands, and no module needs them.
_UNUSED = re.compile(r"usr/src/linux-headers-[^/]+/include/(?:dt-bindings/.*|config/[A-Z0-9].*)")
_INCLUDE = re.compile(r"^include\s+/usr/src/([^/\s]+)/Makefile[ \t]*$", re.MULTILINE)
_ARCHS = {Arch.X86_64: ("x86",), Arch.ARM64: ("arm64", "arm")}


def kernel(package: Path, directory: Path) -> None:
    """Unpack a kernel package: boot files, and the modules that a guest needs with what these depend on.

    Raises ResolveError when the package holds no kernel or is damaged.
    """
    names = {*modules.wanted(), *modules.kept()}
    done = deb.extract(package, lambda path: _is_kernel_part(path, names), directory)
    if not any(path.startswith("boot/vmlinu") for path in done):
        raise ResolveError(
            f"{package} holds no kernel",
            remedy="give a linux-image package, not one of headers or debug symbols",
        )
    while missing := _missing(directory, names):
        names |= missing
        deb.extract(package, lambda path: modules.name_of(path) in missing, directory)


def _is_kernel_part(path: str, names: set[str]) -> bool:
    if _BOOT.fullmatch(path) or _LISTS.fullmatch(path):
        return True
    return bool(_VIRTIO.fullmatch(path) and modules.name_of(path)) or modules.name_of(path) in names


def modules_directory(directory: Path, release: str) -> Path | None:
    """Return lib/modules/RELEASE of an unpacked kernel package, or None."""
    places = (directory / prefix / "lib/modules" / release for prefix in ("", "usr"))
    return next((place for place in places if place.is_dir()), None)


def _missing(directory: Path, asked: set[str]) -> set[str]:
    """Return modules that unpacked ones depend on and that were not asked for yet."""
    there = {modules.name_of(path.name): path for path in directory.rglob("*.ko*")}
    needed = {name for path in there.values() for name in modules.depends(modules.read(path), path)}
    return needed - there.keys() - asked


def headers(packages: Iterable[Path], arch: Arch, directory: Path) -> None:
    """Unpack header and kbuild packages into a tree that works where it lies; raises ResolveError."""
    for package in packages:
        deb.extract(package, _is_header_part(arch), directory)
    for makefile in directory.glob("usr/src/linux-headers-*/Makefile"):
        text = makefile.read_text(encoding="utf-8")
        makefile.write_text(_INCLUDE.sub(r"include ../\1/Makefile", text), encoding="utf-8")


def _is_header_part(arch: Arch) -> Callable[[str], bool]:
    def wanted(path: str) -> bool:
        match = _HEADERS_ARCH.fullmatch(path)
        is_ours = match is None or match[1] in _ARCHS[arch]
        return bool(is_ours and _HEADERS.fullmatch(path)) and not _UNUSED.fullmatch(path)

    return wanted
