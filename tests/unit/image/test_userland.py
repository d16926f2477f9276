"""The user land of a guest that is logged in to: which files, where, and that nothing they need is missing."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.errors import BuildError, FetchError, ResolveError
from hostwalk.image import cpio
from hostwalk.image.userland import LOGIN, Manifest, check_libraries, merged, nodes
from hostwalk.kernels import index as index_module
from hostwalk.kernels.apt import Apt, Package
from hostwalk.kernels.archive import Archive
from hostwalk.target import Arch

TEXT = """
packages = ["one", "two"]
keep = ["usr/bin/*", "usr/lib/*.so*"]
omit = ["usr/lib/*/gconv/*"]
[links]
"bin" = "usr/bin"
[files]
"etc/passwd" = '''
root:x:0:0
'''
"""


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.parse(TEXT)


def elf(*needed: str) -> bytes:
    """Return an ELF file that consists of a dynamic section and its strings."""
    strings, tags = b"\0", b""
    for name in needed:
        tags += struct.pack("<qQ", 1, len(strings))
        strings += name.encode() + b"\0"
    tags += bytes(16)
    names = b"\0.dynamic\0.dynstr\0"
    at = 64
    sections = [
        struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        struct.pack("<IIQQQQIIQQ", 1, 6, 0, 0, at, len(tags), 2, 0, 8, 16),
        struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, at + len(tags), len(strings), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at + len(tags) + len(strings), len(names), 0, 0, 1, 0),
    ]
    body = tags + strings + names
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, 62, 1, 0, 0, at + len(body), 0, 64, 0, 0, 64, 4, 3)
    return head + body + b"".join(sections)


def put(tree: Path, name: str, data: bytes = b"", mode: int = 0o644) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_bytes(data)
    (tree / name).chmod(mode)


def test_the_manifest_that_comes_with_hostwalk_is_whole() -> None:
    found = Manifest.load()
    assert {"dropbear-bin", "libc6", "busybox"} <= set(found.packages)
    assert found.files["etc/passwd"].startswith("root:")
    assert found.keeps("usr/sbin/dropbear")
    assert found.keeps("lib/x86_64-linux-gnu/libc.so.6")
    assert found.keeps("lib64/ld-linux-x86-64.so.2")
    assert found.keeps("lib/ld-linux-aarch64.so.1")
    assert not found.keeps("usr/lib/x86_64-linux-gnu/gconv/IBM1399.so")
    assert not found.keeps("usr/share/doc/bash/README")


@pytest.mark.parametrize(
    ("path", "place"),
    [("bin/bash", "usr/bin/bash"), ("lib64/ld.so", "usr/lib64/ld.so"), ("usr/bin/x", "usr/bin/x"), ("", ""),
     ("libexec/x", "libexec/x"), ("etc/bin/x", "etc/bin/x")],
)  # fmt: skip
def test_places_are_those_of_a_merged_usr(path: str, place: str) -> None:
    assert merged(path) == place


def test_a_segment_has_directories_first_and_modes_and_links(tmp_path: Path, manifest: Manifest) -> None:
    put(tmp_path, "bin/tool", b"tool", 0o755)
    put(tmp_path, "lib/deep/libx.so.1.2", b"library")
    (tmp_path / "lib/deep/libx.so.1").symlink_to("libx.so.1.2")
    found = cpio.read(cpio.write(nodes(tmp_path, manifest, b"login")))
    names = [node.name for node in found]
    assert len(set(names)) == len(names)
    assert all(
        "/" not in name or name.rpartition("/")[0] in names[:place] for place, name in enumerate(names)
    )
    by_name = {node.name: node for node in found}
    assert by_name["usr/bin/tool"] == cpio.file("usr/bin/tool", b"tool", 0o755)
    assert by_name["usr/lib/deep/libx.so.1"] == cpio.symlink("usr/lib/deep/libx.so.1", "libx.so.1.2")
    assert by_name["bin"].data == b"usr/bin"
    assert stat.S_ISLNK(by_name["bin"].mode)
    assert by_name["etc/passwd"].data == b"root:x:0:0\n"
    assert by_name[LOGIN].mode == stat.S_IFREG | 0o755
    assert cpio.write(nodes(tmp_path, manifest, b"login")) == cpio.write(found)


def test_a_library_in_no_package_is_named_with_who_needs_it(tmp_path: Path) -> None:
    put(tmp_path, "usr/bin/tool", elf("libhere.so.1", "libgone.so.2"), 0o755)
    put(tmp_path, "usr/lib/libhere.so.1", elf())
    put(tmp_path, "usr/bin/script", b"#!/bin/sh")
    with pytest.raises(BuildError, match=r"usr/bin/tool needs libgone\.so\.2"):
        check_libraries(tmp_path)
    put(tmp_path, "usr/lib/libgone.so.2", elf("libhere.so.1"))
    check_libraries(tmp_path)


def package(name: str, version: str, arch: str = "amd64") -> Package:
    return Package(
        name, version, arch, 10, f"sum-of-{name}-{version}-{arch}", f"pool/{name}_{version}.deb", ""
    )


class Listed:
    """Stands for apt's lists; counts how often they are read."""

    def __init__(self, *packages: Package) -> None:
        self.packages = packages
        self.reads = 0

    @property
    def read(self) -> Callable[..., list[Package]]:
        """A method for apt."""
        return lambda _apt, names=(): self._named(names)

    def _named(self, names: tuple[str, ...]) -> list[Package]:
        self.reads += 1
        return [each for each in self.packages if each.name in names]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    made = Archive(Cache(tmp_path))
    kernels = index_module.make([package("linux-image-6.12.1-cloud-amd64", "6.12.1-1")], "")
    monkeypatch.setattr(Archive, "index", lambda self, refresh=False: kernels)
    return made


def test_the_newest_of_each_package_for_the_architecture_or_all(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Listed(
        package("one", "1.9"),
        package("one", "1.10"),
        package("one", "2", "arm64"),
        package("two", "3", "all"),
    )
    monkeypatch.setattr(Apt, "packages", listed.read)
    found = archive.packages(("one", "two"), Arch.X86_64)
    assert [(each.name, each.version) for each in found] == [("one", "1.10"), ("two", "3")]
    assert archive.packages(("two",), Arch.ARM64)[0].arch == "all"
    assert listed.reads == 1


def test_a_package_that_debian_lacks_is_named(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Apt, "packages", Listed(package("one", "1")).read)
    with pytest.raises(ResolveError, match="Debian has no package gone for arm64"):
        archive.packages(("gone",), Arch.ARM64)


def test_without_a_network_the_kept_list_serves(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Listed(package("one", "1"))
    monkeypatch.setattr(Apt, "packages", listed.read)
    archive.packages(("one",), Arch.X86_64)
    offline = Archive(archive.cache, offline=True)
    assert offline.packages(("one",), Arch.X86_64)[0].version == "1"
    assert listed.reads == 1
    with pytest.raises(FetchError, match="not in the cache"):
        offline.fetch(package("one", "1"))
