"""Builds the programs of a collection of kselftests for a guest, statically, from a kernel's own source.

The source stays as it is: make runs in a copy of the collection's directory among links to all the rest, for its
Makefile writes into it. What does not build is kept with the compiler's reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hostwalk import process
from hostwalk.cache import Cache, key_of
from hostwalk.cell import Prepared
from hostwalk.deadline import Deadline
from hostwalk.errors import BuildError, ResolveError
from hostwalk.kernels import Kernel, Progress, toolchain, view
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.making import first_error
from hostwalk.kernels.sources import DebianSources, Tree, Wanted, tree_at
from hostwalk.options import CheckOptions
from hostwalk.suites.libraries import Libraries, libraries
from hostwalk.target import is_from_source

RECIPE = "kselftest-3"
BUILD_SECONDS = 3600.0
LINKED = "-static -Wl,-z,separate-code"
"""Code and constants on pages of their own, as linkers for x86-64 have it: seal_elf takes that for granted."""
_SELFTESTS = Path("tools/testing/selftests")
_FAILED = re.compile(r"^make(?:\[\d+\])?: \*\*\* \[[^\]]*: ([^\]]+)\] Error")
_BEGUN = re.compile(r"^  [A-Z]+ +(?:\[\w+\] )?\S+$")
_BASE = re.compile(r"\d+\.\d+")
_NAMES = "hostwalk-names: ; @echo $(notdir $(TEST_GEN_FILES) $(TEST_GEN_PROGS))"


@dataclass(frozen=True)
class Built:
    """A collection as built: its directory, its programs, and the reason for each that did not build."""

    directory: Path
    programs: tuple[str, ...]
    failures: Mapping[str, str]

    def file(self, name: str) -> Path:
        """Return the path of a program or script."""
        return self.directory / name


def built_for(
    prepared: Prepared, collection: str, options: CheckOptions, cache: Cache, progress: Progress
) -> Built:
    """Return a collection, built from the source of a prepared target's kernel; raises what its parts raise."""
    tree = source_of(prepared.kernel, Archive(cache, options.mirror, progress, sources=True))
    linked = libraries(prepared.target.arch, Archive(cache, options.mirror, progress), cache)
    return build(collection, tree, linked, cache, progress)


def source_of(kernel: Kernel, archive: Archive) -> Tree:
    """Return the source that belongs to a kernel: what it was built from, or Debian's of the same version.

    Raises ResolveError, FetchError, CacheError.
    """
    if is_from_source(kernel.spec):
        wanted = Wanted.parse(kernel.spec)
        return DebianSources(archive).tree(wanted.version) if wanted.version else tree_at(wanted.path)
    base = _BASE.match(kernel.release)
    if base is None:
        raise ResolveError(f"{kernel.spec} does not tell the version of its source: {kernel.release}")
    return DebianSources(archive).tree(base[0])


def build(collection: str, tree: Tree, linked: Libraries, cache: Cache, progress: Progress) -> Built:
    """Return a collection, built for the architecture of the libraries if it is not in the cache.

    Raises ResolveError where the source has no such collection, BuildError where nothing of it builds, CacheError.
    """
    origin = tree.path / _SELFTESTS / collection
    if not (origin / "run_vmtests.sh").is_file():
        raise ResolveError(
            f"Linux {tree.version} has no collection {collection!r} that is known here", remedy="ask for mm"
        )
    compiler = toolchain.find(linked.arch)
    key = key_of(
        RECIPE, collection, tree.identity, tree.version, linked.arch, compiler.version, linked.identity
    )
    builder = _Builder(collection, tree, linked, compiler, cache, progress)
    entry = cache.entry("kselftest", key, builder.make)
    found = json.loads((entry / "built.json").read_text())
    return Built(entry / "files", tuple(found["programs"]), found["failures"])


@dataclass(frozen=True)
class _Builder:
    collection: str
    tree: Tree
    linked: Libraries
    compiler: toolchain.Toolchain
    cache: Cache
    progress: Progress

    def make(self, directory: Path) -> None:
        """Build into an entry of the cache: ``files`` and ``built.json``."""
        files = directory / "files"
        files.mkdir()
        with self.cache.temporary() as room:
            source = view.clean(self.tree.path, self.linked.arch, room / "view")
            self._headers(source, room / "headers")
            work = shadow(source, room / "source", self.collection)
            names = self._make(work, room, files, "-s", f"--eval={_NAMES}", _NAMES.partition(":")[0])
            said = self._make(work, room, files, "-k", "-O", f"-j{process.processors()}", "all")
            keep_scripts(work, files)
        programs = sorted(set((names.splitlines() or [""])[-1].split()))
        failures = failures_in(said, programs, files, room)
        if len(failures) == len(programs):
            raise BuildError(
                f"no program of {self.collection} builds: {next(iter(failures.values()), 'make names none')}",
                remedy="see what the compiler says, and give a kernel whose source is whole",
            )
        text = json.dumps({"programs": programs, "failures": failures}, indent=1)
        (directory / "built.json").write_text(text)

    def _headers(self, source: Path, out: Path) -> None:
        out.mkdir()
        argv: list[str | Path] = [
            process.find_tool("make", "make"), "-s", "-C", source, f"O={out}", f"ARCH={self.linked.arch.kernel}",
            "headers",
        ]  # fmt: skip
        with self.progress.task(f"headers of Linux {self.tree.version}", None):
            process.run(
                argv,
                deadline=Deadline.after(BUILD_SECONDS),
                error=BuildError,
                what="make headers",
                env=self._environ(),
            )

    def _make(self, work: Path, room: Path, files: Path, *words: str) -> str:
        """Run the collection's Makefile; return all that it says, in its order, whether or not it fails."""
        settings = {
            "OUTPUT": files, "ARCH": self.linked.arch, "CC": self.compiler.cc,
            "USERCFLAGS": f"{LINKED} -L{self.linked.archives}",
            "KHDR_INCLUDES": f"-isystem {room / 'headers' / 'usr/include'}",
        }  # fmt: skip
        make = ["sh", "-c", 'exec "$@" 2>&1', "sh", process.find_tool("make", "make"), "--no-print-directory"]
        argv: list[str | Path] = [*make, "-C", work, *(f"{key}={value}" for key, value in settings.items())]
        with self.progress.task(
            f"selftests/{self.collection} of Linux {self.tree.version} for {self.linked.arch}", None
        ):
            done = process.run(
                [*argv, *words], deadline=Deadline.after(BUILD_SECONDS), error=BuildError,
                what=f"make of selftests/{self.collection}", check=False, env=self._environ(),
            )  # fmt: skip
        return done.stdout

    def _environ(self) -> dict[str, str]:
        """Return the environment of make, with the libraries' headers: check_config.sh compiles without its flags."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR")}
        return {**kept, "LC_ALL": "C.UTF-8", "C_INCLUDE_PATH": str(self.linked.headers)}


def shadow(source: Path, place: Path, collection: str) -> Path:
    """Make a tree of links to a source, with a copy of one collection; return the copy's path."""
    at = Path()
    place.mkdir()
    for part in (*_SELFTESTS.parts, collection):
        for path in (source / at).iterdir():
            if path.name != part:
                (place / at / path.name).symlink_to(path)
        at /= part
        if at != _SELFTESTS / collection:
            (place / at).mkdir()
    return Path(shutil.copytree(source / at, place / at))


def keep_scripts(work: Path, files: Path) -> None:
    """Copy a collection's scripts beside its programs, executable."""
    for path in sorted(work.glob("*.sh")):
        target = files / path.name
        shutil.copyfile(path, target)
        target.chmod(0o755)


def failures_in(said: str, programs: list[str], files: Path, room: Path) -> dict[str, str]:
    """Return why each program that is not there was not built: what the compiler said first of it."""
    reasons: dict[str, str] = {}
    block: list[str] = []
    for line in said.splitlines():
        if _BEGUN.match(line):
            block = []
        block.append(line)
        if failed := _FAILED.match(line):
            reasons[Path(failed[1]).name] = first_error("\n".join(block[:-1]), [room]) or line
            block = []
    return {
        name: reasons.get(name, "make did not get to it, and does not say why")
        for name in programs
        if not (files / name).is_file()
    }
