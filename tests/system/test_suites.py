"""Other people's tests in a guest: leaks are found and named, and what misbehaves ends with a clear result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from suite_parts import EATS, PIN, STAYS, Programs, compiled, script, write_driver

from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, prepare
from hostwalk.cells import Source
from hostwalk.cli.main import main
from hostwalk.image import build_module
from hostwalk.kernels.progress import SILENT
from hostwalk.plugin import Session
from hostwalk.suites import pins as suites_pins
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.pins import pins, settled
from hostwalk.suites.plan import Step
from hostwalk.suites.running import Runner
from hostwalk.target import Arch, Target

SECONDS = 240.0
SHORT = 10.0


@pytest.fixture(scope="module")
def prepared(session: Session, target: Target) -> Prepared:
    return prepare(target, session.options, SILENT, Cache.user(), login=True)


@pytest.fixture(scope="module")
def make(prepared: Prepared) -> Callable[[], Cell]:
    return Source.of(prepared).make


@pytest.fixture(scope="module")
def make_leaky(
    prepared: Prepared, make: Callable[[], Cell], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Cell]:
    """Machines with a driver that pins pages of whoever writes an address to /dev/leak, and forgets them."""
    place = write_driver(tmp_path_factory.mktemp("driver") / "leak")
    module = build_module(prepared.kernel, place, Cache.user())

    def made() -> Cell:
        cell = make()
        with cell.agent.spawn() as loader:
            loader.load_module(module)
        return cell

    return made


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is leaked here stays."""
    monkeypatch.setattr(suites_pins, "SETTLE_SECONDS", 1.0)


def run(path: Path, make: Callable[[], Cell], seconds: float = SECONDS) -> tuple[Result, ...]:
    suite = Programs({path.name: path})
    return Runner(suite, make, seconds).run(Step("own", (f"./{path.name}",)))


def test_pinned_pages_are_counted_and_named_while_they_are_pinned(cell, subject):
    area = subject.mmap(pages=4, prot="rw").touch()
    before = pins(cell)
    with subject.pin_user_pages(area, write=True) as held:
        now = pins(cell)
        assert now.count == before.count + 4
        assert set(held.pfns) <= set(now.frames)
    assert settled(cell, before.count).count == before.count


def test_pages_that_a_driver_forgets_are_a_leak_of_memory_that_nobody_has(
    make_leaky: Callable[[], Cell], tmp_path: Path
) -> None:
    passed, leak = run(script(tmp_path, "leaky", PIN), make_leaky)
    assert (passed.outcome, leak.outcome) == (Outcome.PASS, Outcome.LEAK)
    assert leak.reason.startswith("0 pages were pinned before it, 3 after it: ")
    named = re.findall(r"pfn 0x[0-9a-f]+ \(1\), anonymous memory, which no process maps", leak.reason)
    assert len(named) == 3


def test_pages_of_a_process_that_stays_are_a_leak_of_that_process(
    make_leaky: Callable[[], Cell], tmp_path: Path
) -> None:
    passed, leak = run(script(tmp_path, "stays", STAYS), make_leaky)
    assert (passed.outcome, leak.outcome) == (Outcome.PASS, Outcome.LEAK)
    named = re.findall(
        r"pfn 0x[0-9a-f]+ \(1\), anonymous memory of sh \(pid \d+\) at 0x[0-9a-f]+", leak.reason
    )
    assert len(named) == 3


def test_what_leaves_nothing_pinned_is_no_leak(make_leaky: Callable[[], Cell], tmp_path: Path) -> None:
    (result,) = run(script(tmp_path, "clean", "echo all well"), make_leaky)
    assert result.outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("text", "outcome", "reason"),
    [
        ('bomb() { bomb | bomb & }; bomb; sleep 1000', Outcome.TIMEOUT, "the bound of 256 processes was met"),
        ("exec cat /dev/zero >/tmp/full", Outcome.FAIL, "No space left on device"),
        ("sleep 1000", Outcome.TIMEOUT, "not ended within 10 s"),
        ("exec ./gone", Outcome.FAIL, "ended with status 127: "),
        ("kill -SEGV $$", Outcome.CRASH, "killed by SIGSEGV"),
        ("sleep 1000 & exit 2", Outcome.TIMEOUT, "it ended with status 2, what it left running had its output still"),
    ],
    ids=["forks", "fills", "hangs", "gone", "killed", "leaves"],
)  # fmt: skip
def test_what_misbehaves_ends_with_a_clear_result(
    make: Callable[[], Cell], tmp_path: Path, text: str, outcome: Outcome, reason: str
) -> None:
    seconds = SHORT if outcome is Outcome.TIMEOUT else SECONDS
    (result,) = run(script(tmp_path, "misbehaves", text), make, seconds)
    assert result.outcome is outcome, result
    assert reason in result.reason


def test_a_program_that_goes_on_in_a_child_is_heard_to_its_end(
    make: Callable[[], Cell], tmp_path: Path
) -> None:
    goes_on = "echo 1..2; echo ok 1 parent; (sleep 1; echo ok 2 child) & exit 0"
    results = run(script(tmp_path, "goes_on", goes_on), make)
    assert [(each.name, each.outcome) for each in results] == [
        ("own / goes_on / parent", Outcome.PASS),
        ("own / goes_on / child", Outcome.PASS),
    ]


def test_a_program_that_eats_memory_is_killed_and_told(
    make: Callable[[], Cell], target: Target, tmp_path: Path
) -> None:
    (result,) = run(compiled(EATS, tmp_path / "eats", target.arch, "-static"), make)
    assert result.outcome is Outcome.CRASH
    assert "killed by SIGKILL" in result.reason
    assert "out of memory: the bound of" in result.reason


def test_a_program_for_another_machine_says_so(
    make: Callable[[], Cell], target: Target, tmp_path: Path
) -> None:
    other = Arch.ARM64 if target.arch is Arch.X86_64 else Arch.X86_64
    (result,) = run(compiled("int main(void) { return 0; }", tmp_path / "other", other, "-static"), make)
    assert result.outcome is Outcome.FAIL
    assert f"it is a program for {other}, this guest is {target.arch}" in result.reason


def test_a_program_that_lacks_a_library_is_a_skip_that_names_it(
    make: Callable[[], Cell], target: Target, tmp_path: Path
) -> None:
    library = compiled("int odd(void) { return 1; }", tmp_path / "libodd.so", target.arch, "-shared", "-fPIC")
    main = "int odd(void); int main(void) { return odd(); }"
    program = compiled(main, tmp_path / "lacks", target.arch, f"-L{library.parent}", "-lodd")
    (result,) = run(program, make)
    assert (result.outcome, result.reason) == (Outcome.SKIP, "the guest has no libodd.so")


LTP_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
	fprintf(stderr, "tst_test.c:1890: TINFO: Overall timeout per run is 0h 05m 00s\n");
	fprintf(stderr, "own01.c:10: TPASS: LTPROOT is %s\n", getenv("LTPROOT"));
	if (argc > 1)
		fprintf(stderr, "own01.c:12: TFAIL: %s: EINVAL (22)\n", argv[1]);
	fprintf(stderr, "\nSummary:\npassed   1\nfailed   %d\nbroken   0\nskipped  0\nwarnings 0\n", argc > 1);
	return argc > 1;
}
"""
LTP_SCRIPT = r"""
. own_lib.sh
echo "own02 1 TCONF: 'gdb' not found" >&2
[ -s "$LTPROOT/testcases/data/own02.sh/table" ] || echo "own02 2 TBROK: no data" >&2
exit 32
"""
LTP_CASES = """\
#DESCRIPTION:Own tests
own01 own01
own01_bad own01 "mmap(2) failed"
own02 own02.sh
own03\town03 -x
own04 own04.sh; echo "own04.c:3: TBROK: broken off"; exit 3
"""


@pytest.fixture
def ltp(target: Target, tmp_path: Path) -> Path:
    """A small tree that is laid out as an LTP is, with tests of our own that print as LTP's do."""
    programs, data = tmp_path / "testcases/bin", tmp_path / "testcases/data/own02.sh"
    for place in (programs, data, tmp_path / "runtest"):
        place.mkdir(parents=True)
    compiled(LTP_PROGRAM, programs / "own01", target.arch)
    script(programs, "own02.sh", LTP_SCRIPT)
    script(programs, "own_lib.sh", "")
    script(programs, "own04.sh", "true")
    (data / "table").write_text("1\n")
    (tmp_path / "runtest/own").write_text(LTP_CASES)
    return tmp_path


def test_cases_of_an_ltp_are_told_line_by_line(target: Target, ltp: Path) -> None:
    report = ltp / "report.json"
    words = ["--arch", target.arch, "--kernel", target.kernel, "--memory", str(target.memory)]
    assert main(["ltp", "own", "--ltp", str(ltp), "--json", str(report), *words]) == 1
    results = json.loads(report.read_text())["results"]
    assert [
        (each["name"].removeprefix("ltp own / "), each["outcome"], each["reason"].partition(" (the host was")[0])
        for each in results
    ] == [
        ("own01", "pass", ""),
        ("own01_bad", "pass", ""),
        ("own01_bad / own01.c:12", "fail", "mmap(2) failed: EINVAL (22)"),
        ("own02 / own02 1", "skip", "'gdb' not found"),
        ("own03", "skip", f"LTP in {ltp} has no program of 'own03 -x': it was not built"),
        ("own04 / own04.c:3", "fail", "TBROK: broken off"),
        ("own04", "fail", "ended with status 3 (TFAIL), which no line explains"),
    ]  # fmt: skip


def test_bad_requests_are_refused_before_anything_boots(
    target: Target, ltp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Arch.ARM64 if target.arch is Arch.X86_64 else Arch.X86_64
    for words, said in (
        (["own", "--ltp", str(ltp), "--arch", target.arch, "-k", "nothing"], "no test has 'nothing'"),
        (["mm", "--ltp", str(ltp), "--arch", target.arch], "has no 'mm'; it has own"),
        (["own", "--ltp", str(ltp / "runtest"), "--arch", target.arch], "is no LTP"),
        (["own", "--ltp", str(ltp), "--arch", other], f"is built for {target.arch}, the guest is {other}"),
    ):
        assert main(["ltp", *words]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
