"""Debian's archive through a private apt root in the cache: no root rights, signatures checked."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.errors import Evidence, FetchError
from hostwalk.kernels.mirrors import ARCHITECTURES, Mirrors, Source, read_sources

UPDATE_SECONDS = 600.0
DOWNLOAD_SECONDS = 3600.0
STALL_SECONDS = 180.0
LEAST_ROOM = 1 << 20
_HELPER = "/usr/lib/apt/apt-helper"
_REMEDY = "check the network, or name another mirror: --mirror URL or HOSTWALK_MIRROR=URL"
# What a mirror may need; nothing that weakens the check of signatures.
_COPIED = re.compile(
    r"Acquire::(?:http|https|ftp|Retries|Queue-Mode|Force|ProxyAutoDetect|Proxy-Auto-Detect"
    r"|Check-Valid-Until|Check-Date|Max-ValidTime|Min-ValidTime|By-Hash|Source-Symlinks)"
)
_KERNELS = r"linux-(?:image|headers|kbuild|source)-.*"
_STATUS = re.compile(rb"dlstatus:\d+:([\d.]+):")


@dataclass(frozen=True)
class Package:
    """One version of one package as the signed index describes it; ``size`` in bytes."""

    name: str
    version: str
    arch: str
    size: int
    sha256: str
    uri: str
    depends: str

    @property
    def file_name(self) -> str:
        """The name of its .deb file."""
        return self.uri.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Machine:
    """The machine's own apt configuration: lines as ``apt-config dump`` prints them."""

    lines: tuple[str, ...]

    @classmethod
    def read(cls) -> Machine:
        """Ask apt; raises MissingToolError without apt."""
        tool = process.find_tool("apt-config", "apt")
        done = process.run([tool, "dump"], deadline=Deadline.after(30), error=FetchError, what="apt-config")
        return cls(tuple(done.stdout.splitlines()))

    def value(self, key: str, default: str) -> str:
        """Return a setting, or the default where it is not set or empty."""
        found = (
            line.removeprefix(f'{key} "').removesuffix('";')
            for line in self.lines
            if line.startswith(f'{key} "')
        )
        return next(found, "") or default

    def path(self, key: str, default: str) -> Path:
        """Return a file or directory of apt's configuration."""
        root = Path(self.value("Dir", "/")) / self.value("Dir::Etc", "etc/apt")
        return root / self.value(f"Dir::Etc::{key}", default)

    def sources(self) -> tuple[Source, ...]:
        """Return where the machine takes packages from."""
        return read_sources(
            self.path("sourcelist", "sources.list"), self.path("sourceparts", "sources.list.d")
        )


@dataclass(frozen=True)
class Apt:
    """An apt root in a directory of its own."""

    room: Path

    def configure(self, machine: Machine, mirrors: Mirrors) -> None:
        """Write the root's configuration; what the machine needs to reach a mirror is taken over."""
        for name in ("etc/parts", "etc/preferences.d", "lists/partial", "archives/partial"):
            (self.room / name).mkdir(parents=True, exist_ok=True)
        (self.room / "status").touch()
        (self.room / "etc/hostwalk.sources").write_text(str(mirrors))
        (self.room / "apt.conf").write_text("\n".join([*self._settings(machine), *_copied(machine)]) + "\n")

    def update(self, report: Callable[[int], None]) -> None:
        """Fetch the signed indexes; ``report`` hears per cent. Raises FetchError, OSError when the disk is full."""
        apt_get = process.find_tool("apt-get", "apt")
        argv = [
            apt_get,
            "update",
            "-q",
            "-o",
            "APT::Update::Error-Mode=any",
            "-o",
            "pkgCacheFile::Generate=false",
        ]
        try:
            self._run(
                argv, self.room, Deadline.after(UPDATE_SECONDS), "reading Debian's package index", report
            )
        except OSError:
            shutil.rmtree(self.room / "lists/partial", ignore_errors=True)
            raise

    def packages(self, names: Iterable[str] = ()) -> Iterator[Package]:
        """Yield the named packages, else those of kernels, of the indexes that were fetched, as apt verified them."""
        apt_get = process.find_tool("apt-get", "apt")
        shape = "$(FILENAME)|$(REPO_URI)|$(ARCHITECTURE)"
        done = self._ask([apt_get, "indextargets", "--format", shape, "Created-By: Packages"])
        for line in done.splitlines():
            file, repository, arch = line.split("|")
            yield from parse_packages(self._ask([_HELPER, "cat-file", file]), repository, arch, names)

    def download(self, package: Package, directory: Path, report: Callable[[int], None]) -> Path:
        """Fetch one package into a directory, checked against the signed index; ``report`` hears per cent."""
        path = directory / package.file_name
        argv = [_HELPER, "download-file", package.uri, path.name, f"SHA256:{package.sha256}"]
        self._run(argv, directory, Deadline.after(DOWNLOAD_SECONDS), f"fetching {package.file_name}", report)
        return path

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which apt uses this root and no other."""
        conf = self.room / "apt.conf"
        if not (conf.is_absolute() and conf.is_file()):
            raise FetchError(f"{conf} is not there, and apt would use the machine's own configuration")
        return {**os.environ, "APT_CONFIG": str(conf), "LC_ALL": "C.UTF-8"}

    def _settings(self, machine: Machine) -> list[str]:
        room = self.room
        architectures = "".join(f'"{arch}"; ' for arch in ARCHITECTURES)
        netrc = [f'Dir::Etc::{key} "{machine.path(key, name)}";' for key, name in _NETRC]
        # For root, apt would change its user, which cancels the signal by which it dies with us (prctl(2)).
        sandbox = 'APT::Sandbox::User "root";'
        return [
            f'Dir "{room}";', f'Dir::State "{room}";', 'Dir::State::lists "lists";',
            f'Dir::State::status "{room}/status";', f'Dir::Cache "{room}";',
            'Dir::Cache::archives "archives";', 'Dir::Cache::pkgcache "";', 'Dir::Cache::srcpkgcache "";',
            f'Dir::Etc "{room}/etc";',
            'Dir::Etc::parts "parts";', 'Dir::Etc::main "none";', 'Dir::Etc::sourcelist "hostwalk.sources";',
            'Dir::Etc::sourceparts "/dev/null";', 'Dir::Etc::preferences "none";', *netrc,
            f"APT::Architectures {{ {architectures}}};", 'Acquire::Languages "none";',
            'Acquire::GzipIndexes "true";', 'Acquire::PDiffs "false";', 'Acquire::http::Timeout "30";',
            'Acquire::https::Timeout "30";', 'Acquire::Retries "2";', sandbox,
        ]  # fmt: skip

    def _ask(self, argv: Sequence[str | Path]) -> str:
        deadline = Deadline.after(UPDATE_SECONDS)
        return process.run(argv, deadline=deadline, error=FetchError, what="apt", env=self.environment).stdout

    def _run(
        self, argv: list[str], cwd: Path, deadline: Deadline, what: str, report: Callable[[int], None]
    ) -> None:
        """Run apt and read its progress; raise FetchError with what it said, OSError when the disk is full."""
        shown = process.quote(["env", f"APT_CONFIG={self.room}/apt.conf", *argv])
        with _started(argv, cwd, self.environment) as (child, reader, log):
            status = _wait(child, deadline) if _follow(reader, deadline, report, self.room) else None
            log.seek(0)
            said = log.read().decode(errors="replace")
        if status != 0:
            how = "failed" if status else "came to a standstill"
            raise FetchError(f"{what} {how}", remedy=_REMEDY, evidence=Evidence(shown, stderr=said))


@contextlib.contextmanager
def _started(
    argv: list[str], cwd: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], int, IO[bytes]]]:
    """Lend a running apt, the end of a pipe where it tells its progress, and a file with what it says."""
    reader, writer = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reader)
        try:
            log = stack.enter_context(tempfile.TemporaryFile(dir=cwd))
            child = process.spawn(
                [argv[0], "-o", f"APT::Status-Fd={writer}", *argv[1:]],
                cwd=cwd, env=environment, pass_fds=(writer,), stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        finally:
            os.close(writer)
        stack.callback(process.kill, child)
        yield child, reader, log


_NETRC = (("netrc", "auth.conf"), ("netrcparts", "auth.conf.d"))


def _copied(machine: Machine) -> list[str]:
    return [line for line in machine.lines if _COPIED.match(line) and not line.endswith(' "";')]


def _follow(reader: int, deadline: Deadline, report: Callable[[int], None], room: Path) -> bool:
    """Report progress until apt closes its end; return False when it makes none any more, or too slowly.

    Raises OSError when the disk of ``room`` is full, at which apt waits for ever instead of saying so.
    """
    seen, patience = b"", deadline.at_most(STALL_SECONDS)
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while not patience.expired:
            _need_room(room)
            if not selector.select(min(1.0, patience.remaining)):
                continue
            data = os.read(reader, 65536)
            if not data:
                return True
            for percent in _STATUS.findall(data)[-1:]:
                if percent != seen:
                    seen, patience = percent, deadline.at_most(STALL_SECONDS)
                    report(int(float(percent)))
    return False


def _need_room(room: Path) -> None:
    disk = os.statvfs(room)
    if disk.f_bavail * disk.f_frsize < LEAST_ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(room))


def _wait(child: subprocess.Popen[bytes], deadline: Deadline) -> int | None:
    try:
        return child.wait(deadline.remaining)
    except subprocess.TimeoutExpired:
        return None


def parse_packages(text: str, repository: str, arch: str, names: Iterable[str] = ()) -> Iterator[Package]:
    """Yield the named packages, else those of kernels, of a Packages index; its files are below ``repository``."""
    wanted = "|".join(map(re.escape, names)) or _KERNELS
    for match in re.finditer(rf"^Package: (?:{wanted})$", text, re.MULTILINE):
        end = text.find("\n\n", match.start())
        stanza = text[match.start() : end if end >= 0 else len(text)]
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        yield Package(
            fields["Package"], fields["Version"], fields.get("Architecture", arch), int(fields["Size"]),
            fields["SHA256"], f"{repository.rstrip('/')}/{fields['Filename']}", fields.get("Depends", ""),
        )  # fmt: skip
