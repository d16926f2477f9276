"""Keys, facts and integrity of templates, without a machine."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hostwalk import template
from hostwalk.cache import Cache, size_limit
from hostwalk.errors import UsageError
from hostwalk.machine.accel import Accel
from hostwalk.machine.frozen import RAM_FILE, STATE_FILE, copy_sparsely, digest_of, own_memory
from hostwalk.machine.qemu import Qemu
from hostwalk.machine.rewind import own_pages
from hostwalk.memory import Region
from hostwalk.target import Arch, Target
from hostwalk.template import Facts, template_key

TCG, KVM = Accel("tcg", "asked for"), Accel("kvm", "a probe boot passed")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def qemu(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What stands for the installed QEMU and the host's processor; tests change it."""
    host = {"version": "7.2.0", "processor": "one"}
    found = SimpleNamespace
    monkeypatch.setattr(
        template, "find_qemu",
        lambda arch: found(path=Path("/q"), machine="board", version="7", identity=host["version"]),
    )  # fmt: skip
    monkeypatch.setattr(template, "host_processor", lambda: host["processor"])
    return host


def made_of(kernel: str = "k", image: str = "i", *, login: bool = False, **target: object) -> SimpleNamespace:
    wanted = Target(**{"arch": Arch.X86_64, **target})  # type: ignore[arg-type]
    contents = SimpleNamespace(identity=image, cmdline="", login=login)
    return SimpleNamespace(target=wanted, kernel=SimpleNamespace(identity=kernel), image=contents)


def key(accel: Accel = TCG, **made: object) -> str:
    return template_key(made_of(**made), accel)  # type: ignore[arg-type]


def test_all_that_shapes_a_template_is_in_its_key(qemu: dict[str, str]) -> None:
    keys = [
        key(), key(kernel="other"), key(image="other"), key(arch=Arch.ARM64), key(format="5level"),
        key(memory=512), key(cpus=2), key(kaslr=True), key(login=True), key(KVM),
    ]  # fmt: skip
    qemu["version"] = "7.2.1"
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_the_host_s_processor_matters_to_kvm_alone(qemu: dict[str, str]) -> None:
    before = key(TCG), key(KVM)
    qemu["processor"] = "two"
    assert key(TCG) == before[0]
    assert key(KVM) != before[1]


def test_the_same_gives_the_same_key_wherever_the_cache_is() -> None:
    assert key() == key(accel=Accel("tcg", "no /dev/kvm"))


def facts(directory: Path) -> Facts:
    regions = (Region(0, MIB, 0, "ram"), Region(1 << 32, MIB, MIB, "ram"))
    return Facts(regions, (1, 80, 4096, 100), ((2, 81, 4096, 100),), *template._digests(directory), 1.5, 3)


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    (tmp_path / STATE_FILE).write_bytes(b"devices")
    (tmp_path / RAM_FILE).write_bytes(os.urandom(2 * MIB))
    facts(tmp_path).save(tmp_path)
    return tmp_path


def test_facts_come_back(frozen: Path) -> None:
    assert template._intact(frozen) == facts(frozen)


@pytest.mark.parametrize("name", [RAM_FILE, STATE_FILE, template.FACTS_FILE])
@pytest.mark.parametrize("how", ["missing", "empty", "changed"])
def test_a_damaged_template_is_not_used(frozen: Path, name: str, how: str) -> None:
    path = frozen / name
    data = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(b"" if how == "empty" else bytes(byte ^ 1 for byte in data))
    assert template._intact(frozen) is None


def test_a_copy_of_ram_has_holes_where_there_is_nothing(tmp_path: Path) -> None:
    source = os.memfd_create("test")
    try:
        os.ftruncate(source, 8 * MIB)
        os.pwrite(source, b"x" * 5000, 3 * MIB + 100)
        os.pwrite(source, bytes(MIB), 5 * MIB)
        os.pwrite(source, b"end", 8 * MIB - 3)
        copy_sparsely(source, 8 * MIB, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == os.pread(source, 8 * MIB, 0)
        assert (tmp_path / "copy").stat().st_blocks * 512 < 64 << 10
    finally:
        os.close(source)


@pytest.fixture
def ram() -> Iterator[int]:
    file = os.memfd_create("test")
    os.pwrite(file, os.urandom(MIB), 0)
    yield file
    os.close(file)


def test_a_copy_is_whole_though_writes_fall_short(
    ram: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:100_000], at))
    copy_sparsely(ram, MIB, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == os.pread(ram, MIB, 0)


def test_a_copy_that_is_not_what_was_copied_is_an_error(
    ram: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, bytes(4096) + data[4096:], at))
    with pytest.raises(OSError, match="not what was copied"):
        copy_sparsely(ram, MIB, tmp_path / "copy")


def test_own_pages_are_those_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    path.write_bytes(bytes(64 * mmap.PAGESIZE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as mine:
        host = np.frombuffer(mine, dtype=np.uint8).ctypes.data
        assert sum(mine[place] for place in range(0, len(mine), mmap.PAGESIZE)) == 0
        mine[3 * mmap.PAGESIZE] = 1
        mine[9 * mmap.PAGESIZE] = 1
        assert own_pages(os.getpid(), host, len(mine)).tolist() == [3, 9]


def test_any_changed_byte_of_the_ram_is_noticed(tmp_path: Path) -> None:
    ram, size = tmp_path / "ram", 64 * mmap.PAGESIZE
    with ram.open("wb") as file:
        file.truncate(size)
        for block in (3, 4, 40):
            os.pwrite(file.fileno(), os.urandom(mmap.PAGESIZE), block * mmap.PAGESIZE)
    before, data = digest_of(ram), ram.read_bytes()
    ram.write_bytes(data)
    assert digest_of(ram) == before, "blocks of zeros are like holes"
    for place in (0, 3 * mmap.PAGESIZE, 41 * mmap.PAGESIZE - 1, size - 1):
        ram.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert digest_of(ram) != before
    three, four = (slice(block * mmap.PAGESIZE, (block + 1) * mmap.PAGESIZE) for block in (3, 4))
    ram.write_bytes(data[: three.start] + data[four] + data[three] + data[four.stop :])
    assert digest_of(ram) != before, "blocks that changed places"


def test_a_process_has_memory_of_its_own() -> None:
    assert own_memory(os.getpid()) > MIB


def filled(cache: Cache, key_: str, size: int, used: int) -> None:
    cache.entry(
        "template", key_, lambda directory: (directory / "ram").write_bytes(os.urandom(size)) and None
    )
    os.utime(cache.root / ".locks" / f"template.{key_}", (used, used))


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for number, name in enumerate(("old", "middle", "new")):
        filled(cache, name, MIB, 1000 + number)
    assert [entry.key for entry in cache.trim("template", limit=5 * MIB // 2)] == ["old"]
    assert [entry.key for entry in cache.trim("template", keep="middle", limit=MIB)] == ["new"]
    assert [entry.key for entry in cache.trim("template", keep="middle", limit=0)] == []
    assert [entry.key for entry in cache.entries()] == ["middle"]


def test_holes_take_no_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def make(directory: Path) -> None:
        with (directory / "ram").open("wb") as file:
            file.truncate(64 * MIB)

    cache.entry("template", "sparse", make)
    assert cache.entries()[0].size < MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 4 << 30), ("1000", 1000), ("64K", 64 << 10), ("500m", 500 << 20), ("2GiB", 2 << 30)],
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("HOSTWALK_CACHE_SIZE", text)
    assert size_limit() == size


def test_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTWALK_CACHE_SIZE", "much")
    with pytest.raises(UsageError, match="much is no size"):
        size_limit()


def test_qemu_answers_once(tmp_path: Path) -> None:
    Qemu(Path("/q"), "7.2.1", "board").save(tmp_path)
    assert (tmp_path / "answer.json").read_text() == '{"version": "7.2.1", "machine": "board"}'
