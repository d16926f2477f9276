"""What hostwalk needs from its host: probed, explained, and installed on request.

A program counts when it runs and does what it is needed for, not when a package is said to be installed. What
was found good once is remembered in the cache with the files it was seen in, so that asking again takes a
few file look-ups.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from hostwalk import process
from hostwalk.cache import Cache, key_of
from hostwalk.deadline import Deadline
from hostwalk.errors import HostwalkError, MissingToolError
from hostwalk.target import Arch

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT_LISTS = Path("/var/lib/apt/lists")
VARIABLE = "HOSTWALK_INSTALL"
PROBE_SECONDS = 30.0
UPDATE_SECONDS = 600.0
INSTALL_SECONDS = 1800.0

Busy = Callable[[str], AbstractContextManager[object]]
"""Shows that something named goes on while its block runs."""
Ask = Callable[[str], bool]
"""Puts a yes/no question."""


@dataclass(frozen=True)
class Tool:
    """A program (or a file) of the host: the Debian packages it comes from and what it is good for.

    ``arch`` None: every run needs it. ``minimum`` is the oldest version that will do.
    """

    name: str
    packages: tuple[str, ...]
    purpose: str
    arch: Arch | None = None
    minimum: tuple[int, ...] = ()
    links: bool = False
    """Whether it has to link a static program."""
    program: bool = True
    archive: bool = False
    """Whether only runs that fetch kernels from Debian need it."""
    builds: bool = False
    """Whether only runs that build kernels from source need it."""


@dataclass(frozen=True)
class Finding:
    """What a look at the host found: ``detail`` is a version, or says what is wrong."""

    name: str
    ok: bool
    detail: str
    packages: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    """Files that the finding rests on."""


def _compiler(arch: Arch) -> Tool:
    native = platform.machine() in (arch, arch.gnu.partition("-")[0])
    cross = f"gcc-{arch.gnu.replace('_', '-')}", f"libc6-dev-{arch.debian}-cross"
    packages = ("gcc", "libc6-dev") if native else cross
    return Tool(
        "gcc" if native else f"{arch.gnu}-gcc", packages, "builds the guest's programs", arch, links=True
    )


QEMUS = (
    Tool("qemu-system-x86_64", ("qemu-system-x86",), "runs x86_64 guests", Arch.X86_64, (7, 2)),
    Tool("qemu-system-aarch64", ("qemu-system-arm",), "runs arm64 guests", Arch.ARM64, (7, 2)),
)
TOOLS = (
    *QEMUS,
    _compiler(Arch.X86_64),
    _compiler(Arch.ARM64),
    Tool("make", ("make",), "builds the kernel module"),
    Tool("apt-get", ("apt",), "fetches kernels", archive=True),
    Tool("dpkg-deb", ("dpkg",), "unpacks kernels", archive=True),
    Tool(
        str(KEYRING),
        ("debian-archive-keyring",),
        "tells real packages from forged ones",
        program=False,
        archive=True,
    ),
)
XZ = Tool("xz", ("xz-utils",), "unpacks the source of kernels", builds=True)
BUILDING = (
    Tool("flex", ("flex",), "builds kernels", builds=True),
    Tool("bison", ("bison",), "builds kernels", builds=True),
    Tool("bc", ("bc",), "builds kernels", builds=True),
    Tool("perl", ("perl",), "builds kernels", builds=True),
    XZ,
    Tool("/usr/include/libelf.h", ("libelf-dev",), "builds kernels' objtool", program=False, builds=True),
    Tool("/usr/include/openssl/opensslv.h", ("libssl-dev",), "builds kernels", program=False, builds=True),
)
"""What building kernels takes besides the tools of every run (Documentation/process/changes.rst)."""

DEBUGGING = (Tool("gdb-multiarch", ("gdb-multiarch",), "debugs guests of either architecture"),)
"""What `hostwalk shell --gdb` takes besides, where no gdb of the host's own will do."""

TESTING = (Tool("git", ("git",), "makes the trees that tests work on"), XZ)
"""What the project's own tests take besides."""


class _LackingError(Exception):
    """A probe's answer when something is not as it should be; the message says what."""


def needed(archs: Iterable[Arch], *, archive: bool = True, builds: bool = False) -> tuple[Tool, ...]:
    """Return the tools that runs on these architectures need.

    ``archive``: with kernels from Debian's archive; ``builds``: with kernels that are built from source.
    """
    chosen = frozenset(archs)
    known = (*TOOLS, *(BUILDING if builds else ()))
    return tuple(tool for tool in known if tool.arch in chosen | {None} and tool.archive <= archive)


def fetching() -> tuple[Tool, ...]:
    """Return the tools that fetch kernels from Debian's archive."""
    return tuple(tool for tool in TOOLS if tool.archive)


def examine(tools: Sequence[Tool]) -> tuple[Finding, ...]:
    """Probe the tools; return one finding each, in order."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return tuple(pool.map(_look_at, tools))


def version_of(tool: Tool) -> str:
    """Return the version that a program says it is, or nothing when it is not there or does not run."""
    try:
        return _version(_find(tool), tool)
    except _LackingError:
        return ""


def _look_at(tool: Tool) -> Finding:
    try:
        path = _find(tool)
        detail = _version(path, tool) if tool.program else "present"
        watched = (path, *([_link_statically(path)] if tool.links else []))
    except _LackingError as lack:
        return Finding(tool.name, ok=False, detail=str(lack), packages=tool.packages)
    return Finding(tool.name, ok=True, detail=detail, packages=tool.packages, watched=watched)


def _find(tool: Tool) -> str:
    path = shutil.which(tool.name) if tool.program else tool.name
    if path is None or not Path(path).exists():
        raise _LackingError(f"is not installed; it {tool.purpose}")
    return path


def _version(path: str, tool: Tool) -> str:
    said = _run([path, "--version"])
    found = re.search(r"\d+(\.\d+)+", said)
    if not found:
        raise _LackingError("does not say its version")
    version = tuple(int(number) for number in found[0].split("."))
    if version < tool.minimum:
        raise _LackingError(f"is version {found[0]}; {'.'.join(map(str, tool.minimum))} or newer is needed")
    return found[0]


def _link_statically(compiler: str) -> str:
    """Link a static program; return the C library that was used."""
    with tempfile.TemporaryDirectory(prefix="hostwalk-doctor-") as directory:
        source = Path(directory, "empty.c")
        source.write_text("int main(void) { return 0; }\n")
        _run([compiler, "-static", "-o", str(source.with_suffix("")), str(source)])
    return _run([compiler, "-print-file-name=libc.a"]).strip()


def _run(argv: Sequence[str]) -> str:
    try:
        return process.run(argv, deadline=Deadline.after(PROBE_SECONDS)).stdout
    except HostwalkError as error:
        last = (error.evidence.stderr.strip().splitlines() or [""])[-1]
        raise _LackingError(f"does not work: {error.message}{': ' if last else ''}{last}") from error


def remembered(tools: Sequence[Tool], cache: Cache) -> bool:
    """Whether all these tools were found good before and are still the same files."""
    key = _key(tools)
    entry = cache.lookup("doctor", key) if key else None
    if entry is None:
        return False
    watched: dict[str, list[int]] = json.loads((entry / "watched.json").read_text())
    return all(_stamp(path) == stamp for path, stamp in watched.items())


def remember(tools: Sequence[Tool], findings: Sequence[Finding], cache: Cache) -> None:
    """Note that these tools were found good; raises CacheError when the cache cannot be written."""
    watched = {path: _stamp(path) for finding in findings for path in finding.watched}
    key = _key(tools)
    if key:
        cache.remove("doctor", key)
        cache.entry("doctor", key, lambda place: _write(place / "watched.json", json.dumps(watched)))


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _key(tools: Sequence[Tool]) -> str:
    paths = [shutil.which(tool.name) if tool.program else tool.name for tool in tools]
    return key_of(repr([(path, _stamp(path)) for path in paths if path])) if all(paths) else ""


def _stamp(path: str) -> list[int]:
    try:
        stat = Path(path).stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def ensure(
    tools: Sequence[Tool], *, cache: Cache | None = None, ask: Ask | None = None, busy: Busy = nullcontext
) -> None:
    """Make sure that the host has these tools, see ``needed``.

    Asks before it installs where ``ask`` is given. Raises MissingToolError when something is missing and may
    not or cannot be installed.
    """
    cache = cache or Cache.user()
    if remembered(tools, cache):
        return
    findings = examine(tools)
    if missing := _missing(findings):
        _consent(missing, ask)
        install(packages_of(missing), busy)
        findings = examine(tools)
    if missing := _missing(findings):
        raise MissingToolError(_listed(missing), remedy=remedy(missing))
    remember(tools, findings, cache)


def remedy(missing: Sequence[Finding]) -> str:
    """Return the one command that gets what is missing; nothing when no package would help."""
    packages = packages_of(missing)
    if not packages:
        return ""
    if shutil.which("apt-get") is None:
        return f"install what Debian calls {' '.join(packages)}"
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    return process.quote([*sudo, *_INSTALL, *packages])


def _missing(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if not finding.ok)


def packages_of(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return the packages that the findings' tools come from, each once."""
    return tuple(dict.fromkeys(package for finding in findings for package in finding.packages))


def _listed(missing: Sequence[Finding]) -> str:
    return "the host is not ready: " + "; ".join(f"{finding.name} {finding.detail}" for finding in missing)


def _consent(missing: Sequence[Finding], ask: Ask | None) -> None:
    wish = os.environ.get(VARIABLE, "").lower()
    if wish == "yes" or (wish != "no" and ask is None):
        return
    question = f"hostwalk needs Debian packages that are missing.\n  {remedy(missing)}\nRun this now?"
    if wish == "no" or ask is None or not ask(question):
        raise MissingToolError(_listed(missing), remedy=remedy(missing))


_APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3")
_INSTALL = ("apt-get", "install", "-y", "--no-install-recommends")


def install(packages: Sequence[str], busy: Busy = nullcontext) -> None:
    """Install Debian packages, with fresh package lists where there are none or they have aged.

    Raises MissingToolError when apt-get is missing, rights are, or apt-get fails.
    """
    fresh = not any(APT_LISTS.glob("*_Packages*"))
    if fresh:
        _update(packages, busy)
    try:
        _install(packages, busy)
    except MissingToolError:
        if fresh:
            raise
        _update(packages, busy)
        _install(packages, busy)


def _update(packages: Sequence[str], busy: Busy) -> None:
    with busy("fetch package lists (apt-get update)"):
        _apt(["update"], packages, UPDATE_SECONDS)


def _install(packages: Sequence[str], busy: Busy) -> None:
    with busy(f"install {' '.join(packages)}"):
        _apt([*_INSTALL[1:], *packages], packages, INSTALL_SECONDS)


def _apt(arguments: Sequence[str], packages: Sequence[str], seconds: float) -> None:
    by_hand = f"as root, run: {process.quote([*_INSTALL, *packages])}"
    process.run(
        [*_as_root(by_hand), "env", "DEBIAN_FRONTEND=noninteractive", *_APT, *arguments],
        deadline=Deadline.after(seconds), error=MissingToolError, what=f"apt-get {arguments[0]}",
        remedy=by_hand, session=False,
    )  # fmt: skip


def _as_root(by_hand: str) -> list[str]:
    """Return what makes a command run as root; sudo may ask for a password on a terminal only."""
    if shutil.which("apt-get") is None:
        raise MissingToolError("this host has no apt-get", remedy="install the tools with its own packages")
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        raise MissingToolError("packages are missing, and there is neither root nor sudo", remedy=by_hand)
    return ["sudo"] if sys.stdin is not None and sys.stdin.isatty() else ["sudo", "-n"]
