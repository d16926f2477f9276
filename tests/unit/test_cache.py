import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostwalk import manifest
from hostwalk.cache import Cache, key_of
from hostwalk.deadline import Deadline
from hostwalk.errors import BuildError, CacheError, Evidence
from hostwalk.locks import locked, try_lock
from hostwalk.manifest import Check

FRAMEWORK = Path(__file__).parents[2] / "framework"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def writes(text: str = "content", calls: list[str] | None = None) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        if calls is not None:
            calls.append(text)
        (directory / "file").write_text(text)
        (directory / "deep" / "er").mkdir(parents=True)
        (directory / "deep" / "er" / "file").write_text(text * 2)
        (directory / "link").symlink_to("file")
        (directory / "folder").symlink_to("deep")

    return make


def leftovers(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_relative_to(cache.root / ".tmp")][1:]


def test_an_entry_is_made_once(cache: Cache) -> None:
    calls: list[str] = []
    assert cache.lookup("kind", "key") is None
    first = cache.entry("kind", "key", writes(calls=calls))
    assert cache.entry("kind", "key", writes(calls=calls)) == first == cache.lookup("kind", "key")
    assert calls == ["content"]
    assert (first / "deep/er/file").read_text() == "contentcontent"
    assert not leftovers(cache)


def test_a_key_tells_its_parts_apart(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("1")
    before = key_of(tmp_path / "d")
    assert len({key_of("ab"), key_of("a", "b"), key_of(b"ab"), key_of("a", b"b"), key_of()}) == 5
    assert key_of(tmp_path / "d/a") == key_of(tmp_path / "d/a")
    (tmp_path / "d/a").write_text("2")
    assert key_of(tmp_path / "d") != before
    (tmp_path / "d/a").rename(tmp_path / "d/b")
    assert key_of(tmp_path / "d") != before
    assert len(before) == 32


@pytest.mark.parametrize("name", ["", ".hidden", "../x", "a/b", "a b"])
def test_a_name_that_would_leave_the_cache_is_refused(cache: Cache, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        cache.entry("kind", name, writes())


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"X")


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: flip(tree / "file"),
        lambda tree: flip(tree / "deep/er/file"),
        lambda tree: (tree / "file").unlink(),
        lambda tree: (tree / "file").write_text("short"),
        lambda tree: (tree / manifest.NAME).unlink(),
        lambda tree: flip(tree / manifest.NAME),
        lambda tree: (tree / manifest.NAME).write_text(""),
        lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("deep")),
    ],
)
def test_a_damaged_entry_is_made_again(cache: Cache, damage: Callable[[Path], object]) -> None:
    calls: list[str] = []
    path = cache.entry("kind", "key", writes(calls=calls))
    damage(path)
    assert cache.lookup("kind", "key") is None
    assert cache.entry("kind", "key", writes(calls=calls)) == path
    assert (path / "file").read_text() == "content"
    assert len(calls) == 2
    assert not leftovers(cache)


def test_damage_behind_an_unchanged_time_needs_the_full_check(cache: Cache) -> None:
    path = cache.entry("kind", "key", writes())
    stat = (path / "file").stat()
    flip(path / "file")
    os.utime(path / "file", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.lookup("kind", "key") == path
    assert cache.lookup("kind", "key", Check.HASH) is None
    assert not cache.verify(path)


def test_a_touched_file_with_its_old_content_is_whole(cache: Cache) -> None:
    path = cache.entry("kind", "key", writes())
    os.utime(path / "file", (1, 1))
    assert cache.lookup("kind", "key") == path
    assert cache.verify(path)


def test_a_mark_check_reads_only_the_manifest(cache: Cache) -> None:
    path = cache.entry("kind", "key", writes())
    flip(path / "file")
    assert cache.lookup("kind", "key", Check.MARK) == path
    cache.drop(path)
    assert cache.lookup("kind", "key", Check.MARK) is None


def test_a_maker_that_fails_leaves_nothing(cache: Cache) -> None:
    def make(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise BuildError("no")

    with pytest.raises(BuildError, match="no"):
        cache.entry("kind", "key", make)
    assert cache.lookup("kind", "key") is None
    assert not leftovers(cache)
    assert cache.entries() == ()


def test_threads_wait_for_one_maker(cache: Cache) -> None:
    calls: list[str] = []
    together = threading.Barrier(8)

    def use(_: int) -> Path:
        together.wait()
        return cache.entry("kind", "key", writes(calls=calls))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(use, range(8)))) == 1
    assert len(calls) == 1


RACER = """
import sys
from pathlib import Path
from hostwalk.cache import Cache
def make(directory):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    (directory / "file").write_text("content")
sys.stdin.readline()
print(Cache(Path(sys.argv[1])).entry("kind", "key", make))
"""
SLEEPER = """
import sys, signal
from pathlib import Path
from hostwalk.cache import Cache
def make(directory):
    (directory / "file").write_text("half")
    print("making", flush=True)
    signal.pause()
Cache(Path(sys.argv[1])).entry("kind", "key", make)
"""


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(FRAMEWORK)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def sleeper(cache: Cache) -> Iterator["subprocess.Popen[str]"]:
    process = start(SLEEPER, cache.root)
    assert process.stdout
    assert process.stdout.readline() == "making\n"
    yield process
    process.kill()
    process.communicate()


def test_processes_wait_for_one_maker(cache: Cache, tmp_path: Path) -> None:
    racers = [start(RACER, cache.root, tmp_path / "log") for _ in range(3)]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("\n")
        racer.stdin.flush()
    outputs = {racer.communicate()[0] for racer in racers}
    assert outputs == {f"{cache.root}/kind/key\n"}
    assert (tmp_path / "log").read_text() == "made\n"


def test_what_a_killed_maker_left_is_swept_and_a_living_one_is_left_alone(
    cache: Cache, sleeper: "subprocess.Popen[str]"
) -> None:
    cache.sweep()
    assert [path.name for path in (cache.root / ".tmp").rglob("file")] == ["file"]
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert (cache.entry("kind", "key", writes()) / "file").read_text() == "content"
    assert not leftovers(cache)


def test_waiting_for_a_maker_has_a_deadline_and_is_told(
    cache: Cache, sleeper: "subprocess.Popen[str]"
) -> None:
    told: list[str] = []

    @contextlib.contextmanager
    def shown(what: str) -> Iterator[None]:
        told.append(what)
        try:
            yield
        finally:
            told.append("no more")

    patient = Cache(cache.root, shown)
    with pytest.raises(CacheError, match=r"another hostwalk held .*kind\.key"):
        patient.entry("kind", "key", writes(), deadline=Deadline.after(0.02))
    assert told == ["kind key", "no more"]


def test_a_lock_that_comes_free_is_taken(tmp_path: Path) -> None:
    fd = try_lock(tmp_path / "lock")
    assert fd is not None
    assert try_lock(tmp_path / "lock") is None
    with locked(tmp_path / "lock", Deadline.after(5), lambda: contextlib.nullcontext(os.close(fd))):
        assert try_lock(tmp_path / "lock") is None
    again = try_lock(tmp_path / "lock")
    assert again is not None
    os.close(again)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "make it writable"),
        (errno.EROFS, "make it writable"),
    ],
)
def test_an_unusable_disk_is_a_cache_error(cache: Cache, number: int, remedy: str) -> None:
    def make(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise OSError(number, os.strerror(number), str(directory / "half"))

    with pytest.raises(CacheError) as caught:
        cache.entry("kind", "key", make)
    assert str(cache.root) in caught.value.message
    assert os.strerror(number) in caught.value.message
    assert remedy in caught.value.remedy
    assert "HOSTWALK_CACHE" in caught.value.remedy
    assert cache.lookup("kind", "key") is None
    assert not leftovers(cache)


def test_a_full_disk_that_shows_only_when_made_durable(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(manifest, "sync", full)
    with pytest.raises(CacheError, match="No space left"):
        cache.entry("kind", "key", writes())
    assert cache.lookup("kind", "key") is None
    assert not leftovers(cache)


def test_a_program_that_found_the_disk_full_is_a_cache_error(cache: Cache) -> None:
    def make(_: Path) -> None:
        raise BuildError("cc failed", evidence=Evidence("cc", stderr="x.o: No space left on device"))

    with pytest.raises(CacheError, match="is full") as caught:
        cache.entry("kind", "key", make)
    assert caught.value.evidence.command == "cc"


def test_an_error_about_a_file_elsewhere_is_not_blamed_on_the_cache(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cache.entry("kind", "key", lambda _: (tmp_path / "gone").unlink())


def test_a_root_that_is_a_file_is_a_cache_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("x")
    with pytest.raises(CacheError, match=r"Not a directory|File exists"):
        Cache(tmp_path / "cache").entry("kind", "key", writes())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    root.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", root], check=False, capture_output=True
    )
    if mount.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(CacheError, match="No space left"):
            Cache(root).entry("kind", "key", lambda path: (path / "big").write_bytes(bytes(1 << 20)) and None)
        assert Cache(root).entry("kind", "key", writes()).is_dir()
        assert not leftovers(Cache(root))
    finally:
        subprocess.run(["umount", root], check=True)


def test_a_read_only_cache_still_serves_what_it_has(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache.entry("kind", "key", writes())

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("utime", "mkdir", "open"):
        monkeypatch.setattr(os, name, refuse)
    assert cache.entry("kind", "key", writes()) == path


def test_listing_and_removing(cache: Cache) -> None:
    cache.entry("a", "1", writes("x" * 100))
    cache.entry("a", "2", writes())
    cache.entry("b", "1", writes())
    with cache.workspace("apt", "root") as room:
        (room / "state").write_text("12345")
    assert [(entry.kind, entry.key) for entry in cache.entries()] == [
        ("a", "1"), ("a", "2"), ("apt", "root"), ("b", "1"),
    ]  # fmt: skip
    sizes = {(entry.kind, entry.key): entry.size for entry in cache.entries()}
    assert sizes["a", "1"] == 300
    assert sizes["apt", "root"] == 5
    assert all(entry.used > 0 for entry in cache.entries())
    assert [entry.key for entry in cache.remove("a", "2")] == ["2"]
    assert [entry.kind for entry in cache.remove("a")] == ["a"]
    assert [entry.kind for entry in cache.remove()] == ["apt", "b"]
    assert cache.entries() == ()
    assert not leftovers(cache)


def test_last_use_is_noted(cache: Cache) -> None:
    cache.entry("a", "1", writes())
    lock = cache.root / ".locks" / "a.1"
    os.utime(lock, (1, 1))
    assert cache.entries()[0].used == 1
    cache.lookup("a", "1")
    assert cache.entries()[0].used > 1


def test_a_workspace_lasts_and_is_lent_to_one(cache: Cache) -> None:
    with cache.workspace("apt", "root") as room:
        (room / "x").write_text("1")
        with (
            pytest.raises(CacheError, match="another hostwalk"),
            cache.workspace("apt", "root", Deadline.after(0)),
        ):
            pass
    with cache.workspace("apt", "root") as room:
        assert (room / "x").read_text() == "1"


def test_where_the_users_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOSTWALK_CACHE", str(tmp_path / "own"))
    assert Cache.user().root == tmp_path / "own"
    monkeypatch.delenv("HOSTWALK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Cache.user().root == tmp_path / "xdg" / "hostwalk"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Cache.user().root == tmp_path / "home" / ".cache" / "hostwalk"


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Cache(Path("cache")).root == tmp_path / "cache"


def test_many_files_are_made_durable_together(cache: Cache) -> None:
    def make(directory: Path) -> None:
        for number in range(100):
            (directory / str(number)).write_text("x")

    assert cache.verify(cache.entry("kind", "many", make))
