from __future__ import annotations

import contextlib
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostwalk import doctor, process
from hostwalk.cache import Cache
from hostwalk.deadline import Deadline
from hostwalk.doctor import Finding, Tool
from hostwalk.errors import HostwalkError, MissingToolError
from hostwalk.target import Arch

QEMU = Tool("qemu-system-x86_64", ("qemu-system-x86",), "runs guests", Arch.X86_64, (7, 2))
CC = Tool("fake-gcc", ("gcc", "libc6-dev"), "builds", links=True)


class Host:
    """A PATH of fake programs, and an apt-get that is only written down."""

    def __init__(self, bin_dir: Path, cache: Cache) -> None:
        self.bin = bin_dir
        self.cache = cache
        self.commands: list[list[str]] = []
        self.outcomes: list[bool] = []
        self.installs: list[tuple[str, str]] = []

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def qemu(self, version: str = "7.2.22") -> None:
        self.program("qemu-system-x86_64", f"echo QEMU emulator version {version} '(Debian 1:7.2)'")

    def run(self, argv: list[str], **options: object) -> process.Completed:
        if "apt-get" not in argv:
            return _real_run(argv, deadline=Deadline.after(10))
        self.commands.append([word for word in argv if not word.startswith(("-", "DPkg", "Acquire"))])
        if self.outcomes and not self.outcomes.pop(0):
            raise MissingToolError("apt-get failed", remedy=str(options["remedy"]))
        if "install" in argv:
            for name, script in self.installs:
                self.program(name, script)
        return process.Completed("", 0, "", "")


_real_run = process.run


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with apt-get, root, package lists, and nothing else."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/mirror_Packages.lz4").touch()
    host = Host(tmp_path / "bin", Cache(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(host.bin))
    monkeypatch.delenv(doctor.VARIABLE, raising=False)
    monkeypatch.setattr(doctor, "APT_LISTS", tmp_path / "lists")
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)
    monkeypatch.setattr(process, "run", host.run)
    host.program("apt-get", "exit 1")
    return host


def test_a_program_is_found_with_its_version(host: Host) -> None:
    host.qemu()
    (finding,) = doctor.examine([QEMU])
    assert (finding.ok, finding.detail) == (True, "7.2.22")
    assert doctor.version_of(QEMU) == "7.2.22"


def test_a_program_that_is_missing(host: Host) -> None:
    (finding,) = doctor.examine([QEMU])
    assert (finding.ok, finding.detail) == (False, "is not installed; it runs guests")
    assert doctor.version_of(QEMU) == ""


@pytest.mark.parametrize(
    ("version", "ok"), [("6.2.0", False), ("7.1.99", False), ("7.2", True), ("10.0.2", True)]
)
def test_versions_are_compared_as_numbers(host: Host, version: str, ok: bool) -> None:
    host.qemu(version)
    assert doctor.examine([QEMU])[0].ok is ok


def test_a_program_that_does_not_run(host: Host) -> None:
    host.program("qemu-system-x86_64", "echo cannot load libfoo.so >&2; exit 127")
    (finding,) = doctor.examine([QEMU])
    assert not finding.ok
    assert finding.detail.endswith("cannot load libfoo.so")


def test_a_compiler_must_link_statically(host: Host) -> None:
    host.program(
        "fake-gcc", '[ "$1" = --version ] && echo gcc 12.2.0 && exit; echo cannot find -lc >&2; exit 1'
    )
    (finding,) = doctor.examine([CC])
    assert not finding.ok
    assert finding.detail.endswith("cannot find -lc")


def test_findings_keep_the_order_of_the_tools(host: Host) -> None:
    host.qemu()
    assert [finding.ok for finding in doctor.examine([CC, QEMU, CC])] == [False, True, False]


def test_only_what_a_run_needs() -> None:
    names = {tool.name for tool in doctor.needed([Arch.X86_64])}
    assert {"qemu-system-x86_64", "make", "apt-get", str(doctor.KEYRING)} <= names
    assert not {name for name in names if "aarch64" in name}
    assert "apt-get" not in {tool.name for tool in doctor.needed([Arch.X86_64], archive=False)}


def test_packages_of_a_foreign_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    assert doctor._compiler(Arch.X86_64).packages == ("gcc", "libc6-dev")
    assert doctor._compiler(Arch.ARM64).packages == ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross")
    monkeypatch.setattr(doctor.platform, "machine", lambda: "aarch64")
    assert doctor._compiler(Arch.X86_64).packages == ("gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross")
    assert doctor._compiler(Arch.ARM64).packages == ("gcc", "libc6-dev")


def test_what_was_good_is_remembered_and_quick(host: Host) -> None:
    host.qemu()
    doctor.ensure([QEMU], cache=host.cache)
    assert doctor.remembered([QEMU], host.cache)
    best = min(timeit.repeat(lambda: doctor.ensure([QEMU], cache=host.cache), repeat=5, number=1))
    assert best < 0.02


@pytest.mark.parametrize("change", ["gone", "replaced"])
def test_a_change_is_noticed(host: Host, change: str) -> None:
    host.qemu()
    doctor.ensure([QEMU], cache=host.cache)
    if change == "gone":
        (host.bin / QEMU.name).unlink()
    else:
        host.qemu("6.0.0-longer")
    assert not doctor.remembered([QEMU], host.cache)


def test_the_c_library_is_watched_too(host: Host, tmp_path: Path) -> None:
    library = tmp_path / "libc.a"
    library.touch()
    host.program(
        "fake-gcc", f'[ "$1" = --version ] && echo 12.2.0; [ "$1" = -static ] || echo {library}; exit 0'
    )
    doctor.ensure([CC], cache=host.cache)
    assert doctor.remembered([CC], host.cache)
    library.unlink()
    assert not doctor.remembered([CC], host.cache)


def test_off_a_terminal_it_installs_without_questions(host: Host) -> None:
    host.installs = [("qemu-system-x86_64", "echo version 7.2.1")]
    told: list[str] = []

    @contextlib.contextmanager
    def busy(text: str) -> Iterator[None]:
        told.append(text)
        yield

    doctor.ensure([QEMU], cache=host.cache, busy=busy)
    assert host.commands == [
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "qemu-system-x86"]
    ]
    assert told == ["install qemu-system-x86"]


def test_a_terminal_is_asked_once(host: Host) -> None:
    host.installs = [("qemu-system-x86_64", "echo version 7.2.1")]
    asked: list[str] = []
    doctor.ensure([QEMU, CC][:1], cache=host.cache, ask=lambda question: not asked.append(question))
    assert len(asked) == 1
    assert "apt-get install -y --no-install-recommends qemu-system-x86" in asked[0]


def test_a_no_is_respected(host: Host) -> None:
    with pytest.raises(MissingToolError) as caught:
        doctor.ensure([QEMU], cache=host.cache, ask=lambda _question: False)
    assert caught.value.remedy == "apt-get install -y --no-install-recommends qemu-system-x86"
    assert host.commands == []


def test_the_environment_forbids(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(doctor.VARIABLE, "no")
    with pytest.raises(MissingToolError, match="qemu-system-x86_64 is not installed; it runs guests"):
        doctor.ensure([QEMU], cache=host.cache)
    assert host.commands == []


def test_the_environment_agrees_beforehand(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(doctor.VARIABLE, "yes")
    host.installs = [("qemu-system-x86_64", "echo version 7.2.1")]
    doctor.ensure([QEMU], cache=host.cache, ask=lambda _question: pytest.fail("asked"))


def test_what_is_still_missing_afterwards_is_an_error(host: Host) -> None:
    with pytest.raises(MissingToolError, match="qemu-system-x86_64 is not installed"):
        doctor.ensure([QEMU], cache=host.cache)
    assert not doctor.remembered([QEMU], host.cache)


def verbs(host: Host) -> list[str]:
    return [command[3] for command in host.commands]


def test_empty_package_lists_are_fetched_first(host: Host, tmp_path: Path) -> None:
    (tmp_path / "lists/mirror_Packages.lz4").unlink()
    doctor.install(["make"])
    assert verbs(host) == ["update", "install"]


def test_old_package_lists_are_fetched_anew(host: Host) -> None:
    host.outcomes = [False, True, True]
    doctor.install(["make"])
    assert verbs(host) == ["install", "update", "install"]


def test_apt_that_keeps_failing(host: Host) -> None:
    host.outcomes = [False, True, False]
    with pytest.raises(MissingToolError) as caught:
        doctor.install(["make"])
    assert caught.value.remedy == "as root, run: apt-get install -y --no-install-recommends make"


def test_a_user_goes_through_sudo(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(doctor.sys, "stdin", None)
    host.program("sudo", "exit 1")
    doctor.install(["make"])
    assert host.commands[0][:3] == ["sudo", "env", "DEBIAN_FRONTEND=noninteractive"]
    missing = [Finding("make", ok=False, detail="", packages=("make",))]
    assert doctor.remedy(missing) == "sudo apt-get install -y --no-install-recommends make"


def test_neither_root_nor_sudo(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    with pytest.raises(MissingToolError, match="neither root nor sudo"):
        doctor.install(["make"])


def test_a_host_without_apt(host: Host) -> None:
    (host.bin / "apt-get").unlink()
    with pytest.raises(HostwalkError, match="has no apt-get"):
        doctor.install(["make"])
    missing = [Finding("make", ok=False, detail="", packages=("make",))]
    assert doctor.remedy(missing) == "install what Debian calls make"
