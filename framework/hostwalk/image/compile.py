"""The agent and the exerciser, compiled from the sources that come with hostwalk, and users' modules; cached."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hostwalk import process, resources
from hostwalk.cache import Cache, key_of
from hostwalk.deadline import Deadline
from hostwalk.errors import BuildError, BuildInterruptedError, Evidence, UsageError
from hostwalk.kernels import toolchain
from hostwalk.kernels.kernel import Headers, Kernel
from hostwalk.kernels.making import RUN_AGAIN, interruption, tail
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.kernels.toolchain import Toolchain
from hostwalk.manifest import Check
from hostwalk.target import Arch

BUILD_SECONDS = 600.0
AGENT_RECIPE = "agent-1"
LOGIN_RECIPE = "login-1"
EXERCISER_RECIPE = "exerciser-1"
MODULE_RECIPE = "module-1"
_SOURCE = re.compile(r".*\.[chS]|Kbuild|Makefile")
_KEPT = ("PATH", "HOME", "TERM")
_ERROR = re.compile(
    r"^.*(?:\berror:|\bError \d|undefined reference|ERROR: modpost).*$", re.IGNORECASE | re.MULTILINE
)


def build_agent(arch: Arch, cache: Cache, progress: Progress = SILENT) -> Path:
    """Return the agent for an architecture, a static ELF file; raises BuildError, MissingToolError."""
    compiler = toolchain.find(arch)
    key = key_of(AGENT_RECIPE, arch, compiler.version, *_sources("agent", "include", "ports"))

    def make(directory: Path) -> None:
        with (
            progress.task(f"building the agent for {arch}", None),
            _copy(cache, "agent", "include", "ports") as tree,
        ):
            arguments = [f"O={directory}", *_assigned(_agent_variables(compiler))]
            _make(tree / "agent", arguments, tree, f"the agent does not build for {arch}")

    return cache.entry("agent", key, make, check=Check.HASH) / "agent"


def build_login(arch: Arch, cache: Cache, progress: Progress = SILENT) -> Path:
    """Return the program that lets people into a guest, a static ELF file; raises BuildError, MissingToolError."""
    compiler = toolchain.find(arch)
    key = key_of(LOGIN_RECIPE, arch, compiler.version, *_sources("login", "ports"))

    def make(directory: Path) -> None:
        with progress.task(f"building the login for {arch}", None), _copy(cache, "login", "ports") as tree:
            arguments = [f"O={directory}", *_assigned(_agent_variables(compiler))]
            _make(tree / "login", arguments, tree, f"the login does not build for {arch}")
            _strip(directory / "login", compiler, directory / "login")

    return cache.entry("login", key, make, check=Check.HASH) / "login"


def _agent_variables(compiler: Toolchain) -> Mapping[str, str]:
    return {"CROSS_COMPILE": compiler.prefix, "CC": compiler.cc}


def build_exerciser(kernel: Kernel, cache: Cache, progress: Progress = SILENT) -> Path:
    """Return the exerciser for a kernel, with its debug information.

    Beside it lies ``stripped.ko``, for the guest. Raises BuildError, MissingToolError, CacheError,
    ResolveError for a kernel without headers.
    """
    headers = kernel.needs_headers()
    compiler = toolchain.find(kernel.arch, kernel.config)
    variables = _assigned(headers.variables)
    key = key_of(
        EXERCISER_RECIPE, headers.identity, compiler.version, *variables, *_sources("module", "include")
    )

    def make(directory: Path) -> None:
        text = f"building the exerciser for {kernel.arch} Linux {kernel.release}"
        with progress.task(text, None), _copy(cache, "module", "include") as tree:
            _renew_if_damaged(headers, cache)
            _make_module(headers, compiler, tree, kernel)
            _keep(tree / "module" / "hostwalk.ko", compiler, directory)

    return cache.entry("exerciser", key, make, check=Check.HASH) / "hostwalk.ko"


def build_module(kernel: Kernel, directory: Path, cache: Cache, progress: Progress = SILENT) -> Path:
    """Return the one module that the Kbuild or Makefile in a directory builds for a kernel, stripped for the guest.

    The sources are copied and stay as they are. Raises BuildError, MissingToolError, CacheError, UsageError,
    ResolveError for a kernel without headers.
    """
    sources = _module_sources(directory)
    headers = kernel.needs_headers()
    compiler = toolchain.find(kernel.arch, kernel.config)
    variables = _assigned(headers.variables)
    contents = [part for path in sources for part in (str(path.relative_to(directory)), path)]
    key = key_of(MODULE_RECIPE, headers.identity, compiler.version, *variables, *contents)

    def make(entry: Path) -> None:
        text = f"building {directory.name} for {kernel.arch} Linux {kernel.release}"
        with progress.task(text, None), _scratch(cache) as tree:
            _copy_files(sources, directory, tree)
            _renew_if_damaged(headers, cache)
            what = f"{directory.name} does not build for {kernel.arch} Linux {kernel.release}"
            _make_in(tree, headers, tree, what, shown=directory.name)
            _strip(_only_module(tree, directory), compiler, entry / "module.ko")

    return cache.entry("module", key, make, check=Check.HASH) / "module.ko"


def _module_sources(directory: Path) -> list[Path]:
    found = sorted(path for path in directory.rglob("*") if _SOURCE.fullmatch(path.name))
    if not any(path.name in ("Kbuild", "Makefile") for path in directory.glob("*")):
        raise UsageError(
            f"{directory} builds no module: it has no Kbuild", remedy="write one: obj-m := NAME.o"
        )
    return [path for path in found if not path.name.endswith(".mod.c")]


def _only_module(tree: Path, directory: Path) -> Path:
    made = sorted(tree.rglob("*.ko"))
    if len(made) != 1:
        names = ", ".join(path.name for path in made) or "none"
        raise UsageError(f"{directory} is to build one module; it builds {names}")
    return made[0]


def _make_module(headers: Headers, compiler: Toolchain, tree: Path, kernel: Kernel) -> None:
    """Build the exerciser, which must compile without a warning."""
    what = f"the exerciser does not build for {kernel.arch} Linux {kernel.release} with {compiler.version}"
    _make_in(tree / "module", headers, tree, what, shown="guest", flags="-Werror")


def _make_in(
    directory: Path, headers: Headers, tree: Path, what: str, *, shown: str, flags: str = ""
) -> None:
    flags = f"KCFLAGS={flags} -ffile-prefix-map={tree}={shown}".replace("= ", "=", 1)
    arguments = [f"M={directory}", *_assigned(headers.variables), flags, "modules"]
    with headers.held():
        _make(headers.build, arguments, tree, what, shown)


def _keep(module: Path, compiler: Toolchain, directory: Path) -> None:
    shutil.copy(module, directory / "hostwalk.ko")
    _strip(module, compiler, directory / "stripped.ko")


def _strip(module: Path, compiler: Toolchain, target: Path) -> None:
    argv = [f"{compiler.prefix}strip", "--strip-debug", "-o", str(target), str(module)]
    process.run(argv, deadline=Deadline.after(60), error=BuildError, what="strip")


def _renew_if_damaged(headers: Headers, cache: Cache) -> None:
    """Check headers of the cache file by file, which each use would be too slow for."""
    if not headers.build.is_relative_to(cache.root) or headers.renew is None:
        return
    entry = cache.root.joinpath(*headers.build.relative_to(cache.root).parts[:2])
    if not cache.verify(entry):
        cache.drop(entry)
        headers.renew()


def _make(directory: Path, arguments: Sequence[str], tree: Path, what: str, shown: str = "guest") -> None:
    """Run make; raise BuildError with the first thing that the compiler did not like, ``tree`` as ``shown``."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"LC_ALL": "C.UTF-8", "TMPDIR": str(tree)}
    argv = [process.find_tool("make", "make"), "-C", str(directory), *arguments, f"-j{process.processors()}"]
    done = process.run(
        argv,
        deadline=Deadline.after(BUILD_SECONDS),
        error=BuildInterruptedError,
        what=what,
        remedy=RUN_AGAIN,
        check=False,
        env=environment,
    )
    if done.status:
        said = done.stderr + done.stdout
        evidence = Evidence(done.command, stderr=tail(said, 100))
        if cut := interruption(said, done.status):
            raise BuildInterruptedError(f"{what}: {cut}", remedy=RUN_AGAIN, evidence=evidence)
        first = _ERROR.search(said)
        line = (
            first[0].strip().replace(f"{tree}/", f"{shown}/") if first else f"make ended with {done.status}"
        )
        raise BuildError(f"{what}: {line}", evidence=evidence)


def _assigned(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in variables.items()]


def exerciser_sources() -> Iterator[tuple[str, Path]]:
    """Yield name and file of all that the exerciser is compiled from."""
    files = [path for path in _sources("module", "include") if isinstance(path, Path)]
    top = resources.guest_sources()
    return ((str(path.relative_to(top)), path) for path in files)


def _sources(*names: str) -> Iterator[str | Path]:
    """Yield names and files of sources; what was built in a checkout is none of them."""
    for name in names:
        directory = resources.guest_sources() / name
        for path in sorted(path for path in directory.rglob("*") if _SOURCE.fullmatch(path.name)):
            yield from (str(path.relative_to(directory.parent)), path)


@contextlib.contextmanager
def _copy(cache: Cache, *names: str) -> Iterator[Path]:
    """Lend a copy of the sources, for make to write into."""
    with _scratch(cache) as place:
        files = [path for path in _sources(*names) if isinstance(path, Path)]
        _copy_files(files, resources.guest_sources(), place)
        yield place


def _copy_files(files: Sequence[Path], top: Path, place: Path) -> None:
    for path in files:
        target = place / path.relative_to(top)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


@contextlib.contextmanager
def _scratch(cache: Cache) -> Iterator[Path]:
    """Lend an empty directory, in a path that make can take."""
    with contextlib.ExitStack() as stack:
        awkward = any(char in str(cache.root) for char in " :")
        elsewhere = tempfile.TemporaryDirectory(prefix="hostwalk-") if awkward else None
        yield Path(stack.enter_context(elsewhere)) if elsewhere else stack.enter_context(cache.temporary())
