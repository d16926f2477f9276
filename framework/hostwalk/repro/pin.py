"""What a script was recorded on, exactly, and what has changed since."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

from hostwalk.cell import Prepared
from hostwalk.image.compile import exerciser_sources
from hostwalk.kernels.kernel import Kernel
from hostwalk.machine.command import cpu_model
from hostwalk.machine.qemu import find_qemu
from hostwalk.options import DEBIAN
from hostwalk.target import Arch, Target

_RELEASE = re.compile(r"(?P<abi>\d[0-9.]*(?:-\d+|\+[a-z0-9]+))-(?P<flavour>[a-z0-9-]+)")
_PLAIN_FLAVOURS = {"": "-generic", "cloud": ""}
_WORDS = {
    "release": "Linux", "image": "the kernel's image", "config": "the kernel's configuration",
    "exerciser": "the exerciser's sources", "qemu": "QEMU", "cpu": "the processor", "arch": "the architecture",
    "format": "the page-table format", "accel": "the accelerator", "memory": "the memory in MiB",
    "cpus": "the number of processors", "seed": "the seed",
}  # fmt: skip
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A target, and the identities of all that shaped it.

    ``kernel`` is what ``--kernel`` takes; ``image`` the SHA-256 of the file that boots, ``config`` that of its
    configuration, ``exerciser`` that of the module's sources. ``seed`` None leaves the random numbers those that
    every fork of the template draws. An empty identity was not known, and is not compared.
    """

    arch: str
    kernel: str
    format: str
    memory: int = 256
    cpus: int = 1
    accel: str = "tcg"
    seed: int | None = None
    release: str = ""
    image: str = ""
    config: str = ""
    exerciser: str = ""
    qemu: str = ""
    cpu: str = ""

    @classmethod
    def of(cls, prepared: Prepared, accel: str, seed: int | None = None) -> Pin:
        """Return the pin of a target that was prepared for an accelerator."""
        target, kernel = prepared.target, prepared.kernel
        return cls(
            arch=str(target.arch), kernel=exact_spec(kernel), format=target.format, memory=target.memory,
            cpus=target.cpus, accel=accel, seed=seed, release=kernel.release, image=kernel.identity,
            config=config_hash(kernel.config), exerciser=exerciser_hash(), cpu=cpu_model(target, accel),
            qemu=find_qemu(target.arch).version,
        )  # fmt: skip

    @property
    def target(self) -> Target:
        """The target that was pinned; raises UsageError."""
        return Target(Arch.parse(self.arch), self.kernel, self.format, self.accel, self.memory, self.cpus)

    def changed(self, now: Pin) -> list[str]:
        """Return what is not as it was, in words."""
        return list(self._changes(now))

    def _changes(self, now: Pin) -> Iterator[str]:
        for name, words in _WORDS.items():
            old, new = getattr(self, name), getattr(now, name)
            if old not in (new, ""):
                yield f"{words}: {_short(new)}, was {_short(old)}"

    def moved(self, **changes: object) -> Pin:
        """Return a pin of another target: given values replace its own, None leaves them."""
        given = {name: value for name, value in changes.items() if value is not None}
        if "arch" in given and Arch.parse(str(given["arch"])) != Arch.parse(self.arch):
            given.setdefault("format", "")
        return replace(self, **given)  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        """Return the pin as keyword arguments, those that are as by default left out."""
        default = {field.name: field.default for field in fields(self)}
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return [f"{name}={_quoted(value)}," for name, value in values.items() if value != default[name]]


def exact_spec(kernel: Kernel) -> str:
    """Return what names just this kernel: for one of Debian's its version with all its parts."""
    match = _RELEASE.fullmatch(kernel.release)
    if not kernel.spec.startswith(DEBIAN) or match is None:
        return kernel.spec
    flavour = re.sub(rf"-?{kernel.arch.debian}-?", "", match["flavour"])
    return f"{DEBIAN}{match['abi']}{_PLAIN_FLAVOURS.get(flavour, f'-{flavour}')}"


def config_hash(config: Mapping[str, str]) -> str:
    """Return the SHA-256 of a configuration, whatever the order of its lines."""
    return _digest("\n".join(f"{name}={value}" for name, value in sorted(config.items())).encode())


def exerciser_hash() -> str:
    """Return the SHA-256 of the exerciser's sources, names and contents."""
    digest = hashlib.sha256()
    for name, path in exerciser_sources():
        digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _short(value: object) -> str:
    text = str(value)
    return text[:SHOWN] if re.fullmatch("[0-9a-f]{64}", text) else text or "unknown"


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
