"""Exported programs compile without a warning, and say what they can see."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hostwalk.errors import UsageError
from hostwalk.repro.export import MODULE, PROGRAM, export
from hostwalk.repro.script import Script, parse

HEAD = '''"""A toy. It's here "only" to */ compile."""
from hostwalk.repro import Failure, Pin, repro
@repro(Pin(arch="x86_64", kernel="debian:6.12", format="4level", release="6.12.1"), Failure({shows}))
def test_it(subject, witness):
'''
ASSERTION = '"assertion", "x", ("y",)'
BODIES = {
    "flags": """
    area = subject.apart(pages=5)
    subject.munmap(area[2])
    with subject.refuses("ENOMEM"):
        subject.mlock(area)
    vma = witness.vma(area[3:])
    assert "VM_LOCKED" not in vma.flags, "it is"
""",
    "counters": """
    before = witness.mm(subject)
    fd = subject.memfd(4)
    area = subject.mmap(pages=4, prot="r", shared=True, fd=fd, offset=subject.page_size).load()
    subject.madvise(area[1:], "DONTNEED")
    subject.mlockall("current", "future")
    after = witness.mm(subject)
    assert after.locked_vm == before.locked_vm + 4
""",
    "columns": """
    area = subject.mmap(pages=3).touch(7)
    subject.mprotect((area.address(1), 2 * subject.page_size), "none")
    before = witness.pages(area)
    subject.call("mremap", area.start, area.length, area.end - area.start, 1)
    after = witness.pages(area)
    assert after.pfns == before.pfns
""",
    "faults": """
    area = subject.mmap(pages=1, prot="r")
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area.store()
    with subject.faults("SIGSEGV"):
        subject.load(4096)
    seen = witness.pages(area)
    assert seen.present == 0
""",
    "offsets": """
    fd = subject.memfd(4)
    area = subject.mmap(pages=2, prot="r", shared=True, fd=fd, offset=2 * subject.page_size)
    vma = witness.vma(area)
    assert (vma.pgoff, vma.pgoff) == (2, 2)
""",
    "huge page": """
    area = subject.huge_page()
    area.touch()
    seen = witness.pages(area)
    assert seen.present == 1
""",
    "only outside": """
    area = subject.mmap(pages=2).touch()
    seen = witness.pages(area)
    assert seen.writable == 0
""",
    "module": """
    area = subject.mmap(pages=2).touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        assert pins.returned == area.pages
        held = witness.pages(area)
    other = subject.pin_user_pages_fast(area[0], nr_pages=1)
    assert other.errno is None
    other.unpin()
    assert held.refcounts == before.refcounts + 2
""",
}


PAYLOADS = """
    subject.syscall("mkdirat", -100 % (1 << 64), subject.scratch, 448, payload=b'/no/"such?\\x00')
    area = subject.mmap(pages=2).touch()
    before = witness.mm(subject)
    seen = witness.pages(area)
    after = witness.mm(subject)
    assert (after.locked_vm, seen.present) == (before.locked_vm, 1)
"""
FORKS = """
    area = subject.mmap(pages=2).touch()
    with subject.fork() as child:
        child.must(child.store(area.start, stride=area.page_size, count=2, byte=7))
        child.munmap((area.start, area.length))
        subject.mprotect(area, "r")
        with subject.faults("SIGSEGV", "SEGV_ACCERR"):
            area.store()
        seen = witness.pages(area)
        assert seen.present == 1
"""


def script(body: str, shows: str = ASSERTION) -> Script:
    return parse(HEAD.format(shows=shows) + body, Path("toy.py"))


def compiled(made: dict[str, str], place: Path) -> None:
    for name, text in made.items():
        (place / name).write_text(text)
    words = ["-Wall", "-Wextra", "-Werror", "-O2", "-o", "repro", PROGRAM]
    done = subprocess.run(["gcc", *words], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
@pytest.mark.parametrize("name", BODIES)
def test_programs_compile(name: str, tmp_path: Path) -> None:
    made = export(script(BODIES[name]))
    compiled(made.files, tmp_path)
    assert made.seen_inside == (name != "only outside")
    assert (MODULE in made.files) == (name == "module")


@pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
def test_a_program_runs_without_hostwalk(tmp_path: Path) -> None:
    compiled(export(script(BODIES["faults"])).files, tmp_path)
    done = subprocess.run([tmp_path / "repro"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "seen.present == 0: it holds\n")
    compiled(export(script(BODIES["faults"].replace("present == 0", "present == 1"))).files, tmp_path)
    assert subprocess.run([tmp_path / "repro"], capture_output=True, check=False).returncode == 1
    compiled(export(script(BODIES["offsets"])).files, tmp_path)
    assert subprocess.run([tmp_path / "repro"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (FORKS, 0, "it holds"),
        (FORKS.replace("present == 1", "present == 0"), 1, "it does not hold"),
        (FORKS.replace("child.munmap((area.start", "child.munmap((area.start + 1"), 3, ""),
        (f"{FORKS}    subject.munmap(area)\n", 0, ""),
        (FORKS.replace("seen.present == 1", "seen.exclusive == 1"), 2, "child: process "),
        (PAYLOADS, 0, "it holds"),
        (PAYLOADS.replace("locked_vm, 1)", "locked_vm, 0)"), 1, "it does not hold"),
        (PAYLOADS.replace("seen.present)", "seen.exclusive)"), 2, "only from outside"),
    ],
)
def test_parent_and_child_take_turns(tmp_path: Path, body: str, status: int, said: str) -> None:
    compiled(export(script(body)).files, tmp_path)
    words = [tmp_path / "repro"]
    done = subprocess.run(words, input="\n", capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr
    assert done.stdout.count(said) == 1 or not said


@pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
def test_what_only_a_host_sees_is_said(tmp_path: Path) -> None:
    compiled(export(script(BODIES["only outside"])).files, tmp_path)
    done = subprocess.run([tmp_path / "repro"], input="\n", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "only from outside can be seen" in done.stdout
    assert "area: 0x" in done.stdout


@pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
def test_a_refusal_that_does_not_come_is_the_failure(tmp_path: Path) -> None:
    block = "    with subject.refuses('ENOMEM'):\n        subject.mprotect(area, 'r')\n"
    body = f"\n    area = subject.mmap(pages=1)\n{block}"
    compiled(export(script(body, '"refuses", "ENOMEM", ("succeeded",)')).files, tmp_path)
    done = subprocess.run([tmp_path / "repro"], capture_output=True, text=True, check=False)
    assert (done.returncode, "succeeded" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("kernel", "page_format", "pages"),
    [
        ("debian:6.12", "48bit", 512),
        ("debian:6.12-arm64-16k", "48bit", 2048),
        ("source:v6.12", "16k-47bit", 2048),
        ("source:v6.12", "64k-48bit", 8192),
    ],
)
def test_a_huge_page_has_the_pages_that_the_format_gives_it(
    kernel: str, page_format: str, pages: int
) -> None:
    pin = f'Pin(arch="arm64", kernel="{kernel}", format="{page_format}"'
    head = HEAD.replace('Pin(arch="x86_64", kernel="debian:6.12", format="4level"', pin)
    body = "\n    area = subject.huge_page()\n    subject.munmap(area)\n"
    made = export(parse(head.format(shows=ASSERTION) + body, Path("toy.py"))).files[PROGRAM]
    assert f"area = huge_page({pages});" in made
    assert f"area, {pages} * page" in made


def test_the_module_makes_just_the_calls() -> None:
    text = export(script(BODIES["module"])).files[MODULE]
    assert "in.ret = get_user_pages(in.start, in.nr, FOLL_WRITE, held[call]);" in text
    assert "in.ret = pin_user_pages_fast(in.start, in.nr, 0, held[call]);" in text
    assert "release(1, true);" in text


@pytest.mark.parametrize(
    "body",
    [
        "\n    pages = subject.alloc_pages('order3')\n",
        "\n    pid = subject.mincore(None)\n",
        "\n    with subject.fork(pidfd=1) as child:\n        pass\n",
        "\n    for n in range(3):\n        subject.mmap()\n",
        "\n    area = subject.mmap(aligned=8192)\n",
    ],
)
def test_a_step_without_a_counterpart_is_named(body: str) -> None:
    with pytest.raises(UsageError, match=r"toy\.py, line 6: this step has no counterpart in C"):
        export(script(body))
