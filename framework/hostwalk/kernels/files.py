"""Kernels that are given as files: a package, a boot file, or a tree in which one was built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hostwalk.cache import Cache
from hostwalk.errors import CacheError, ResolveError
from hostwalk.kernels import toolchain
from hostwalk.kernels.bootfile import BootFile
from hostwalk.kernels.kernel import Headers, Kernel, embedded_config, parse_config
from hostwalk.manifest import sha256_of
from hostwalk.target import Arch

_BUILT = {
    Arch.X86_64: ("arch/x86/boot/bzImage", "vmlinux"),
    Arch.ARM64: ("arch/arm64/boot/Image", "arch/arm64/boot/Image.gz", "arch/arm64/boot/vmlinuz.efi"),
}


@dataclass(frozen=True)
class Extras:
    """What goes with a kernel that is given as a file."""

    headers: Path | None = None
    symbols: Path | None = None


def from_file(path: Path, spec: str, arch: Arch, cache: Cache, extras: Extras) -> Kernel:
    """Return the kernel in a boot file; raises ResolveError for what cannot be booted on ``arch``."""
    data = _read(path)
    boot = BootFile.parse(data, str(path), arch)
    kernel = boot.kernel()
    release = boot.release(kernel)
    config = _config_beside(path, release) or embedded_config(kernel)
    headers = headers_in(extras.headers, arch, release, config) if extras.headers else None
    if headers and not config:
        config = parse_config(_read(headers.build / ".config").decode())
    modules = path.parent / "lib/modules" / release
    return Kernel(
        spec, arch, release, path.resolve(), config, modules if modules.is_dir() else None, headers,
        hashlib.sha256(data).hexdigest(), cache, extras.symbols,
    )  # fmt: skip


def from_tree(tree: Path, spec: str, arch: Arch, cache: Cache, extras: Extras) -> Kernel:
    """Return the kernel that was built in a tree, with the tree as its headers; raises ResolveError."""
    boot = next((tree / name for name in _BUILT[arch] if (tree / name).is_file()), None)
    if boot is None:
        raise ResolveError(
            f"no kernel for {arch} was built in {tree}",
            remedy=f"build one; looked for {', '.join(_BUILT[arch])}",
        )
    system_map = tree / "System.map"
    symbols = extras.symbols or (system_map if system_map.is_file() else None)
    return from_file(boot, spec, arch, cache, Extras(extras.headers or tree, symbols))


def headers_in(tree: Path, arch: Arch, release: str, config: Mapping[str, str]) -> Headers:
    """Return a prepared build tree or header package; raises ResolveError when it is another kernel's."""
    tree = tree.absolute()
    needed = [tree / name for name in ("Makefile", ".config", "include/config/kernel.release")]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        raise ResolveError(f"{tree} is no tree to build modules in: no {', '.join(missing)}", remedy=_PREPARE)
    built = _read(needed[2]).decode().strip()
    if built != release:
        raise ResolveError(
            f"the headers in {tree} are of Linux {built}, the kernel is {release}", remedy=_PREPARE
        )
    symvers = tree / "Module.symvers"
    parts = [sha256_of(path) for path in (*needed, symvers) if path.is_file()]
    identity = hashlib.sha256("".join(parts).encode()).hexdigest()
    return make_headers(tree, arch, release, config or parse_config(_read(needed[1]).decode()), identity)


def make_headers(tree: Path, arch: Arch, release: str, config: Mapping[str, str], identity: str) -> Headers:
    """Return headers with what ``make`` must be told; raises CacheError for a path that kbuild refuses."""
    if any(char in str(tree) for char in " :"):
        raise CacheError(
            f"kernel modules cannot be built in {tree}: kbuild takes no path with a space or a colon",
            remedy="set HOSTWALK_CACHE to a directory without these, or give --headers such a directory",
        )
    compiler = toolchain.find(arch, config)
    variables = {**compiler.variables, "CONFIG_DEBUG_INFO_BTF_MODULES": ""}
    return Headers(tree, arch, release, variables, identity)


_PREPARE = "give the tree in which this kernel was built (or its header package, unpacked): --headers DIR"


def _config_beside(path: Path, release: str) -> dict[str, str]:
    beside = (path.parent / f"config-{release}", path.parent / ".config")
    found = next((each for each in beside if each.is_file()), None)
    return parse_config(_read(found).decode(errors="replace")) if found else {}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ResolveError(f"{path} cannot be read: {error.strerror}") from error
