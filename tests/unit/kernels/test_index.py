from dataclasses import replace
from pathlib import Path

import pytest

from hostwalk.errors import ResolveError, UsageError
from hostwalk.kernels import index as index_module
from hostwalk.kernels.apt import Package
from hostwalk.kernels.index import Index, Wanted
from hostwalk.target import Arch


def package(name: str, version: str = "6.12.117-1", arch: str = "amd64", depends: str = "") -> Package:
    return Package(name, version, arch, 1, f"{name}{version}{arch}", f"http://m.example/{name}.deb", depends)


ABI = "6.12.117+deb12"
HEADERS_DEPENDS = (
    f"linux-headers-{ABI}-common (= 6.12.117-1), linux-image-{ABI}-cloud-amd64, linux-kbuild-{ABI}, gcc-12"
)
PACKAGES = (
    package(f"linux-image-{ABI}-cloud-amd64"),
    package(f"linux-image-{ABI}-cloud-amd64-unsigned"),
    package(f"linux-image-{ABI}-cloud-amd64-dbg"),
    package("linux-image-6.12.99+deb12-cloud-amd64", "6.12.99-1"),
    package(f"linux-image-{ABI}-amd64"),
    package(f"linux-image-{ABI}-rt-amd64"),
    package(f"linux-image-{ABI}-arm64-16k", arch="arm64"),
    package(f"linux-image-{ABI}-cloud-arm64", arch="arm64"),
    package("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"),
    package("linux-image-6.1.0-56-cloud-amd64-unsigned", "6.1.192-2"),
    package("linux-image-6.1.0-9-cloud-amd64", "6.1.27-1"),
    package("linux-image-cloud-amd64", "6.1.192-2"),
    package("linux-image-6.12-cloud-amd64"),
    package("linux-image-amd64-signed-template", "6.1.192-2"),
    package(f"linux-headers-{ABI}-cloud-amd64", depends=HEADERS_DEPENDS),
    package(f"linux-headers-{ABI}-common", arch="all"),
    package(f"linux-kbuild-{ABI}"),
    package(f"linux-kbuild-{ABI}", arch="arm64"),
    package(
        "linux-headers-6.1.0-56-cloud-amd64",
        "6.1.192-2",
        depends="linux-headers-6.1.0-56-common, linux-kbuild-6.1",
    ),
    package("linux-headers-6.1.0-56-common", "6.1.192-2", arch="all"),
    package("linux-kbuild-6.1", "6.1.176-1"),
    package("linux-kbuild-6.1", "6.1.192-2"),
    package(
        "linux-headers-6.1.0-9-cloud-amd64",
        "6.1.27-1",
        depends="linux-headers-6.1.0-9-common, linux-kbuild-6.1",
    ),
)
INDEX = index_module.make(PACKAGES, "")


def select(spec: str, arch: Arch = Arch.X86_64) -> str:
    return INDEX.select(Wanted.parse(spec, arch)).package.name


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("debian:6.12", f"linux-image-{ABI}-cloud-amd64"),
        ("debian:6.12-cloud", f"linux-image-{ABI}-cloud-amd64"),
        ("debian:6.12-cloud-amd64", f"linux-image-{ABI}-cloud-amd64"),
        ("debian:6.12-amd64", f"linux-image-{ABI}-amd64"),
        ("debian:6.12-generic", f"linux-image-{ABI}-amd64"),
        ("debian:6.12-rt", f"linux-image-{ABI}-rt-amd64"),
        ("debian:6.12.99", "linux-image-6.12.99+deb12-cloud-amd64"),
        ("debian:6.12.117+deb12-rt-amd64", f"linux-image-{ABI}-rt-amd64"),
        ("debian:6.1", "linux-image-6.1.0-56-cloud-amd64"),
        ("debian:6.1.0-9", "linux-image-6.1.0-9-cloud-amd64"),
        ("debian:6.1.0-9-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"),
        ("debian:6", f"linux-image-{ABI}-cloud-amd64"),
    ],
)
def test_a_spec_names_the_newest_package_that_fits(spec: str, name: str) -> None:
    assert select(spec) == name


@pytest.mark.parametrize("spec", ["debian:6.12-arm64-16k", "debian:6.12-16k"])
def test_flavours_of_arm64(spec: str) -> None:
    assert select(spec, Arch.ARM64) == f"linux-image-{ABI}-arm64-16k"
    assert INDEX.select(Wanted.parse(spec, Arch.ARM64)).release == f"{ABI}-arm64-16k"


@pytest.mark.parametrize(
    "spec", ["debian:", "debian:bookworm", "debian:6.12_1", "debian:6.12-", "debian:6..1"]
)
def test_a_spec_of_another_form_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError, match="not a Debian kernel"):
        Wanted.parse(spec, Arch.X86_64)


def test_an_unknown_kernel_lists_what_there_is() -> None:
    with pytest.raises(ResolveError, match=r"no cloud-amd64 kernel 6\.12\.118 for x86_64") as caught:
        select("debian:6.12.118")
    assert "debian:6.12-rt-amd64" in caught.value.remedy
    assert "6.12.99, 6.12.117" in caught.value.remedy
    assert "arm64" not in caught.value.remedy
    assert "dbg" not in caught.value.remedy


def test_a_flavour_of_the_other_architecture_is_unknown() -> None:
    with pytest.raises(ResolveError, match="no arm64-16k kernel"):
        select("debian:6.12-arm64-16k")


def test_headers_come_with_the_kbuild_of_the_host() -> None:
    parts = INDEX.headers(f"{ABI}-cloud-amd64", Arch.X86_64, Arch.ARM64)
    assert [(part.name, part.arch) for part in parts] == [
        (f"linux-headers-{ABI}-cloud-amd64", "amd64"),
        (f"linux-headers-{ABI}-common", "all"),
        (f"linux-kbuild-{ABI}", "arm64"),
    ]


def test_a_kbuild_of_several_versions_is_the_headers_own() -> None:
    parts = INDEX.headers("6.1.0-56-cloud-amd64", Arch.X86_64, Arch.X86_64)
    assert [part.version for part in parts] == ["6.1.192-2"] * 3


@pytest.mark.parametrize("release", ["6.12.99+deb12-cloud-amd64", "6.1.0-9-cloud-amd64"])
def test_headers_that_are_not_complete_are_none(release: str) -> None:
    assert INDEX.headers(release, Arch.X86_64, Arch.X86_64) == ()


def test_an_index_is_fresh_for_a_day_from_the_same_mirror() -> None:
    index = Index((), fetched=1000, attempted=1000, wish="http://a")
    assert index.is_fresh("", 1000 + 86399)
    assert not index.is_fresh("", 1000 + 86401)
    assert index.is_fresh("http://a", 1001)
    assert not index.is_fresh("http://b", 1001)
    assert not index.is_fresh("", 500)
    assert replace(index, attempted=200000).is_fresh("", 200000 + 3599)
    assert not replace(index, attempted=200000).is_fresh("", 200000 + 3601)


def test_an_index_is_kept_and_a_damaged_one_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    assert index_module.load(path) is None
    index_module.save(INDEX, path)
    assert index_module.load(path) == INDEX
    noted = index_module.note_attempt(INDEX, "http://b", path)
    assert index_module.load(path) == noted
    assert noted.attempted >= INDEX.attempted
    assert list(tmp_path.iterdir()) == [path]
    path.write_text(path.read_text().replace("6.12.117", "6.12.118"))
    assert index_module.load(path) is None
