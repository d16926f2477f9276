"""The initramfs that a machine boots into, with what the host must know of what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from hostwalk.cache import Cache, key_of
from hostwalk.errors import ResolveError
from hostwalk.image import cpio
from hostwalk.image.compile import build_agent, build_exerciser
from hostwalk.image.layout import Layout
from hostwalk.image.userland import LOGIN, build_userland
from hostwalk.kernels import modules
from hostwalk.kernels.kernel import Kernel
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.manifest import Check

RECIPE = "image-1"
LOGIN_RECIPE = "login-image-1"
SHADOWED = "movablecore=40%"
"""KASAN's shadow and its table of stacks are taken from the end of memory, where the movable zone is to be."""


@dataclass(frozen=True)
class Image:
    """What a kernel boots into; ``abi`` is of the agent, ``layout`` of the exerciser.

    ``login`` says whether there is a user land to log in to, ``words`` are for the kernel's command line.
    """

    initramfs: Path
    agent: Path
    exerciser: Path
    abi: Layout = field(repr=False)
    layout: Layout = field(repr=False)
    identity: str
    login: bool = False
    words: str = ""

    @property
    def cmdline(self) -> str:
        """Words for the kernel's command line."""
        return f"{self.words} rdinit=/{LOGIN}".strip() if self.login else self.words


def build_login_image(
    kernel: Kernel, cache: Cache, *, mirror: str | None = None, progress: Progress | None = None
) -> Image:
    """Return the image for a kernel with a user land to log in to; the image without it is a part of it as it is.

    Raises FetchError and what :func:`build_image` raises.
    """
    show = progress or SILENT
    image = build_image(kernel, cache, progress=show)
    userland = build_userland(kernel.arch, cache, mirror=mirror, progress=show)
    key = key_of(LOGIN_RECIPE, image.identity, userland.parent.name)

    def make(directory: Path) -> None:
        whole = image.initramfs.read_bytes() + userland.read_bytes()
        (directory / "initramfs.cpio").write_bytes(whole)

    entry = cache.entry("image", key, make, check=Check.HASH)
    return replace(image, initramfs=entry / "initramfs.cpio", identity=key, login=True)


def build_image(kernel: Kernel, cache: Cache, *, progress: Progress | None = None) -> Image:
    """Return the image for a kernel, built if it is not in the cache.

    Raises BuildError, ResolveError where headers or modules are not known, LayoutError, CacheError.
    """
    show = progress or SILENT
    agent = build_agent(kernel.arch, cache, show)
    exerciser = build_exerciser(kernel, cache, show)
    loaded = tuple(_guest_modules(kernel))
    key = key_of(
        RECIPE, agent.parent.name, exerciser.parent.name, kernel.identity, *(name for name, _ in loaded)
    )

    def make(directory: Path) -> None:
        nodes = _nodes(agent.read_bytes(), (exerciser.parent / "stripped.ko").read_bytes(), loaded)
        (directory / "initramfs.cpio").write_bytes(cpio.write(nodes))

    entry = cache.entry("image", key, make, check=Check.HASH)
    return Image(
        entry / "initramfs.cpio",
        agent,
        exerciser,
        Layout.load(agent),
        Layout.load(exerciser),
        key,
        words=SHADOWED if kernel.config.get("CONFIG_KASAN") == "y" else "",
    )


def _nodes(agent: bytes, exerciser: bytes, loaded: tuple[tuple[str, Path], ...]) -> Iterator[cpio.Node]:
    """Yield what is in the initramfs; the agent loads the modules in the order of their names."""
    yield from (cpio.directory(name) for name in ("dev", "modules", "proc", "sys", "tmp"))
    yield cpio.character_device("dev/console", 5, 1)
    yield cpio.file("init", agent, 0o755)
    yield cpio.file("hostwalk.ko", exerciser)
    for number, (name, path) in enumerate(loaded):
        yield cpio.file(f"modules/{number:02}-{name}.ko", modules.read(path))


def _guest_modules(kernel: Kernel) -> Iterator[tuple[str, Path]]:
    """Yield name and file of the modules that the guest must load, in order; raises ResolveError."""
    there = modules.files(kernel.modules) if kernel.modules else {}
    part_of_it = modules.built_in(kernel.modules) if kernel.modules else frozenset()
    wanted = [name for name in modules.wanted() if name not in part_of_it and not _is_built_in(kernel, name)]
    needs = (
        {name: modules.depends(modules.read(path), path) for name, path in there.items()} if wanted else {}
    )
    for name in modules.load_order(wanted, needs):
        if name in there:
            yield name, there[name]
        elif name not in part_of_it:
            raise _no_module(kernel, name)


def _is_built_in(kernel: Kernel, name: str) -> bool:
    """Return whether the configuration has it in the kernel; one that is not known is trusted to."""
    return not kernel.config or kernel.config.get(f"CONFIG_{name.upper()}") == "y"


def _no_module(kernel: Kernel, name: str) -> ResolveError:
    option = f"CONFIG_{name.upper()}"
    if option not in kernel.config:
        return ResolveError(
            f"Linux {kernel.release} ({kernel.spec}) has no {name}, which the guest needs",
            remedy=f"build it with {option}=y",
        )
    return ResolveError(
        f"the module {name} of Linux {kernel.release} ({kernel.spec}) is not known",
        remedy=f"give the kernel's .deb, put its lib/modules beside the file, or build it with {option}=y",
    )
