import os
import stat
from pathlib import Path

import pytest

from hostwalk import process
from hostwalk.errors import FetchError
from hostwalk.kernels import apt as apt_module
from hostwalk.kernels.apt import Apt, Machine, Package, parse_packages
from hostwalk.kernels.mirrors import Mirrors, Source

DUMP = (
    'Dir "/";',
    'Dir::Etc "etc/apt";',
    'Dir::Etc::sourceparts "sources.list.d";',
    'Acquire "";',
    'Acquire::http::Proxy "http://proxy.example:3128";',
    'Acquire::https "";',
    'Acquire::Check-Valid-Until "false";',
    'Acquire::AllowInsecureRepositories "1";',
    'Acquire::AllowWeakRepositories "1";',
    'Acquire::Languages:: "en";',
    'APT::Get::AllowUnauthenticated "1";',
)
PACKAGES = """\
Package: linux-image-6.12.117+deb12-cloud-amd64
Source: linux-signed-6.12-amd64 (6.12.117+1)
Version: 6.12.117-1
Architecture: amd64
Depends: kmod, initramfs-tools | linux-initramfs-tool
Description: Linux
 more: words
Filename: pool/l/linux/linux-image_6.12.117-1_amd64.deb
Size: 34307256
SHA256: abc

Package: linux-libc-dev
Version: 1

Package: linux-kbuild-6.1
Version: 6.1.192-2
Architecture: amd64
Filename: pool/l/linux/linux-kbuild-6.1_6.1.192-2_amd64.deb
Size: 5
SHA256: def"""
SOURCE = Source("http://m.example/debian", ("bookworm",), ("main",), "/keys.gpg")


def test_kernel_packages_of_an_index() -> None:
    image, kbuild = parse_packages(PACKAGES, "http://m.example/debian/", "amd64")
    assert image.uri == "http://m.example/debian/pool/l/linux/linux-image_6.12.117-1_amd64.deb"
    assert image.file_name == "linux-image_6.12.117-1_amd64.deb"
    assert (image.version, image.size, image.sha256) == ("6.12.117-1", 34307256, "abc")
    assert image.depends == "kmod, initramfs-tools | linux-initramfs-tool"
    assert (kbuild.name, kbuild.depends) == ("linux-kbuild-6.1", "")


def test_where_the_machine_keeps_its_sources() -> None:
    machine = Machine(DUMP)
    assert machine.path("sourceparts", "x") == Path("/etc/apt/sources.list.d")
    assert machine.path("sourcelist", "sources.list") == Path("/etc/apt/sources.list")


def test_the_private_root_takes_over_what_a_mirror_needs_and_nothing_that_weakens_it(tmp_path: Path) -> None:
    apt = Apt(tmp_path)
    apt.configure(Machine(DUMP), Mirrors(SOURCE, SOURCE))
    text = (tmp_path / "apt.conf").read_text()
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in text
    assert 'Acquire::Check-Valid-Until "false";' in text
    assert "Allow" not in text
    assert '"en"' not in text
    assert 'APT::Architectures { "amd64"; "arm64"; };' in text
    assert "Signed-By: /keys.gpg" in (tmp_path / "etc/hostwalk.sources").read_text()
    assert (tmp_path / "lists/partial").is_dir()
    assert apt.environment["APT_CONFIG"] == str(tmp_path / "apt.conf")


def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Apt:
    tool = tmp_path / "apt-get"
    tool.write_text(f"#!/bin/sh\nfd=${{2#*=}}\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(process, "find_tool", lambda *_: str(tool))
    (tmp_path / "room").mkdir()
    (tmp_path / "room/apt.conf").touch()
    return Apt(tmp_path / "room")


def test_progress_is_read_from_apts_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo dlstatus:1:41.7:Retrieving >/dev/fd/$fd"
    seen: list[int] = []
    fake_apt(tmp_path, monkeypatch, script).update(seen.append)
    assert seen == [41]


def test_what_apt_says_is_the_evidence_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = fake_apt(tmp_path, monkeypatch, "echo 'E: Could not resolve m.example' >&2; exit 100")
    with pytest.raises(FetchError, match="package index failed") as caught:
        apt.update(lambda _: None)
    assert "Could not resolve" in caught.value.evidence.stderr
    assert "HOSTWALK_MIRROR" in caught.value.remedy
    assert caught.value.evidence.command.startswith(f"env APT_CONFIG={apt.room}/apt.conf ")
    assert "Status-Fd" not in caught.value.evidence.command
    assert [path.name for path in apt.room.iterdir()] == ["apt.conf"]
    assert len(os.listdir("/proc/self/fd")) < 100  # noqa: PTH208


def test_a_standstill_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_module, "STALL_SECONDS", 0.05)
    apt = fake_apt(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(FetchError, match="came to a standstill"):
        apt.update(lambda _: None)


def test_a_full_disk_is_noticed_while_apt_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_module, "LEAST_ROOM", 1 << 62)
    apt = fake_apt(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(OSError, match="No space left"):
        apt.update(lambda _: None)
    assert [path.name for path in apt.room.iterdir()] == ["apt.conf"]


def test_apt_is_never_run_with_the_machines_own_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_apt(tmp_path, monkeypatch, "exit 0")
    monkeypatch.chdir(tmp_path / "room")
    for room in (tmp_path / "gone", Path()):
        with pytest.raises(FetchError, match="machine's own configuration"):
            Apt(room).update(lambda _: None)


def test_a_package_is_comparable_and_printable() -> None:
    package = Package("a", "1", "all", 1, "x", "http://m.example/a.deb", "")
    assert package == Package("a", "1", "all", 1, "x", "http://m.example/a.deb", "")
    assert "a.deb" in str(package)
