from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from deb_maker import package_file

from hostwalk.cache import Cache
from hostwalk.errors import FetchError, ResolveError, UsageError
from hostwalk.kernels import index as index_module
from hostwalk.kernels import sources
from hostwalk.kernels.apt import Package
from hostwalk.kernels.archive import Archive
from hostwalk.kernels.index import Index
from hostwalk.kernels.progress import SILENT, Progress
from hostwalk.kernels.sources import DebianSources, Wanted

MAKEFILE = "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION = -rc2\nNAME = x\n"


def _tree(path: Path, makefile: str = MAKEFILE) -> Path:
    path.mkdir()
    (path / "Makefile").write_text(makefile)
    (path / "Kbuild").touch()
    return path


def _package(name: str, version: str) -> Package:
    return Package(name, version, "all", 1, "a" * 64, f"mirror/{name}_{version}_all.deb", "")


def test_a_source_is_named_by_version_and_fragments() -> None:
    assert Wanted.parse("source:7.3") == Wanted("source:7.3", "7.3", Path(), ())
    assert Wanted.parse("source:6.12.117+debug+own").extra == ("debug", "own")
    assert Wanted.parse("source:6.12.117+debug").version == "6.12.117"


@pytest.mark.parametrize(
    "spec", ["source:", "source:7", "source:next", "source:7.3+", "source:7.3 ", "tree:"]
)
def test_other_forms_are_usage_errors(spec: str) -> None:
    with pytest.raises(UsageError):
        Wanted.parse(spec)


def test_a_tree_is_a_path_and_a_plus_sign_in_it_belongs_to_it_if_it_is_there(tmp_path: Path) -> None:
    plain, odd = _tree(tmp_path / "linux"), _tree(tmp_path / "linux+debug")
    assert Wanted.parse(f"tree:{plain}") == Wanted(f"tree:{plain}", "", plain, ())
    assert Wanted.parse(f"tree:{odd}").path == odd
    assert Wanted.parse(f"tree:{odd}+debug") == Wanted(f"tree:{odd}+debug", "", odd, ("debug",))
    assert Wanted.parse(f"tree:{plain}+debug+own") == Wanted(f"tree:{plain}+debug+own", "", odd, ("own",))
    assert Wanted.parse(f"tree:{tmp_path}/none+debug").extra == ("debug",)


def test_a_tree_is_known_by_its_real_place_and_says_its_version(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "linux")
    (tmp_path / "link").symlink_to(tree)
    first, second = sources.tree_at(tree), sources.tree_at(tmp_path / "link")
    assert first == second
    assert first.version == "7.3.4-rc2"


@pytest.mark.parametrize("makefile", ["", "all:\n\ttrue\n"])
def test_another_directory_is_no_tree(tmp_path: Path, makefile: str) -> None:
    with pytest.raises(ResolveError, match="no source of Linux"):
        sources.tree_at(_tree(tmp_path / "other", makefile))
    with pytest.raises(ResolveError, match="no source of Linux"):
        sources.tree_at(tmp_path / "absent")


def test_the_newest_source_of_a_version_is_taken() -> None:
    index = index_module.make(
        [
            _package("linux-source-6.12", "6.12.117-1~deb12u1"),
            _package("linux-source-6.12", "6.12.115-2~deb12u1"),
            _package("linux-source-6.1", "6.1.192-2"),
            _package("linux-source-7.3", "7.3.4-1~bpo13+1"),
            _package("linux-image-7.3.9-amd64", "7.3.9-1"),
        ],
        "",
    )
    assert sources.select(index, "6.12").version == "6.12.117-1~deb12u1"
    assert sources.select(index, "6.12.115").version == "6.12.115-2~deb12u1"
    assert sources.select(index, "6.1").name == "linux-source-6.1"
    with pytest.raises(ResolveError) as caught:
        sources.select(index, "7.4")
    assert "source:7.3.4" in caught.value.remedy
    with pytest.raises(ResolveError):
        sources.select(index, "6.12.11")


@dataclass
class FakeArchive:
    """An archive with one source package, which can be taken away."""

    cache: Cache
    deb: Path
    gone: bool = False
    offline: bool = False
    progress: Progress = SILENT
    fetched: list[str] = field(default_factory=list)

    def index(self, refresh: bool = False) -> Index:
        return index_module.make([_package("linux-source-7.3", "7.3.4-1~bpo13+1")], "")

    def fetch(self, package: Package) -> Path:
        if self.gone:
            raise FetchError("not in the cache")
        self.fetched.append(package.name)

        def make(directory: Path) -> None:
            (directory / package.file_name).write_bytes(self.deb.read_bytes())

        return self.cache.entry("deb", "a" * 32, make) / package.file_name


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for name, data in {"Makefile": MAKEFILE.encode(), "Kbuild": b"", "mm/gup.c": b"int gup;"}.items():
            info = tarfile.TarInfo(f"linux-source-7.3/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    contents = {"usr/src/linux-source-7.3.tar.xz": stream.getvalue(), "usr/share/doc/x/copyright": b"x"}
    deb = package_file(tmp_path / "linux-source-7.3.deb", "linux-source-7.3", contents, "all")
    return FakeArchive(Cache(tmp_path / "cache"), deb)


def test_debians_source_is_fetched_and_unpacked_once(archive: FakeArchive) -> None:
    sources_ = DebianSources(cast(Archive, archive))
    tree = sources_.tree("7.3")
    assert (tree.path / "mm/gup.c").read_bytes() == b"int gup;"
    assert tree.version == "7.3.4-rc2"
    assert sorted(path.name for path in tree.path.parent.iterdir()) == [".manifest", "linux", "usr"]
    archive.gone = True
    assert sources_.tree("7.3.4") == tree
    assert archive.fetched == ["linux-source-7.3"]
    assert not (archive.cache.root / "deb" / ("a" * 32)).exists()


def test_a_source_that_is_not_there_is_a_fetch_error(archive: FakeArchive) -> None:
    archive.gone = True
    with pytest.raises(FetchError):
        DebianSources(cast(Archive, archive)).tree("7.3")


def test_a_package_without_a_source_is_refused(archive: FakeArchive, tmp_path: Path) -> None:
    package_file(archive.deb, "linux-doc", {"usr/share/doc/x": b""}, "all")
    with pytest.raises(ResolveError, match="holds no source"):
        DebianSources(cast(Archive, archive)).tree("7.3")
    assert not list(archive.cache.entries("source"))
