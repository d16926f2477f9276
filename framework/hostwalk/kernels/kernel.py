"""A kernel that can be booted and modules built for, with what the host must know of it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hostwalk.cache import Cache, key_of
from hostwalk.errors import ResolveError
from hostwalk.kernels import symbols as symbols_module
from hostwalk.kernels.bootfile import BootFile
from hostwalk.kernels.symbols import Symbols
from hostwalk.manifest import Check
from hostwalk.target import Arch

_CONFIG_LINE = re.compile(r'^(CONFIG_\w+)=(?:"(.*)"|(.*))$', re.MULTILINE)
_IKCONFIG = b"IKCFG_ST"
_SYMBOLS_FORMAT = "symbols-1"


@dataclass(frozen=True)
class Headers:
    """What modules are built against: ``build`` is for ``make -C``, ``variables`` for its command line.

    ``renew`` unpacks those that the cache keeps again, where they turn out to be damaged. While ``held()`` is
    entered nobody else changes them.
    """

    build: Path
    arch: Arch
    release: str
    variables: Mapping[str, str]
    identity: str
    renew: Callable[[], object] | None = field(default=None, repr=False, compare=False)
    held: Callable[[], AbstractContextManager[object]] = field(default=nullcontext, repr=False, compare=False)


@dataclass(frozen=True)
class Kernel:
    """One bootable kernel; ``config`` maps CONFIG_X to y, m or its value without quotes.

    ``modules`` is its lib/modules/RELEASE directory, or None; ``identity`` is the SHA-256 of the boot file, or a
    digest of it, the configuration and the modules where hostwalk built it.
    """

    spec: str
    arch: Arch
    release: str
    boot: Path
    config: Mapping[str, str]
    modules: Path | None
    headers: Headers | None
    identity: str
    cache: Cache = field(repr=False, compare=False)
    symbol_file: Path | None = None

    @cached_property
    def symbols(self) -> Symbols:
        """The addresses of its symbols as linked; raises LayoutError or CacheError."""
        if self.symbol_file:
            return symbols_module.from_system_map(_read_text(self.symbol_file), str(self.symbol_file))
        entry = self.cache.entry(
            "symbols", key_of(_SYMBOLS_FORMAT, self.identity), self._decode, check=Check.HASH
        )
        return Symbols.load(entry)

    def _decode(self, directory: Path) -> None:
        boot = BootFile.parse(self.boot.read_bytes(), str(self.boot), self.arch)
        symbols_module.from_kernel(boot.kernel(), f"{self.arch} Linux {self.release}").save(directory)

    def needs_headers(self) -> Headers:
        """Return the headers; raises ResolveError that says how to give them."""
        if self.headers is None:
            raise ResolveError(
                f"modules cannot be built for {self.spec}: the headers of Linux {self.release} are not known",
                remedy="give the build tree or the directory of its header package: --headers DIR",
            )
        return self.headers


def parse_config(text: str) -> dict[str, str]:
    """Return what a kernel's .config sets."""
    return {name: quoted or plain for name, quoted, plain in _CONFIG_LINE.findall(text)}


def embedded_config(kernel: bytes) -> dict[str, str]:
    """Return the configuration inside an uncompressed kernel (CONFIG_IKCONFIG), empty if it has none."""
    at = kernel.find(_IKCONFIG + b"\x1f\x8b")
    if at < 0:
        return {}
    end = kernel.find(b"IKCFG_ED", at)
    try:
        return parse_config(gzip.decompress(kernel[at + len(_IKCONFIG) : end]).decode())
    except (OSError, EOFError, UnicodeDecodeError):
        return {}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResolveError(f"{path} cannot be read: {error.strerror}") from error
