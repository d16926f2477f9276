"""Kernels built from source: configured, built out of tree, kept in the cache.

A build directory is kept for each source, architecture and set of fragments, so that building again is what make
must do again. What was built is copied out of it by content, for a machine to boot while the next build goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hostwalk.cache import Cache, key_of
from hostwalk.deadline import Deadline
from hostwalk.errors import BuildInterruptedError, UsageError
from hostwalk.kernels import fragments, replaced, seeding, toolchain, view, worktrees
from hostwalk.kernels.configuring import configure
from hostwalk.kernels.kernel import Headers, Kernel, parse_config
from hostwalk.kernels.making import BUILD_SECONDS, Maker, planned
from hostwalk.kernels.progress import Progress
from hostwalk.kernels.seeding import STAMP, TREE, Origin
from hostwalk.kernels.sources import Tree
from hostwalk.target import Arch

RECIPE = "build-1"
KEPT_BYTES = 2 << 30
"""How much of what was built before is kept, besides the build directories."""
_IMAGES = {Arch.X86_64: "arch/x86/boot/bzImage", Arch.ARM64: "arch/arm64/boot/Image"}
_GOALS = {Arch.X86_64: ("bzImage", "modules"), Arch.ARM64: ("Image", "modules")}
_COPIED = ("System.map", "Module.symvers")
_made: dict[tuple[Path, str], Kernel] = {}
_RUNNING, _STEPS = "running", "steps"


@dataclass(frozen=True)
class Build:
    """One kernel to build: its source, for what, with which fragments."""

    spec: str
    tree: Tree
    arch: Arch
    names: tuple[str, ...]
    cache: Cache
    progress: Progress

    def kernel(self) -> Kernel:
        """Return the kernel, built as far as it is not; raises KernelBuildError, MissingToolError, CacheError."""
        options = fragments.load(self.names)
        patience = Deadline.after(BUILD_SECONDS)
        with self.cache.workspace("build", self._key, patience) as room:
            shown = worktrees.shown(self.tree.path, self.cache)
            if shown and (known := self._known(room, shown)):
                return known
            self._start_afresh_for_another_tree(room)
            maker = self._maker(room)
            fresh = self._begins_with_nothing(maker, room)
            with _marked(room):
                configure(maker, options, self.tree.version, self.progress)
                self._make(maker, room, fresh=fresh)
            made = _made[(room, shown)] = self._published(maker, room)
            return made

    def _known(self, room: Path, shown: str) -> Kernel | None:
        """Return what this run has made of a worktree that shows the same and is nobody else's meanwhile."""
        known, stamp = _made.get((room, shown)), room / STAMP
        if known is None or not stamp.is_file() or stamp.read_text() != known.identity:
            return None
        return known if self.cache.lookup("built", known.identity) else None

    @property
    def _key(self) -> str:
        return key_of(RECIPE, self.tree.identity, self.arch, *self.names)

    @property
    def _title(self) -> str:
        further = ", ".join(self.names[2:])
        return f"Linux {self.tree.version} for {self.arch}{f' ({further})' if further else ''}"

    def _start_afresh_for_another_tree(self, room: Path) -> None:
        """Drop what was built where the path has another tree now; what the cache unpacked is told by its digest."""
        if self.tree.identity.startswith("source:"):
            return
        if (room / "out").exists() and replaced.is_other(room / TREE, self.tree.path):
            shutil.rmtree(room / "out")
            (room / _RUNNING).unlink(missing_ok=True)
        replaced.remember(room / TREE, self.tree.path)

    def _maker(self, room: Path) -> Maker:
        for path in (self.tree.path, room):
            _need_plain(path)
        source = view.clean(self.tree.path, self.arch, room / "source")
        out = room / "out"
        out.mkdir(exist_ok=True)
        log = room / "build.log"
        log.unlink(missing_ok=True)
        return Maker(source, out, log, toolchain.find(self.arch), f"{self._title} does not build")

    def _begins_with_nothing(self, maker: Maker, room: Path) -> bool:
        """Return whether all is to be made; a worktree of ours begins with a build of the same repository."""
        origin = Origin(self.tree.path, maker.source, self.arch, self.names)
        origin.write(room)
        if any(maker.out.iterdir()):
            return False
        ours = worktrees.is_ours(self.tree.path, self.cache)
        return not (ours and seeding.begin(room, origin, self.cache, self.progress))

    def _make(self, maker: Maker, room: Path, *, fresh: bool) -> None:
        """Make what is not made; only in a directory that was empty (``fresh``) is that the whole, which is noted."""
        done = 0
        total = self._estimate(maker) if fresh else None
        with self.progress.task(f"building {self._title}", total) as report:

            def step() -> None:
                nonlocal done
                done += 1
                report(done)

            maker.run(_GOALS[self.arch], step=step)
        if fresh:
            (room / _STEPS).write_text(str(done))

    def _estimate(self, maker: Maker) -> int | None:
        """Return how many things are to be made: as many as for a like build before, or what a dry run says."""
        like = [
            path for path in (self.cache.root / "build").glob(f"*/{_STEPS}") if self._is_like(path.parent)
        ]
        if like:
            return int(max(like, key=lambda path: path.stat().st_mtime).read_text())
        maker.run(["prepare"])
        return planned(maker.dry_run(_GOALS[self.arch])) or None

    def _is_like(self, room: Path) -> bool:
        return (room / "out" / _IMAGES[self.arch]).exists()

    def _published(self, maker: Maker, room: Path) -> Kernel:
        """Return the built kernel, its files copied to where no later build changes them."""
        out, image = maker.out, maker.out / _IMAGES[self.arch]
        release = (out / "include/config/kernel.release").read_text().strip()
        identity = identity_of(out, image)

        def make(directory: Path) -> None:
            shutil.copyfile(image, directory / image.name)
            shutil.copyfile(out / ".config", directory / "config")
            for name in _COPIED:
                shutil.copyfile(out / name, directory / name)
            copy_modules(out, directory / "modules")

        entry = self.cache.entry("built", identity, make)
        self.cache.trim("built", keep=identity, limit=KEPT_BYTES)
        (room / STAMP).write_text(identity)
        config = parse_config((entry / "config").read_text())
        headers = Headers(
            out, self.arch, release, {**maker.variables, "CONFIG_DEBUG_INFO_BTF_MODULES": ""}, identity,
            held=lambda: _held(self.cache, self._key, identity),
        )  # fmt: skip
        return Kernel(
            self.spec, self.arch, release, entry / image.name, config, entry / "modules", headers, identity,
            self.cache, entry / "System.map",
        )  # fmt: skip


def identity_of(out: Path, image: Path) -> str:
    """Return a digest of what a machine boots and loads of a build directory, and of what modules are built against."""
    parts = [part for module in modules_of(out) for part in (str(module), out / module)]
    listed = (out / name for name in ("modules.order", "modules.builtin", "Module.symvers"))
    return key_of("built-2", image, out / ".config", *listed, *parts)


def modules_of(out: Path) -> list[Path]:
    """Return the modules of a build directory, relative to it."""
    lines = (out / "modules.order").read_text().splitlines()
    return [Path(line).with_suffix(".ko") for line in lines]


def copy_modules(out: Path, directory: Path) -> None:
    """Copy the modules of a build directory, and the list of those that are built in, as modules_install would."""
    directory.mkdir()
    shutil.copyfile(out / "modules.builtin", directory / "modules.builtin")
    for module in modules_of(out):
        target = directory / "kernel" / module
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / module, target)


def _need_plain(path: Path) -> None:
    """Raise UsageError for a path that kbuild refuses."""
    if any(char in str(path) for char in " :"):
        raise UsageError(
            f"no kernel can be built with {path}: kbuild takes no path with a space or a colon",
            remedy="move the tree, or set HOSTWALK_CACHE to a directory without these",
        )


@contextmanager
def _held(cache: Cache, key: str, identity: str) -> Iterator[None]:
    """Hold a build directory that still is what was built; raises BuildInterruptedError when it was built anew."""
    with cache.workspace("build", key, Deadline.after(BUILD_SECONDS)) as room:
        stamp = room / STAMP
        if not stamp.is_file() or stamp.read_text() != identity:
            raise BuildInterruptedError(
                "another run has built this tree again meanwhile, with other content",
                remedy="run this again; to check two states at once give each its own git worktree",
            )
        yield


@contextmanager
def _marked(room: Path) -> Iterator[None]:
    """Note that make runs; first mend what a make that was killed has left."""
    mark = room / _RUNNING
    if mark.exists():
        mend(room / "out", mark.stat().st_mtime_ns)
    mark.touch()
    yield
    mark.unlink()


def mend(out: Path, since: int) -> None:
    """Remove files that a killed make was writing: newer than ``since`` (ns), with the commands of an older build.

    kbuild takes such a file for finished. One without a command file it makes again by itself.
    """
    for command in out.rglob(".*.cmd"):
        made = command.with_name(command.name[1:].removesuffix(".cmd"))
        if made.exists() and made.stat().st_mtime_ns >= since > command.stat().st_mtime_ns:
            made.unlink()
