import lzma
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from deb_maker import package_file

from hostwalk.cache import Cache
from hostwalk.errors import CacheError, FetchError, ResolveError
from hostwalk.kernels import deb, index, modules, resolve, toolchain
from hostwalk.kernels.apt import Package
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.files import Extras
from hostwalk.kernels.index import Index
from hostwalk.kernels.packages import Packages
from hostwalk.kernels.progress import SILENT
from hostwalk.target import Arch

ABI = "6.12.1+deb12"
RELEASE = f"{ABI}-cloud-amd64"
CONFIG = b'# comment\nCONFIG_VIRTIO=y\nCONFIG_CC_VERSION_TEXT="gcc-12 (Debian)"\n# CONFIG_X is not set\nCONFIG_HZ=250\n'


def module(depends: str) -> bytes:
    """Return a module: an ELF file with a .modinfo section and nothing else."""
    info = f"license=GPL\0depends={depends}\0".encode()
    names = b"\0.modinfo\0.shstrtab\0"
    at = 64 + len(info) + len(names)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, at, 0, 64, 0, 0, 64, 3, 2)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(info), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, 64 + len(info), len(names), 0, 0, 1, 0)
    return header + info + names + sections


DRIVERS = f"lib/modules/{RELEASE}/kernel/drivers"
IMAGE = {
    f"boot/vmlinuz-{RELEASE}": b"the kernel",
    f"boot/config-{RELEASE}": CONFIG,
    f"lib/modules/{RELEASE}/modules.builtin": b"kernel/drivers/virtio/virtio_ring.ko\n",
    f"{DRIVERS}/virtio/virtio_pci.ko.xz": lzma.compress(module("virtio,deep-one")),
    f"{DRIVERS}/char/virtio_console.ko": module("virtio"),
    f"{DRIVERS}/virtio/virtio.ko": module("virtio_ring"),
    f"{DRIVERS}/other/deep-one.ko": module("deeper"),
    f"{DRIVERS}/other/deeper.ko": module(""),
    f"{DRIVERS}/other/unwanted.ko": module(""),
}
HEADERS = {
    f"usr/src/linux-headers-{RELEASE}/Makefile": f"include /usr/src/linux-headers-{ABI}-common/Makefile\n".encode(),
    f"usr/src/linux-headers-{RELEASE}/.config": CONFIG,
}


@dataclass
class FakeArchive:
    """An archive whose packages are files, which can be made unreachable."""

    cache: Cache
    contents: Index
    there: dict[str, Path]
    offline: bool = False
    progress: object = SILENT
    fetched: list[str] = field(default_factory=list)

    def index(self, refresh: bool = False) -> Index:
        return self.contents

    def fetch(self, package: Package) -> Path:
        if package.name not in self.there:
            raise FetchError(f"{package.file_name} is not in the cache")
        self.fetched.append(package.name)
        return self.there[package.name]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    monkeypatch.setattr(toolchain, "host_arch", lambda: Arch.X86_64)
    monkeypatch.setattr(toolchain, "_version", lambda cc: f"{cc} 12.2")
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: f"/usr/bin/{name}")
    depends = f"linux-headers-{ABI}-common (= 6.12.1-1), linux-kbuild-{ABI}"
    names = {
        f"linux-image-{RELEASE}": (IMAGE, "amd64", ""),
        f"linux-headers-{RELEASE}": (HEADERS, "amd64", depends),
        f"linux-headers-{ABI}-common": ({f"usr/src/linux-headers-{ABI}-common/Makefile": b""}, "all", ""),
        f"linux-kbuild-{ABI}": ({f"usr/lib/linux-kbuild-{ABI}/scripts/x": b""}, "amd64", ""),
    }
    listed, there = [], {}
    for name, (contents, arch, needs) in names.items():
        there[name] = package_file(tmp_path / f"{name}.deb", name, contents, arch)
        listed.append(Package(name, "6.12.1-1", arch, 1, name, f"http://m.example/{name}.deb", needs))
    return FakeArchive(Cache(tmp_path / "cache"), index.make(listed, ""), there)


def through(archive: FakeArchive, extras: Extras | None = None, arch: Arch = Arch.X86_64) -> Packages:
    return Packages(cast(Archive, archive), arch, extras or Extras())


def test_a_kernel_of_the_archive(archive: FakeArchive) -> None:
    kernel = through(archive).from_archive("debian:6.12")
    assert (kernel.release, kernel.arch, kernel.spec) == (RELEASE, Arch.X86_64, "debian:6.12")
    assert kernel.boot.read_bytes() == b"the kernel"
    assert kernel.config == {
        "CONFIG_VIRTIO": "y",
        "CONFIG_CC_VERSION_TEXT": "gcc-12 (Debian)",
        "CONFIG_HZ": "250",
    }
    assert kernel.headers is not None
    assert (
        kernel.headers.build / "Makefile"
    ).read_text() == f"include ../linux-headers-{ABI}-common/Makefile\n"
    assert kernel.headers.variables["CC"] == "x86_64-linux-gnu-gcc-12"
    assert kernel.headers.variables["CONFIG_DEBUG_INFO_BTF_MODULES"] == ""


def test_modules_come_with_what_they_need_and_no_more(archive: FakeArchive) -> None:
    kernel = through(archive).from_archive("debian:6.12")
    assert kernel.modules is not None
    assert sorted(modules.files(kernel.modules)) == [
        "deep_one",
        "deeper",
        "virtio",
        "virtio_console",
        "virtio_pci",
    ]
    assert modules.built_in(kernel.modules) == {"virtio_ring"}


def test_a_second_run_fetches_nothing(archive: FakeArchive) -> None:
    first = through(archive).from_archive("debian:6.12")
    archive.there.clear()
    archive.fetched.clear()
    assert through(archive).from_archive("debian:6.12") == first
    assert archive.fetched == []


def test_a_damaged_boot_file_is_unpacked_again(archive: FakeArchive) -> None:
    kernel = through(archive).from_archive("debian:6.12")
    kernel.boot.write_bytes(b"the kernal")
    assert through(archive).from_archive("debian:6.12").boot.read_bytes() == b"the kernel"


def test_a_damaged_boot_file_that_cannot_be_fetched_is_one_clear_error(archive: FakeArchive) -> None:
    kernel = through(archive).from_archive("debian:6.12")
    kernel.boot.write_bytes(b"the kernal")
    archive.there.clear()
    with pytest.raises(FetchError, match="not in the cache"):
        through(archive).from_archive("debian:6.12")


def test_damaged_headers_can_be_renewed(archive: FakeArchive) -> None:
    headers = through(archive).from_archive("debian:6.12").needs_headers()
    (headers.build / "Makefile").unlink()
    entry = archive.cache.root.joinpath(*headers.build.relative_to(archive.cache.root).parts[:2])
    assert not archive.cache.verify(entry)
    archive.cache.drop(entry)
    assert headers.renew is not None
    headers.renew()
    assert archive.cache.verify(entry)


def test_a_newer_index_replaces_what_a_mirror_has_dropped(archive: FakeArchive) -> None:
    newer = archive.contents
    old = newer.packages[0]
    gone = Package(
        "linux-image-6.12.2+deb12-cloud-amd64", "6.12.2-1", "amd64", 1, "x", "http://m.example/x.deb", ""
    )

    class Dropping(FakeArchive):
        def index(self, refresh: bool = False) -> Index:
            return newer if refresh else index.make([*newer.packages, gone], "")

    dropping = Dropping(archive.cache, newer, archive.there)
    assert through(dropping).from_archive("debian:6.12").release == old.name.removeprefix("linux-image-")


def test_a_kernel_without_headers_says_how_to_give_them(archive: FakeArchive) -> None:
    archive.contents = index.make(archive.contents.packages[:1], "")
    kernel = through(archive).from_archive("debian:6.12")
    assert kernel.headers is None
    with pytest.raises(ResolveError, match=f"headers of Linux {RELEASE.replace('+', '.')}") as caught:
        kernel.needs_headers()
    assert "--headers" in caught.value.remedy


def test_a_package_file_takes_its_headers_from_the_archive(archive: FakeArchive) -> None:
    path = archive.there[f"linux-image-{RELEASE}"]
    assert deb.is_deb(path)
    kernel = through(archive).from_package(path, str(path))
    assert kernel.release == RELEASE
    assert kernel.headers is not None


def test_a_package_file_does_without_an_archive(archive: FakeArchive) -> None:
    path = archive.there.pop(f"linux-image-{RELEASE}")
    archive.there.clear()
    assert through(archive).from_package(path, str(path)).headers is None


def test_a_package_for_another_architecture(archive: FakeArchive) -> None:
    path = archive.there[f"linux-image-{RELEASE}"]
    with pytest.raises(ResolveError, match=r"package for amd64, but arm64 \(arm64\) was wanted"):
        through(archive, arch=Arch.ARM64).from_package(path, str(path))


def test_a_package_without_a_kernel(archive: FakeArchive) -> None:
    path = archive.there[f"linux-headers-{RELEASE}"]
    with pytest.raises(ResolveError, match="holds no kernel"):
        through(archive).from_package(path, str(path))
    assert archive.cache.entries("kernel") == ()


def test_a_cache_in_a_path_that_kbuild_cannot_take(archive: FakeArchive, tmp_path: Path) -> None:
    spaced = FakeArchive(Cache(tmp_path / "with space"), archive.contents, archive.there)
    with pytest.raises(CacheError, match="space") as caught:
        through(spaced).from_archive("debian:6.12")
    assert "HOSTWALK_CACHE" in caught.value.remedy


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ResolveError, match="no such kernel") as caught:
        resolve(str(tmp_path / "bzImage"), Arch.X86_64, cache=Cache(tmp_path), offline=True)
    assert "debian:" in caught.value.remedy


def test_offline_with_an_empty_cache_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no list of Debian's kernels"):
        resolve("debian:6.12", Arch.X86_64, cache=Cache(tmp_path), offline=True)


Writer = Callable[[str, bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def writer(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return writer


def arm64_image() -> bytes:
    data = bytearray(4096)
    data[0x38:0x3C] = b"ARM\x64"
    data[0x100:0x120] = b"Linux version 6.9.0-mine (me@b) "
    return bytes(data)


def test_a_boot_file_with_its_configuration_beside_it(tmp_path: Path, write: Writer) -> None:
    path = write("boot/Image", arm64_image())
    write("boot/config-6.9.0-mine", CONFIG)
    kernel = resolve(str(path), Arch.ARM64, cache=Cache(tmp_path / "c"))
    assert (kernel.release, kernel.config["CONFIG_HZ"], kernel.headers, kernel.modules) == (
        "6.9.0-mine",
        "250",
        None,
        None,
    )


def test_a_build_tree_brings_headers_and_symbols(
    tmp_path: Path, write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "_version", lambda cc: f"{cc} 12.2")
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: f"/usr/bin/{name}")
    write("linux/arch/arm64/boot/Image", arm64_image())
    write("linux/Makefile", b"")
    write("linux/.config", CONFIG)
    write("linux/System.map", b"ffff800080000000 T _text\nffff800080000010 D init_task\n")
    write("linux/include/config/kernel.release", b"6.9.0-mine\n")
    kernel = resolve(str(tmp_path / "linux"), Arch.ARM64, cache=Cache(tmp_path / "c"))
    assert kernel.symbols["init_task"] == 0xFFFF800080000010
    assert kernel.needs_headers().build == tmp_path / "linux"
    assert kernel.config["CONFIG_HZ"] == "250"
    write("linux/include/config/kernel.release", b"6.9.0-other\n")
    with pytest.raises(ResolveError, match=r"6\.9\.0-other, the kernel is 6\.9\.0-mine"):
        resolve(str(tmp_path / "linux"), Arch.ARM64, cache=Cache(tmp_path / "c"))


def test_a_tree_in_which_nothing_was_built(tmp_path: Path) -> None:
    with pytest.raises(ResolveError, match="no kernel for x86_64 was built"):
        resolve(str(tmp_path), Arch.X86_64, cache=Cache(tmp_path / "c"))


def test_headers_that_are_no_tree_to_build_in(tmp_path: Path, write: Writer) -> None:
    path = write("Image", arm64_image())
    with pytest.raises(ResolveError, match="no tree to build modules in") as caught:
        resolve(str(path), Arch.ARM64, cache=Cache(tmp_path / "c"), headers=tmp_path)
    assert "kernel.release" in caught.value.message


def test_the_order_in_which_modules_are_loaded() -> None:
    needs = {"a": ["b", "c"], "b": ["c"], "d": ["a"], "c": []}
    assert modules.load_order(["a", "d"], needs) == ("c", "b", "a", "d")
    assert modules.load_order(["x"], {"x": ["y"], "y": ["x"]}) == ("y", "x")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/virtio-rng.ko.xz", "virtio_rng"),
        ("b.ko", "b"),
        ("c.ko.gz", "c"),
        ("d.ko.zst", "d"),
        ("modules.dep", ""),
    ],
)
def test_the_name_of_a_module(file: str, name: str) -> None:
    assert modules.name_of(file) == name


def test_a_damaged_module_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.ko.xz"
    path.write_bytes(lzma.compress(module(""))[:-10])
    with pytest.raises(ResolveError, match=r"x\.ko\.xz is damaged"):
        modules.read(path)
    with pytest.raises(ResolveError, match="is damaged"):
        modules.depends(b"\x7fELF" + bytes(10), path)
