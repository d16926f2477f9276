"""Debian packages for tests."""

import io
import lzma
import tarfile
from pathlib import Path


def package_file(path: Path, name: str, contents: dict[str, bytes], arch: str = "amd64") -> Path:
    """Write a package that holds files by their names; return its path."""

    def tar(entries: dict[str, bytes]) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for entry, data in entries.items():
                info = tarfile.TarInfo(f"./{entry}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return lzma.compress(stream.getvalue())

    out = b"!<arch>\n"
    control = f"Package: {name}\nArchitecture: {arch}\n".encode()
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tar({"control": control}),
        "data.tar.xz": tar(contents),
    }
    for member, data in members.items():
        out += f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data
        out += b"\n" * (len(data) % 2)
    path.write_bytes(out)
    return path
