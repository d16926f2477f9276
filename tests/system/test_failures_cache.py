"""Damaged, full, cold and contended caches, with and without a network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from failure_runs import KINDS, ONE_CLAIM, SEEDS, Hostwalk, assert_sound, copy_cache, damage, entries

from hostwalk.kernels import index

WARM_SECONDS = 120
COLD_SECONDS = 300
NOWHERE = "http://192.0.2.1/debian"
DISK = 'mount -t tmpfs -o size={mib}m none {cache} && cp -a {seeds}/. {cache} && exec "$@"'
LOOK = '"$@"; status=$?; ls -A {cache} {cache}/.tmp >{listing}; exit $status'


def can(*words: str) -> bool:
    """Whether a helper program is allowed to do this here."""
    try:
        return subprocess.run(words, capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def no_network() -> tuple[str, ...]:
    """Words before a command that take its network away."""
    for words in (("unshare", "-n"), ("unshare", "-r", "-n")):
        if can(*words, "true"):
            return words
    pytest.skip("unshare(1) may not make a network namespace here")


@pytest.fixture
def cold(tmp_path: Path, warm_cache: Path) -> Hostwalk:
    """Downloads, and nothing made of them."""
    return Hostwalk(tmp_path, copy_cache(warm_cache, tmp_path / "cache", SEEDS))


@pytest.fixture
def warm(tmp_path: Path, warm_cache: Path) -> Hostwalk:
    """A private copy of everything."""
    return Hostwalk(tmp_path, copy_cache(warm_cache, tmp_path / "cache", KINDS))


def package(cache: Path) -> Path:
    """The download that the kernel comes from."""
    return next(cache.glob("deb/*/linux-image-6.12.*cloud-amd64_*.deb"))


def unpacked(cache: Path) -> Path:
    return next(cache.glob("kernel/*/boot/vmlinuz-6.12*cloud-amd64"))


def test_no_network_on_a_warm_cache(warm: Hostwalk, no_network: tuple[str, ...]) -> None:
    done = warm.run(*ONE_CLAIM, seconds=WARM_SECONDS, prefix=no_network, HOSTWALK_MIRROR=NOWHERE)
    assert done.status == 0, done.text


def test_no_network_when_the_package_index_is_old(warm: Hostwalk, no_network: tuple[str, ...]) -> None:
    path = next(warm.cache.glob("apt/*/index.json"))
    kept = index.load(path)
    assert kept is not None
    index.save(replace(kept, fetched=0.0, attempted=0.0), path)
    done = warm.run(*ONE_CLAIM, seconds=WARM_SECONDS, prefix=no_network)
    assert done.status == 0, done.text


def test_no_network_on_a_cold_cache(tmp_path: Path, no_network: tuple[str, ...]) -> None:
    hostwalk = Hostwalk(tmp_path, tmp_path / "cache")
    done = hostwalk.run(*ONE_CLAIM, seconds=WARM_SECONDS, prefix=no_network)
    assert done.status == 3
    assert done.explains(
        "fetch: reading Debian's package index failed", "remedy: check the network", "--mirror"
    )
    assert_sound(hostwalk.cache)


def test_a_damaged_kernel_is_unpacked_again(warm: Hostwalk, no_network: tuple[str, ...]) -> None:
    good = unpacked(warm.cache).read_bytes()
    damage(unpacked(warm.cache))
    done = warm.run(*ONE_CLAIM, seconds=WARM_SECONDS, prefix=no_network)
    assert done.status == 0, done.text
    assert unpacked(warm.cache).read_bytes() == good


def test_a_damaged_download_is_never_used(warm: Hostwalk, no_network: tuple[str, ...]) -> None:
    download = package(warm.cache)
    before = download.stat()
    damage(download)
    os.utime(download, ns=(before.st_atime_ns, before.st_mtime_ns))
    shutil.rmtree(warm.cache / "kernel")
    done = warm.run(*ONE_CLAIM, seconds=WARM_SECONDS, prefix=no_network)
    assert done.status == 3
    assert done.explains("fetch: ", "linux-image-6.12", "remedy: check the network")
    assert_sound(warm.cache)
    assert not list(entries(warm.cache, "kernel"))


@pytest.fixture
def small_disk(cold: Hostwalk) -> tuple[str, ...]:
    """Words before a command that give it a cache on a disk with room for the downloads and little more."""
    seeds = cold.cache.rename(cold.place / "seeds")
    cold.cache.mkdir()
    for other in (path for path in (seeds / "deb").iterdir() if not list(path.glob("*6.12.*amd64*"))):
        shutil.rmtree(other)
    size = sum(path.stat().st_size for path in seeds.rglob("*") if path.is_file())
    mount = DISK.format(mib=(size >> 20) + 6, cache=cold.cache, seeds=seeds)
    words = ("unshare", "-m", "sh", "-c", mount, "sh")
    if not can(*words, "true"):
        pytest.skip("mount(8) may not make a tmpfs here")
    look = LOOK.format(cache=cold.cache, listing=cold.place / "listing")
    return (*words, "sh", "-c", look, "sh")


def test_the_disk_of_the_cache_is_full(cold: Hostwalk, small_disk: tuple[str, ...]) -> None:
    done = cold.run(*ONE_CLAIM, seconds=WARM_SECONDS, prefix=small_disk)
    assert done.status == 3
    assert done.explains("cache: ", "remedy: free some space", "hostwalk cache clear", "HOSTWALK_CACHE")
    assert "No space left on device" in done.text or "is full" in done.text
    listing = (cold.place / "listing").read_text()
    assert "deb" in listing
    assert "kernel" not in listing
    assert listing.endswith(".tmp:\n"), listing


def test_two_runs_at_once_make_everything_once(cold: Hostwalk, no_network: tuple[str, ...]) -> None:
    began = time.monotonic()
    runs = [cold.start(*ONE_CLAIM, prefix=no_network) for _ in range(2)]
    done = [run.communicate(timeout=COLD_SECONDS) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], done
    assert time.monotonic() - began < COLD_SECONDS
    cold.assert_nothing_left()
    assert_sound(cold.cache)
    for kind in ("kernel", "headers", "agent", "exerciser", "image"):
        made = len(list(entries(cold.cache, kind)))
        assert made == 1, f"{made} of {kind}"


def test_a_run_killed_in_mid_build_is_made_good(warm: Hostwalk, no_network: tuple[str, ...]) -> None:
    for kind in ("exerciser", "image"):
        shutil.rmtree(warm.cache / kind)
    process = warm.start(*ONE_CLAIM, prefix=no_network)
    assert process.stderr is not None
    assert any(line.startswith("building the exerciser") for line in process.stderr)
    process.send_signal(signal.SIGKILL)
    warm.finish(process, WARM_SECONDS)
    assert not list(entries(warm.cache, "exerciser"))
    done = warm.run(*ONE_CLAIM, seconds=WARM_SECONDS, prefix=no_network)
    assert done.status == 0, done.text
    assert_sound(warm.cache)
