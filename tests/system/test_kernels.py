"""Kernels against the real thing: symbols against a running guest, the archive against Debian's mirror."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostwalk.cache import Cache
from hostwalk.cell import Cell
from hostwalk.errors import FetchError
from hostwalk.guest import Subject
from hostwalk.image import build_image
from hostwalk.kernels import available, kallsyms, resolve
from hostwalk.kernels.bootfile import BootFile
from hostwalk.target import Arch

AT_FDCWD = -100
WARM_SECONDS = 0.6


def read_file(subject: Subject, path: str) -> bytes:
    """Return a file of the guest's."""
    fd = subject.syscall("openat", AT_FDCWD, subject.scratch, 0, 0, payload=path.encode() + b"\0").value
    parts: list[bytes] = []
    size = min(subject.scratch_size, 1 << 16)
    while (reply := subject.syscall("read", fd, subject.scratch, size, reply=size)).value > 0:
        parts.append(reply.payload[: reply.value])
    subject.syscall("close", fd)
    return b"".join(parts)


def test_the_symbols_are_those_that_the_guest_has(cell: Cell, subject: Subject) -> None:
    kernel = cell.prepared.kernel
    table = kallsyms.decode(BootFile.parse(kernel.boot.read_bytes(), kernel.spec, kernel.arch).kernel())
    assert table is not None
    lines = read_file(subject, "/proc/kallsyms").decode().splitlines()
    rows = [line.split() for line in lines if "\t[" not in line]
    live = Counter((int(address, 16), kind, name) for address, kind, name in rows)
    decoded = Counter(zip(table.addresses.tolist(), table.types, table.names, strict=True))
    assert decoded == live
    assert live.total() > 10000
    assert {name: kernel.symbols[name] for name in table.names[:100]}.keys() <= {name for _, _, name in live}


def test_the_release_is_what_uname_says(cell: Cell, subject: Subject) -> None:
    assert read_file(subject, "/proc/sys/kernel/osrelease").decode().strip() == cell.prepared.kernel.release


@pytest.mark.network
def test_a_second_run_needs_no_network_and_little_time(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first = resolve("debian:6.12", Arch.X86_64, cache=cache)
    image = build_image(first, cache)
    start = time.monotonic()
    again = resolve("debian:6.12", Arch.X86_64, cache=cache, offline=True)
    assert build_image(again, cache).identity == image.identity
    assert time.monotonic() - start < WARM_SECONDS
    assert again == first

    damaged = bytearray(first.boot.read_bytes())
    damaged[5_000_000] ^= 1
    first.boot.write_bytes(damaged)
    healed = resolve("debian:6.12", Arch.X86_64, cache=cache, offline=True)
    assert healed.identity == first.identity
    assert BootFile.parse(healed.boot.read_bytes(), "healed", Arch.X86_64).kernel()

    first.boot.write_bytes(damaged)
    shutil.rmtree(cache.root / "deb")
    with pytest.raises(FetchError, match="not in the cache"):
        resolve("debian:6.12", Arch.X86_64, cache=cache, offline=True)


@pytest.mark.network
def test_two_runs_at_once_on_an_empty_cache(tmp_path: Path) -> None:
    caches = [Cache(tmp_path / "cache") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda cache: resolve("debian:6.12", Arch.ARM64, cache=cache), caches)
    assert one == two
    assert len(caches[0].entries("kernel")) == 1


@pytest.mark.network
def test_what_debian_has(tmp_path: Path) -> None:
    kernels = available(Arch.ARM64, cache=Cache(tmp_path))
    flavours = {(kernel.abi.split(".")[1], kernel.flavour) for kernel in kernels}
    assert {("12", "cloud-arm64"), ("12", "arm64-16k"), ("12", "rt-arm64"), ("1", "cloud-arm64")} <= flavours
