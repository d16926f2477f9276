"""The agent and the exerciser, compiled from the sources that come with hostwalk and kept in the cache."""

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
from hostwalk.errors import BuildError, Evidence
from hostwalk.kernels import toolchain
from hostwalk.kernels.kernel import Headers, Kernel
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.kernels.toolchain import Toolchain
from hostwalk.manifest import Check
from hostwalk.target import Arch

BUILD_SECONDS = 600.0
AGENT_RECIPE = "agent-1"
EXERCISER_RECIPE = "exerciser-1"
_SOURCE = re.compile(r".*\.[chS]|Kbuild|Makefile")
_KEPT = ("PATH", "HOME", "TERM")
_ERROR = re.compile(
    r"^.*(?:\berror:|\bError \d|undefined reference|ERROR: modpost).*$", re.IGNORECASE | re.MULTILINE
)


def build_agent(arch: Arch, cache: Cache, progress: Progress = SILENT) -> Path:
    """Return the agent for an architecture, a static ELF file; raises BuildError, MissingToolError."""
    compiler = toolchain.find(arch)
    key = key_of(AGENT_RECIPE, arch, compiler.version, *_sources("agent", "include"))

    def make(directory: Path) -> None:
        with progress.task(f"building the agent for {arch}", None), _copy(cache, "agent", "include") as tree:
            arguments = [f"O={directory}", *_assigned(_agent_variables(compiler))]
            _make(tree / "agent", arguments, tree, f"the agent does not build for {arch}")

    return cache.entry("agent", key, make, check=Check.HASH) / "agent"


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


def _make_module(headers: Headers, compiler: Toolchain, tree: Path, kernel: Kernel) -> None:
    flags = f"KCFLAGS=-Werror -ffile-prefix-map={tree}=guest"
    arguments = [f"M={tree / 'module'}", *_assigned(headers.variables), flags, "modules"]
    what = f"the exerciser does not build for {kernel.arch} Linux {kernel.release} with {compiler.version}"
    _make(headers.build, arguments, tree, what)


def _keep(module: Path, compiler: Toolchain, directory: Path) -> None:
    shutil.copy(module, directory / "hostwalk.ko")
    argv = [f"{compiler.prefix}strip", "--strip-debug", "-o", str(directory / "stripped.ko"), str(module)]
    process.run(argv, deadline=Deadline.after(60), error=BuildError, what="strip")


def _renew_if_damaged(headers: Headers, cache: Cache) -> None:
    """Check headers of the cache file by file, which each use would be too slow for."""
    if not headers.build.is_relative_to(cache.root) or headers.renew is None:
        return
    entry = cache.root.joinpath(*headers.build.relative_to(cache.root).parts[:2])
    if not cache.verify(entry):
        cache.drop(entry)
        headers.renew()


def _make(directory: Path, arguments: Sequence[str], tree: Path, what: str) -> None:
    """Run make; raise BuildError with the first thing that the compiler did not like."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"LC_ALL": "C.UTF-8", "TMPDIR": str(tree)}
    argv = [process.find_tool("make", "make"), "-C", str(directory), *arguments, f"-j{os.cpu_count() or 1}"]
    done = process.run(
        argv,
        deadline=Deadline.after(BUILD_SECONDS),
        error=BuildError,
        what=what,
        check=False,
        env=environment,
    )
    if done.status:
        said = done.stderr + done.stdout
        first = _ERROR.search(said)
        line = first[0].strip().replace(f"{tree}/", "guest/") if first else f"make ended with {done.status}"
        raise BuildError(f"{what}: {line}", evidence=Evidence(done.command, stderr=said[-8000:]))


def _assigned(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in variables.items()]


def _sources(*names: str) -> Iterator[str | Path]:
    """Yield names and files of sources; what was built in a checkout is none of them."""
    for name in names:
        directory = resources.guest_sources() / name
        for path in sorted(path for path in directory.rglob("*") if _SOURCE.fullmatch(path.name)):
            yield from (str(path.relative_to(directory.parent)), path)


@contextlib.contextmanager
def _copy(cache: Cache, *names: str) -> Iterator[Path]:
    """Lend a copy of the sources, for make to write into; in a path that make can take."""
    with contextlib.ExitStack() as stack:
        awkward = any(char in str(cache.root) for char in " :")
        elsewhere = tempfile.TemporaryDirectory(prefix="hostwalk-") if awkward else None
        place = Path(stack.enter_context(elsewhere)) if elsewhere else stack.enter_context(cache.temporary())
        for path in _sources(*names):
            if isinstance(path, Path):
                target = place / path.relative_to(resources.guest_sources())
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        yield place
