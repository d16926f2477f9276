"""Debian package files: an ar archive of compressed tar archives (deb(5)), read in one pass."""

from __future__ import annotations

import contextlib
import io
import lzma
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
    with _archive(deb, "data.tar") as tar:
        for member in tar:
            name = str(PurePosixPath(member.name))
            if wanted(name) and (member.isfile() or member.issym()):
                _extract_one(tar, member, _inside(directory, name))
                done.append(name)
    return done


def _extract_one(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        path.symlink_to(member.linkname)
        return
    with path.open("xb") as target:
        shutil.copyfileobj(cast(IO[bytes], tar.extractfile(member)), target, 1 << 20)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _inside(directory: Path, name: str) -> Path:
    """Return where a member goes; neither its name nor a link on the way may lead out."""
    path = directory / name
    if ".." in path.parts or not path.parent.resolve().is_relative_to(directory.resolve()):
        raise ValueError(f"{name} leads out of the package")
    return path


@contextlib.contextmanager
def _archive(deb: Path, member: str) -> Iterator[tarfile.TarFile]:
    try:
        with deb.open("rb") as stream:
            name, size = _seek(stream, member)
            with tarfile.open(fileobj=_decompressed(stream, name, size), mode="r|") as tar:
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
