"""Templates and forks alive: isolation, reset, damage, kills, and that nothing grows or stays."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from templating import phys, prepared, template

from hostwalk.cache import Cache
from hostwalk.cell import Prepared, prepare
from hostwalk.cells import Cell, Cells
from hostwalk.entropy import FRESH
from hostwalk.errors import GuestCrashError, HostwalkError
from hostwalk.guest import Subject
from hostwalk.kernels.progress import SILENT
from hostwalk.machine import QmpCommandError
from hostwalk.machine.frozen import RAM_FILE, STATE_FILE
from hostwalk.options import CheckOptions
from hostwalk.target import Target
from hostwalk.template import FACTS_FILE, KIND, Template, template_of
from hostwalk.witness import Witness

__all__ = ["prepared", "template"]

MARK = 0xA5
MONOTONIC = 1


@pytest.fixture
def fork(template: Template) -> Iterator[Callable[..., Cell]]:
    made: list[Cell] = []

    def make(**options: object) -> Cell:
        made.append(template.fork(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def own_cache(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The same target with a cache of its own for templates."""
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return replace(prepared, kernel=replace(prepared.kernel, cache=cache))


def random_bytes(cell: Cell) -> bytes:
    with cell.agent.spawn() as subject:
        return subject.call("getrandom", subject.scratch, 16, 0, reply=16).payload


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> int:
    return sum(len(path.read_text().split()) for path in Path("/proc/self/task").glob("*/children"))


def test_a_fork_works_as_a_booted_machine(fork: Callable[..., Cell]) -> None:
    cell = fork()
    witness = Witness(cell)
    with cell.agent.spawn() as subject:
        area = subject.mmap(pages=4, prot="rw").touch()
        seen = witness.pages(area)
        assert seen.present == (1, 1, 1, 1)
        with subject.get_user_pages(area, write=True) as pins:
            assert pins.pfns == seen.pfns
            assert witness.pages(area).refcounts == seen.refcounts + 1
    assert cell.machine.registers().pc


def test_what_one_sibling_stores_no_other_sees(template: Template, fork: Callable[..., Cell]) -> None:
    one, other = fork(), fork()
    with one.agent.spawn() as subject:
        place = phys(one, subject, subject.scratch)
        before = other.memory.read(place, 8)
        subject.store(subject.scratch, count=8, byte=MARK)
        assert one.memory.read(place, 8) == bytes([MARK]) * 8
    assert other.memory.read(place, 8) == before != bytes([MARK]) * 8
    region = next(each for each in template.facts.regions if place in each)
    with (template.frozen.directory / RAM_FILE).open("rb") as ram:
        ram.seek(region.offset + place - region.start)
        assert ram.read(8) == before


def test_the_host_writes_to_one_sibling_alone(fork: Callable[..., Cell]) -> None:
    one, other = fork(), fork()
    with one.agent.spawn() as subject:
        place = phys(one, subject, subject.scratch)
        one.memory.write(place, b"hostwalk")
        assert subject.peek(subject.scratch, 8) == b"hostwalk"
    assert other.memory.read(place, 8) != b"hostwalk"


def test_the_agent_knows_which_fork_it_is_in(fork: Callable[..., Cell]) -> None:
    numbers = [fork().agent.hello().fork for _ in range(3)]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert numbers[0] > 0


def drawn_twice(draw: Callable[[], bytes]) -> bytes:
    """Return what two of a few forks draw: now and then the kernel takes a new key of its own."""
    drawn: list[bytes] = []
    while len(set(drawn)) == len(drawn):
        assert len(drawn) < 4, "no two forks drew the same"
        drawn.append(draw())
    return drawn[-1]


def test_random_numbers_are_alike_seeded_or_fresh(fork: Callable[..., Cell], prepared: Prepared) -> None:
    if "base_crng" not in prepared.kernel.symbols:
        pytest.skip("the kernel was built without CONFIG_KALLSYMS_ALL")
    alike = drawn_twice(lambda: random_bytes(fork()))
    seeded = drawn_twice(lambda: random_bytes(fork(seed=1)))
    others = {random_bytes(fork(seed=2)), random_bytes(fork(seed=FRESH)), random_bytes(fork(seed=FRESH))}
    assert len({alike, seeded} | others) == 5


def test_guest_time_goes_on_where_it_stopped(fork: Callable[..., Cell]) -> None:
    def uptime(cell: Cell, subject: Subject) -> float:
        said = subject.call("clock_gettime", MONOTONIC, subject.scratch, reply=16).payload
        return int.from_bytes(said[:8], "little") + int.from_bytes(said[8:16], "little") / 1e9

    one, other = fork(), fork()
    with one.agent.spawn() as first, other.agent.spawn() as second:
        assert abs(uptime(one, first) - uptime(other, second)) < 30
        nap = (2).to_bytes(8, "little") + bytes(8)
        began = uptime(one, first)
        first.call("nanosleep", first.scratch, 0, payload=nap)
        assert 2 <= uptime(one, first) - began < 30
    assert one.machine.reports == other.machine.reports == ()
    assert one.machine.console.text == ""


def test_a_fork_that_fails_leaves_no_machine(template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise HostwalkError("no such generator")

    template.fork().close()
    before = (descriptors(), children())
    monkeypatch.setattr("hostwalk.entropy.reseed", refuse)
    with pytest.raises(HostwalkError, match="no such generator"):
        template.fork(seed=1)
    assert (descriptors(), children()) == before


def test_a_reset_undoes_what_was_done(template: Template) -> None:
    cell = template.fork()
    pid, held = cell.machine.pid, 0
    try:
        for turn in range(6):
            subject = cell.agent.spawn()
            place = phys(cell, subject, subject.scratch)
            assert cell.memory.read(place, 8) == bytes(8)
            subject.store(subject.scratch, count=8, byte=MARK)
            subject.mmap(pages=64, prot="rw").touch()
            cell = template.reset(cell)
            if turn == 1:
                held = descriptors()
        assert cell.machine.pid == pid
        assert descriptors() == held
        assert cell.machine.reports == ()
    finally:
        cell.close()


def test_a_broken_fork_cannot_be_reset_and_is_replaced(template: Template) -> None:
    cell = template.fork()
    pid = cell.machine.pid
    os.kill(pid, signal.SIGKILL)
    cell = template.reset(cell)
    try:
        assert cell.machine.pid != pid
        cell.settle()
    finally:
        cell.close()


def test_a_broken_fork_is_thrown_away_and_the_error_says_whose(target: Target) -> None:
    with Cells([target], CheckOptions(), SILENT) as cells:
        one = cells.get(target)
        one.agent.seconds = 10.0
        one.agent.crash("panic")
        with pytest.raises(GuestCrashError, match=rf"fork \d+ of template \w+ of {target}"):
            one.agent.request("HELLO", "hello")
        other = cells.get(target)
        assert other.machine.pid != one.machine.pid
        other.settle()


def leave_a_mark(cell: Cell) -> str:
    """Make a directory; return the machine's name, "" if the directory was there."""
    subject = cell.agent.spawn()
    reply = subject.syscall("mkdirat", subject.agent.abi["AT_FDCWD"], subject.scratch, 0, payload=b"/mark\0")
    assert reply.errno in (None, "EEXIST")
    return "" if reply.errno else cell.machine.name


def test_each_claim_has_a_machine_of_its_own_or_shares_it(target: Target) -> None:
    for isolation, machines in (("claim", 5), ("cell", 1)):
        with Cells([target], CheckOptions(isolation=isolation), SILENT) as cells:
            names = [leave_a_mark(cells.get(target)) for _ in range(5)]
        assert len({name for name in names if name}) == machines


def test_fifty_forks_leave_nothing(template: Template) -> None:
    template.fork().close()
    before = (descriptors(), children())
    for _ in range(50):
        template.fork().close()
    assert (descriptors(), children()) == before


@pytest.mark.parametrize("name", [RAM_FILE, STATE_FILE, FACTS_FILE])
def test_a_damaged_template_is_made_again(own_cache: Prepared, name: str) -> None:
    template = template_of(own_cache)
    damaged = template.frozen.directory / name
    status = damaged.stat()
    data = bytearray(damaged.read_bytes())
    for place in range(0, len(data), 4096):
        data[place] ^= 0xFF
    damaged.write_bytes(data)
    os.utime(damaged, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = template_of(own_cache)
    assert damaged.read_bytes() != data
    cell = again.fork()
    cell.settle()
    cell.close()


MAKER = """
    import sys
    from dataclasses import replace
    from pathlib import Path
    from hostwalk.cache import Cache
    from hostwalk.cell import prepare
    from hostwalk.kernels.progress import SILENT
    from hostwalk.options import CheckOptions
    from hostwalk.target import Arch, Target
    from hostwalk.template import template_of

    target = Target(Arch({arch!r}), {kernel!r}, {format!r})
    prepared = prepare(target, CheckOptions(), SILENT, Cache.user())
    prepared = replace(prepared, kernel=replace(prepared.kernel, cache=Cache(Path(sys.argv[1]))))
    print("begin", flush=True)
    template = template_of(prepared)
    print(template.facts.boot_seconds, flush=True)
    while sys.argv[2:] == ["fork"]:
        cell = template.fork()
        print(cell.machine.pid, flush=True)
        cell.close()
"""


def maker(prepared: Prepared, cache: Path, *words: str) -> subprocess.Popen[str]:
    """Start a process that makes the template in a cache, and then forks it for ever if told so."""
    target = prepared.target
    code = textwrap.dedent(MAKER).format(arch=str(target.arch), kernel=target.kernel, format=target.format)
    argv = [sys.executable, "-c", code, str(cache), *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def machines_of(cache: Path) -> set[int]:
    """Return the QEMUs that hold a file of a cache open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(cache) in str(link.readlink()):
                found.add(int(link.parts[2]))
        except OSError:
            continue
    return found


def gone(pid: int, seconds: float = 10.0) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


@pytest.mark.parametrize("line", [1, 2], ids=["while the template is made", "between forks"])
def test_after_a_kill_the_cache_is_as_good_as_before(prepared: Prepared, tmp_path: Path, line: int) -> None:
    with maker(prepared, tmp_path, "fork") as running:
        assert running.stdout is not None
        for _ in range(line):
            assert running.stdout.readline()
        select.select([], [], [], 0.4)
        left = machines_of(tmp_path)
        running.kill()
    assert all(gone(pid) for pid in left)
    cache = Cache(tmp_path).opened()
    template = template_of(replace(prepared, kernel=replace(prepared.kernel, cache=cache)))
    cell = template.fork()
    cell.settle()
    cell.close()
    assert len(cache.entries(KIND)) == 1
    assert not list((tmp_path / ".tmp").iterdir())


def test_two_processes_make_one_template(prepared: Prepared, tmp_path: Path) -> None:
    with maker(prepared, tmp_path) as one, maker(prepared, tmp_path) as other:
        said = [each.communicate(timeout=120)[0].split() for each in (one, other)]
    assert said[0] == said[1]
    assert len(Cache(tmp_path).entries(KIND)) == 1


def test_without_a_template_the_claims_share_a_booted_machine_and_the_report_says_why(
    own_cache: Prepared, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise QmpCommandError("xen-save-devices-state", {}, "no such command")

    own_cache.kernel.cache.remove(KIND)
    monkeypatch.setattr("hostwalk.template.freeze", refuse)
    monkeypatch.setattr("hostwalk.cells.prepare", lambda *_: own_cache)
    with Cells([target], CheckOptions(), SILENT) as cells:
        machines = {cells.get(target).machine.pid for _ in range(2)}
        assert len(machines) == 1
        assert "booted, and shared: no template (" in cells.identities[target.name]
        assert "no such command" in cells.identities[target.name]
    assert not own_cache.kernel.cache.entries(KIND)


def test_two_processors_are_forked_too(prepared: Prepared) -> None:
    target = replace(prepared.target, cpus=2)
    template = template_of(prepare(target, CheckOptions(), SILENT, Cache.user()))
    cell = template.fork()
    try:
        assert cell.agent.hello().cpus == 2
        with cell.agent.spawn() as one, cell.agent.spawn() as other, one.spin(50), other.spin(50):
            pass
        cell = template.reset(cell)
        assert cell.agent.hello().cpus == 2
        assert cell.machine.reports == ()
    finally:
        cell.close()


def test_a_template_that_has_gone_is_an_error_that_says_so(own_cache: Prepared) -> None:
    template = template_of(own_cache)
    own_cache.kernel.cache.remove(KIND)
    with pytest.raises(HostwalkError, match="has gone from the cache"):
        template.fork()
    again = template_of(own_cache)
    with pytest.raises(HostwalkError, match="has gone from the cache"):
        template.fork()
    again.fork().close()


def test_a_fork_that_has_grown_is_replaced(template: Template) -> None:
    cell = template.reset(template.fork())
    pid = cell.machine.pid
    cell.agent.spawn().mmap(pages=40_000).touch()
    cell = template.reset(cell)
    assert cell.machine.pid != pid
    cell.close()
