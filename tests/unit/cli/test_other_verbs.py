from __future__ import annotations

import json
from pathlib import Path

import pytest

import hostwalk
from hostwalk import doctor, kernels, surroundings
from hostwalk.cache import Cache
from hostwalk.cli import test as test_verb
from hostwalk.cli.kernels import spec_of
from hostwalk.cli.main import main
from hostwalk.doctor import Finding
from hostwalk.errors import HostwalkError
from hostwalk.kernels import DebianImage
from hostwalk.kernels.apt import Package


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("HOSTWALK_CACHE", str(tmp_path / "cache"))
    return Cache(tmp_path / "cache")


def test_an_empty_cache(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "empty"


def test_the_cache_by_kind(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, key in (("deb", "a"), ("deb", "b"), ("image", "c")):
        cache.entry(kind, key, lambda place: (place / "file").write_text("x" * 5000) and None)
    assert main(["cache", "list"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [["deb", "2"], ["image", "1"], ["all", "3"]]
    assert main(["cache", "clear", "deb"]) == 0
    assert [entry.kind for entry in cache.entries()] == ["image"]
    assert main(["cache", "clear"]) == 0
    assert cache.entries() == ()


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda _tool: "")
    assert main(["version"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"hostwalk {hostwalk.__version__}"


def image(name: str, abi: str, flavour: str, version: str, arch: str = "arm64") -> DebianImage:
    return DebianImage(Package(name, version, arch, 1, "0" * 64, "file", ""), abi, flavour, signed=True)


def test_kernels_are_named_as_they_are_asked_for() -> None:
    named = [
        spec_of(image("i", "6.12.1+deb12", flavour, "6.12.1-1~deb12u1"), exact=True)
        for flavour in ("cloud-arm64", "arm64", "rt-arm64", "arm64-16k")
    ]
    assert named == ["debian:6.12.1", "debian:6.12.1-generic", "debian:6.12.1-rt", "debian:6.12.1-arm64-16k"]


def test_kernels_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = (
        image("i", "6.1.0-9", "cloud-arm64", "6.1.27-1"),
        image("i", "6.12.1+deb12", "rt-arm64", "6.12.1-1"),
    )
    monkeypatch.setattr(doctor, "ensure", lambda *_args, **_rest: None)
    monkeypatch.setattr(kernels, "available", lambda _arch, **_rest: found)
    assert main(["kernels", "list", "--arch", "arm64"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[1] for row in rows] == ["debian:6.12-rt", "debian:6.1"]
    assert main(["kernels", "list", "--arch", "arm64", "--all"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [
        ["arm64", "debian:6.12.1-rt", "6.12.1+deb12-rt-arm64", "6.12.1-1"],
        ["arm64", "debian:6.1.27", "6.1.0-9-cloud-arm64", "6.1.27-1"],
    ]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    findings = [
        Finding("make", ok=True, detail="4.3"),
        Finding("gcc", ok=False, detail="no", packages=("gcc",)),
    ]
    monkeypatch.setattr(doctor, "examine", lambda _tools: tuple(findings))
    monkeypatch.setattr(surroundings, "look", lambda _archs: iter(()))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    return findings


def test_doctor_names_the_one_command(host: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 3
    assert "  sudo apt-get install -y --no-install-recommends gcc\n" in capsys.readouterr().out


def test_doctor_json(host: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["remedy"] == "sudo apt-get install -y --no-install-recommends gcc"
    assert [finding["name"] for finding in document["findings"]] == ["make", "gcc"]


def test_doctor_fix(host: list[Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    def install(packages: tuple[str, ...], _busy: object) -> None:
        assert packages == ("gcc",)
        host[1] = Finding("gcc", ok=True, detail="12")

    monkeypatch.setattr(doctor, "install", install)
    assert main(["doctor", "--fix"]) == 0


def test_doctor_when_all_is_well(host: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    del host[1]
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("All is well.\n")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Which environments tox was to run."""
    calls: list[tuple[str, ...]] = []

    def tox(_top: Path, envs: tuple[str, ...]) -> set[str]:
        calls.append(envs)
        return set(envs) - {"benchmarks"}

    monkeypatch.setattr(test_verb, "_tox", tox)
    monkeypatch.setattr(doctor, "ensure", lambda *_args, **_rest: calls.append(("ensure",)))
    return calls


def test_test_runs_all_in_order(ran: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test"]) == 0
    assert ran == [("ensure",), ("lint", "types", "unit", "system", "contract")]
    assert capsys.readouterr().out.startswith(
        "✔ hostwalk test passed: lint, types, unit, system, contract in "
    )


def test_reading_sources_needs_no_host_tools(ran: list[tuple[str, ...]]) -> None:
    assert main(["test", "lint", "types"]) == 0
    assert ran == [("lint", "types")]


def test_unit_tests_need_git_and_compilers(ran: list[tuple[str, ...]]) -> None:
    assert main(["test", "--fast"]) == 0
    assert ran == [("ensure",), ("lint", "types", "unit")]


def test_test_fails(ran: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "unit", "benchmarks"]) == 1
    assert capsys.readouterr().out.startswith("✘ hostwalk test failed: benchmarks in ")


def test_what_passed_is_tox_to_say(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    outcomes = {"unit": {"result": {"success": True}}, "types": {"result": {"success": False}}, ".pkg": {}}
    results.write_text(json.dumps({"testenvs": outcomes}))
    assert test_verb._passed(results) == {"unit"}


def test_tox_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(HostwalkError, match="tox ended before it ran a test"):
        test_verb._passed(tmp_path / "nothing.json")


def test_test_of_an_environment_that_is_not_there(ran: list[tuple[str, ...]]) -> None:
    assert main(["test", "nosuch"]) == 2
    assert ran == []


def test_test_needs_a_checkout(ran: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_verb, "__file__", "/usr/lib/python3/site-packages/hostwalk/cli/test.py")
    assert main(["test"]) == 2
