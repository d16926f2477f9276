from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from hostwalk.deadline import Deadline
from hostwalk.errors import BuildInterruptedError, KernelBuildError
from hostwalk.kernels import making
from hostwalk.kernels.making import Maker
from hostwalk.kernels.toolchain import Toolchain
from hostwalk.target import Arch

COMPILER = """\
  CC      mm/gup.o
In file included from /src/linux/mm/gup.c:2:
/src/linux/mm/gup.c: In function 'gup_fast':
/src/linux/mm/gup.c:3041:9: error: 'flag' undeclared (first use in this function); did you mean 'flags'?
/src/linux/mm/gup.c:3050:2: error: expected ';'
make[3]: *** [/src/linux/scripts/Makefile.build:289: mm/gup.o] Error 1
make: *** [Makefile:248: __sub-make] Error 2
"""
LINKER = """\
  LD      .tmp_vmlinux1
x86_64-linux-gnu-ld: mm/gup.o: in function `x':
gup.c:(.text+0x3): undefined reference to `no_such_function'
make[2]: *** [scripts/Makefile.vmlinux:36: vmlinux] Error 1
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            COMPILER,
            "mm/gup.c:3041:9: error: 'flag' undeclared (first use in this function); did you mean 'flags'?",
        ),
        (LINKER, "gup.c:(.text+0x3): undefined reference to `no_such_function'"),
        (
            'ERROR: modpost: "x" [m.ko] undefined!\nmake: *** [x] Error 1',
            'ERROR: modpost: "x" [m.ko] undefined!',
        ),
        ("/bin/sh: 1: flex: not found\nmake: *** [x] Error 127\n", "/bin/sh: 1: flex: not found"),
        (
            "make: *** No rule to make target 'vmlinuz'.  Stop.",
            "make: *** No rule to make target 'vmlinuz'.  Stop.",
        ),
        (
            "/src/linux/mm/x.c:9:1: fatal error: asm/none.h: No such file or directory\n",
            "mm/x.c:9:1: fatal error: asm/none.h: No such file or directory",
        ),
        ("mm/Kconfig:12: syntax error\nmake: *** x", "mm/Kconfig:12: syntax error"),
        ("fine\n", ""),
    ],
)
def test_the_first_error_is_found_with_its_place(said: str, expected: str) -> None:
    assert making.first_error(said, [Path("/src/linux")]) == expected


def test_a_full_disk_is_named_before_what_follows_from_it() -> None:
    said = "fatal error: error writing to /x/gup.o: No space left on device\nmake: *** [x] Error 1\n"
    assert "No space left" in making.first_error(said)


def test_steps_are_what_kbuild_says_it_makes() -> None:
    said = [
        "  CC      mm/gup.o",
        "  CC [M]  lib/x.o",
        "  AR      mm/built-in.a",
        "make[1]: Entering",
        "  note: x",
    ]
    assert making.steps_in(said) == 3


def test_a_dry_run_plans_as_many_things_as_it_would_print() -> None:
    plan = "set -e; echo '  CC      mm/gup.o'; gcc -c\n\techo \"  AR      mm/built-in.a\"; ar\ntrue\n"
    assert making.planned(plan) == 2


def test_what_make_says_goes_to_the_log_as_it_comes_and_its_steps_are_told() -> None:
    code = "print('  CC      a.o'); print('  CC      b.o', end='')"
    log, steps = io.BytesIO(), []
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert making.follow(child.stdout, log, Deadline.after(30), lambda: steps.append(1))
    assert log.getvalue() == b"  CC      a.o\n  CC      b.o"
    assert len(steps) == 1


def test_a_make_that_says_nothing_is_not_waited_for_for_ever() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert not making.follow(child.stdout, io.BytesIO(), Deadline.after(0.2), lambda: None)
        child.kill()


def _maker(tmp_path: Path, makefile: str) -> Maker:
    for name in ("source", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "source/Makefile").write_text(makefile)
    compiler = Toolchain(Arch.X86_64, "", "cc", "cc 1")
    return Maker(
        tmp_path / "source", tmp_path / "out", tmp_path / "build.log", compiler, "Linux 7.3 does not build"
    )


def test_a_build_that_fails_says_what_where_and_names_the_log(tmp_path: Path) -> None:
    maker = _maker(tmp_path, 'all:\n\t@echo "$(CURDIR)/mm/gup.c:7:1: error: no good" >&2; exit 1\n')
    with pytest.raises(KernelBuildError) as caught:
        maker.run(["all"])
    assert caught.value.message == "Linux 7.3 does not build: mm/gup.c:7:1: error: no good"
    assert str(maker.log) in caught.value.remedy
    assert "no good" in maker.log.read_text()
    assert caught.value.exit_status == 125


def test_the_same_source_is_built_as_if_at_the_same_time_by_the_same_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KBUILD_BUILD_USER", "me")
    monkeypatch.setenv("KBUILD_VERBOSE", "1")
    maker = _maker(
        tmp_path, 'all:\n\t@echo "<$$KBUILD_BUILD_USER $$KBUILD_BUILD_VERSION $$KBUILD_VERBOSE>"\n'
    )
    maker.run(["all"])
    assert "<hostwalk 1 >" in maker.log.read_text()


def test_ccache_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = _maker(tmp_path, "")
    (tmp_path / "ccache").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert maker.variables["CC"] == "ccache cc"
    (tmp_path / "ccache").unlink()
    assert maker.variables["CC"] == "cc"


@pytest.mark.parametrize(
    "said",
    [
        "gcc: fatal error: Killed signal terminated program cc1",
        "collect2: fatal error: ld terminated with signal 9 [Killed]",
        "make[3]: *** [scripts/Makefile.build:289: mm/gup.o] Killed",
        "/bin/sh: line 1: 4711 Killed                  gcc -c mm/gup.c",
        "cc1: out of memory allocating 65536 bytes after a total of 1000 bytes",
    ],
)
def test_a_compiler_that_was_killed_says_nothing_of_the_source(tmp_path: Path, said: str) -> None:
    maker = _maker(tmp_path, f"all:\n\t@echo '{said}' >&2; exit 1\n")
    with pytest.raises(BuildInterruptedError) as caught:
        maker.run(["all"])
    assert said in caught.value.message
    assert caught.value.exit_status == 3


def test_a_compiler_that_crashes_may_do_so_for_the_source() -> None:
    said = (
        "mm/gup.c:7:1: internal compiler error: Segmentation fault\nKilled: an enum\nmake: *** [x] Error 1\n"
    )
    assert not making.interruption(said, 2)


def test_what_the_compiler_quotes_of_the_source_is_nothing_that_happened() -> None:
    quoted = ("Cannot allocate memory", "No space left on device")
    said = "mm/x.c:7:1: error: no\n" + "".join(f'    7 |   pr_err("{each}");\n' for each in quoted)
    assert not making.interruption(said, 2)
    assert making.first_error(said) == "mm/x.c:7:1: error: no"
    assert making.tail(said, 1) == said.splitlines()[-1]


def test_a_make_that_a_signal_ended_says_nothing_of_the_source(tmp_path: Path) -> None:
    with pytest.raises(BuildInterruptedError, match="signal 9"):
        _maker(tmp_path, "all:\n\t@kill -9 $$PPID\n").run(["all"])


def test_a_make_that_is_silent_says_nothing_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "SILENT_SECONDS", 0.2)
    with pytest.raises(BuildInterruptedError, match="said nothing"):
        _maker(tmp_path, "all:\n\t@sleep 60\n").run(["all"])


def test_a_full_disk_is_told_of_however_much_is_said_after_it(tmp_path: Path) -> None:
    full = "mm/gup.c:1: fatal error: error writing to gup.s: No space left on device"
    maker = _maker(tmp_path, f"all:\n\t@echo 'mm/x.c:1:1: error: no'; echo '{full}'; seq 100; exit 1\n")
    with pytest.raises(KernelBuildError, match="No space left") as caught:
        maker.run(["all"])
    assert caught.value.evidence.stderr.splitlines()[0] == full


def test_as_many_compilers_run_as_this_process_has_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {5})
    maker = _maker(tmp_path, "all:\n\t@true\n")
    maker.run(["all"])
    assert " -j1 all" in maker.log.read_text()
