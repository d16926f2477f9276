import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from hostwalk.errors import ResolveError
from hostwalk.kernels import deb, unpack
from hostwalk.target import Arch

CONTROL = b"Package: linux-image\nArchitecture: amd64\nDescription: words\n more: words\n"


def gzip_of(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": gzip_of,
    ".zst": zstandard.ZstdCompressor().compress,
    "": bytes,
}


def tar_of(files: dict[str, bytes | str]) -> bytes:
    """A str is a symbolic link's target; a name that ends in ! is executable."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name.rstrip('!')}")
            info.mode = 0o4755 if name.endswith("!") else 0o640
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def ar_of(members: dict[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members.items():
        out += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
            + data
            + b"\n" * (len(data) % 2)
        )
    return out


def deb_of(files: dict[str, bytes | str], packing: str = ".xz") -> bytes:
    pack = PACKERS[packing]
    return ar_of(
        {
            "debian-binary": b"2.0\n",
            f"control.tar{packing}": pack(tar_of({"control": CONTROL})),
            f"data.tar{packing}": pack(tar_of(files)),
        }
    )


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "package.deb"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("packing", PACKERS)
def test_what_is_wanted_is_extracted(tmp_path: Path, packing: str) -> None:
    files: dict[str, bytes | str] = {
        "boot/vmlinuz": bytes(range(256)) * 4000,
        "usr/bin/tool!": b"#!",
        "usr/link": "bin/tool",
        "etc/unwanted": b"x",
    }
    path = written(tmp_path, deb_of(files, packing))
    assert deb.is_deb(path)
    assert deb.control(path) == {"Package": "linux-image", "Architecture": "amd64", "Description": "words"}
    done = deb.extract(path, lambda name: not name.startswith("etc"), tmp_path / "out")
    assert done == ["boot/vmlinuz", "usr/bin/tool", "usr/link"]
    out = tmp_path / "out"
    assert (out / "boot/vmlinuz").read_bytes() == files["boot/vmlinuz"]
    assert (out / "usr/bin/tool").stat().st_mode & 0o7777 == 0o755
    assert (out / "boot/vmlinuz").stat().st_mode & 0o7777 == 0o644
    assert (out / "usr/link").readlink() == Path("bin/tool")
    assert not (out / "etc").exists()


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "link/outside"])
def test_nothing_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, deb_of({"link": str(tmp_path), name: b"x"}))
    with pytest.raises(ResolveError, match="leads out"):
        deb.extract(path, lambda _: True, tmp_path / "out")
    assert not (tmp_path / "outside").exists()


GOOD = deb_of({"boot/vmlinuz": os.urandom(20000)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a package",
        GOOD[: len(GOOD) // 2],
        GOOD[:100],
        GOOD[:9000] + bytes(64) + GOOD[9064:],
        ar_of({"debian-binary": b"2.0\n"}),
        ar_of({"debian-binary": b"2.0\n", "data.tar.rar": b"x"}),
    ],
    ids=["empty", "text", "half", "start", "overwritten", "no data", "odd compression"],
)
def test_a_damaged_package_is_refused(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path, data)
    with pytest.raises(ResolveError, match="damaged"):
        deb.extract(path, lambda _: True, tmp_path / "out")


def test_a_package_that_holds_no_kernel(tmp_path: Path) -> None:
    path = written(tmp_path, deb_of({"usr/share/doc/x": b"x"}))
    with pytest.raises(ResolveError, match="holds no kernel"):
        unpack.kernel(path, tmp_path / "out")


def test_a_header_tree_is_made_to_work_where_it_lies(tmp_path: Path) -> None:
    tree = "usr/src/linux-headers-6.12-cloud-amd64"
    path = written(
        tmp_path,
        deb_of(
            {
                f"{tree}/Makefile": b"include /usr/src/linux-headers-6.12-common/Makefile\n",
                f"{tree}/scripts": "../../lib/linux-kbuild-6.12/scripts",
                f"{tree}/include/config/auto.conf": b"",
                f"{tree}/include/config/NUMA": b"",
                f"{tree}/include/dt-bindings/clock.h": b"",
                f"{tree}/arch/x86/Makefile": b"",
                f"{tree}/arch/mips/Makefile": b"",
                "usr/lib/linux-kbuild-6.12/scripts/fixdep!": b"x",
                "usr/share/doc/linux-headers-6.12/copyright": b"x",
            }
        ),
    )
    out = tmp_path / "out"
    unpack.headers([path], Arch.X86_64, out)
    assert (out / tree / "Makefile").read_text() == "include ../linux-headers-6.12-common/Makefile\n"
    assert (out / tree / "scripts/fixdep").stat().st_mode & 0o111
    kept = sorted(str(path.relative_to(out / tree)) for path in (out / tree).rglob("*") if path.is_file())
    assert kept == ["Makefile", "arch/x86/Makefile", "include/config/auto.conf"]
    assert not (out / "usr/share").exists()
