"""Debian package files: an ar archive of compressed tar archives (deb(5)), read in one pass."""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

import zstandard

from hostwalk.errors import ResolveError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, zstandard.ZstdError, ValueError)


def is_deb(path: Path) -> bool:
    """Return whether a file starts like a Debian package; raises OSError."""
    with path.open("rb") as stream:
        return stream.read(len(_AR_MAGIC) + 13) == _AR_MAGIC + b"debian-binary"


def control(deb: Path) -> dict[str, str]:
    """Return the fields of a package's control file; raises ResolveError for a damaged file."""
    with _archive(deb, "control.tar") as tar:
        for member in tar:
            if PurePosixPath(member.name).name == "control":
                text = cast(IO[bytes], tar.extractfile(member)).read().decode()
                lines = (line for line in text.splitlines() if ": " in line and line[0] != " ")
                return dict(line.split(": ", 1) for line in lines)
    raise ResolveError(f"{deb} is no Debian package: it has no control file")


def extract(deb: Path, wanted: Callable[[str], bool], directory: Path) -> list[str]:
    """Extract files and symbolic links whose path (``boot/vmlinuz-…``) is wanted; return these paths.

    Raises ResolveError for a damaged file and OSError where nothing can be written.
    """
    done = []
    parents = _Parents(directory)
    with _archive(deb, "data.tar") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if wanted(name) and (member.isfile() or member.issym()):
                _extract_one(tar, member, parents.path(name))
                done.append(name)
    return done


def _extract_one(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    if member.issym():
        Path(path).symlink_to(member.linkname)
        return
    mode = 0o755 if member.mode & 0o100 else 0o644
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as target:
        shutil.copyfileobj(cast(IO[bytes], tar.extractfile(member)), target, 1 << 20)


class _Parents:
    """Makes the directories that members go to; neither a name nor a link on the way may lead out."""

    def __init__(self, directory: Path) -> None:
        self._top = directory.resolve()
        self._known: set[str] = set()

    def path(self, name: str) -> str:
        """Return where a member goes."""
        parent = name.rpartition("/")[0]
        if parent not in self._known:
            self._make(self._top / parent, name)
            self._known.add(parent)
        return f"{self._top}/{name}"

    def _make(self, parent: Path, name: str) -> None:
        if ".." in Path(name).parts or not parent.resolve().is_relative_to(self._top):
            raise ValueError(f"{name} leads out of the package")
        parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _archive(deb: Path, member: str) -> Iterator[tarfile.TarFile]:
    try:
        with deb.open("rb") as stream:
            name, size = _seek(stream, member)
            with tarfile.open(fileobj=_decompressed(stream, name, size), mode="r|", bufsize=1 << 16) as tar:
                yield tar
    except _DAMAGE as error:
        raise ResolveError(
            f"{deb} is damaged: {error or type(error).__name__}", remedy="fetch or build the package again"
        ) from error


def _seek(stream: IO[bytes], member: str) -> tuple[str, int]:
    """Go to a member of the ar archive; return its name and size."""
    if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("it is no ar archive")
    while header := stream.read(_AR_HEADER):
        if len(header) < _AR_HEADER or header[58:] != b"`\n":
            raise ValueError("a member's header is broken")
        name, size = header[:16].decode("ascii", "replace").rstrip(" /"), int(header[48:58])
        if name.startswith(member):
            return name, size
        stream.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError(f"it has no {member}")


def _decompressed(stream: IO[bytes], name: str, size: int) -> IO[bytes]:
    part = cast(IO[bytes], _Part(stream, size))
    match PurePosixPath(name).suffix:
        case ".xz" | ".lzma":
            return cast(IO[bytes], lzma.LZMAFile(part))
        case ".zst":
            return cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(part))
        case ".gz":
            return cast(IO[bytes], io.BufferedReader(_Inflated(part)))
        case ".tar":
            return part
    raise ValueError(f"{name} is compressed in a way that is not known")


class _Part:
    """The next ``size`` bytes of a stream, as a stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        if not data and self._left and size:
            raise EOFError("the file ends too early")
        self._left -= len(data)
        return data

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True


class _Inflated(io.RawIOBase):
    """A gzip stream; the gzip module would have to seek."""

    def __init__(self, part: IO[bytes]) -> None:
        super().__init__()
        self._part = part
        self._inflate = zlib.decompressobj(31)
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._inflate.eof:
            self._ready = self._inflate.decompress(self._part.read(1 << 16))
        chunk, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)
