"""Kernel modules as files: their names, what they depend on, and which are built in."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from hostwalk import resources
from hostwalk.errors import ResolveError
from hostwalk.kernels import compression

_SUFFIXES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")


def wanted() -> tuple[str, ...]:
    """Return the names of the modules that a guest needs; a kernel may have some of them built in."""
    return tuple(_manifest()["load"])


def kept() -> tuple[str, ...]:
    """Return the names of the modules that may be loaded into a running guest, where the kernel has them."""
    return tuple(_manifest()["keep"])


def _manifest() -> dict[str, list[str]]:
    text = (resources.images() / "guest.toml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = tomllib.loads(text)["modules"]
    return found


def name_of(path: str) -> str:
    """Return the module's name of a file name, with underscores; empty if it is no module's file."""
    file = PurePosixPath(path).name
    suffix = next((suffix for suffix in _SUFFIXES if file.endswith(suffix)), None)
    return file.removesuffix(suffix).replace("-", "_") if suffix else ""


def read(path: Path) -> bytes:
    """Return a module's ELF file, decompressed; raises ResolveError for a damaged one, OSError."""
    data = path.read_bytes()
    if data[:4] == b"\x7fELF":
        return data
    try:
        return compression.decompress(data)
    except compression.DamagedError as error:
        raise ResolveError(f"the module {path} is damaged: {error}") from error


def depends(module: bytes, path: Path) -> tuple[str, ...]:
    """Return the modules that must be loaded before one; raises ResolveError for a damaged file."""
    try:
        section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
        lines = section.data().split(b"\0") if section else []
    except ELFError as error:
        raise ResolveError(f"the module {path} is damaged: {error}") from error
    values = (line.removeprefix(b"depends=") for line in lines if line.startswith(b"depends="))
    return tuple(name.replace("-", "_") for value in values for name in value.decode().split(",") if name)


def built_in(directory: Path) -> frozenset[str]:
    """Return the modules that are part of the kernel (modules.builtin); raises OSError."""
    text = (directory / "modules.builtin").read_text(encoding="utf-8")
    return frozenset(name_of(line) for line in text.splitlines())


def files(directory: Path) -> dict[str, Path]:
    """Return the module files below lib/modules/RELEASE by name."""
    found = (path for path in sorted(directory.rglob("*.ko*")) if path.is_file())
    return {name: path for path in found if (name := name_of(path.name))}


def load_order(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return names and what they need, each after what it needs itself; a circle is cut somewhere."""
    order: dict[str, None] = {}
    seen: set[str] = set()

    def add(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for each in needs.get(name, ()):
            add(each)
        order[name] = None

    for name in names:
        add(name)
    return tuple(order)
