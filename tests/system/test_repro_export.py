"""Exported programs in the guest: each kind of step that a C program or its module does, seen by the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from repro_runs import compiled, execute

from hostwalk.cache import Cache
from hostwalk.image import build_module
from hostwalk.options import CheckOptions
from hostwalk.repro import Failure, Pin
from hostwalk.repro.export import MODULE, export
from hostwalk.repro.run import Stage, stage_for
from hostwalk.repro.script import Script, load, parse

EXAMPLES = Path(__file__).parents[2] / "examples" / "repros"
PIN = Pin(arch="x86_64", kernel="debian:6.12", format="4level", release="6.12", accel="tcg")
HEAD = f'"""A toy."""\nfrom hostwalk.repro import Failure, Pin, repro\n@repro({PIN!r}, {Failure("assertion", "x")!r})\n'
INSERTED = """
    pages = subject.alloc_pages("order0", nr=2)
    before = witness.frames(pages.pfns)
    made = subject.insert("vmf_insert_pfn", pages, map_pages=3, when="fault", pfnmap=True)
    made.area[0].store(7)
    seen = witness.pages(made.area)
    after = witness.frames(pages.pfns)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        made.area[2].load()
    refused = subject.insert("vm_map_pages", pages, map_pages=4)
    assert (refused.mapping, refused.errno) == (None, "ENXIO")
    assert after.refcounts == before.refcounts
    assert seen.pfns == (pages.pfns[0], pages.pfns[1], -1)
"""
THREAD = """
    area = subject.mmap(pages=2).touch()
    with subject.thread() as thread:
        thread.mprotect(area, "r")
        with thread.faults("SIGSEGV", "SEGV_ACCERR"):
            thread.store(area.start)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area[1].store()
    seen = witness.pages(area)
    assert seen.present == 0
"""
SYSCTL = """
    with subject.sysctl("vm/nr_hugepages", 2) as pool:
        assert pool == 2
        area = subject.mmap(pages=512, hugetlb=True).touch()
        vma = witness.vma(area)
        assert "VM_HUGETLB" not in vma.flags
"""


def toy(body: str) -> Script:
    return parse(f"{HEAD}def test_it(subject, witness):{body}", Path("toy.py"))


@pytest.fixture(scope="module")
def stage(warm_cache: Path) -> Iterator[Stage]:
    with stage_for(PIN.target, CheckOptions()) as prepared:
        yield prepared


def ends(
    stage: Stage, script: Script, place: Path, warm_cache: Path, after: str = ""
) -> tuple[int, str, str]:
    """Export a script, build it, and run it; return its status, what it wrote, and what is then in a file."""
    made = export(script)
    made.save(place)
    program = compiled(place)
    cell = stage.fresh()
    with cell.agent.spawn() as loader:
        if MODULE in made.files:
            loader.load_module(build_module(cell.prepared.kernel, place, Cache(warm_cache)))
        ended = execute(cell.agent, program)
        return ended.status, ended.output, loader.read_file(after).decode() if after else ""


@pytest.mark.parametrize("name", ["insert_refcount_2", "remap_refused_1"])
def test_a_departure_of_an_insertion_is_seen_by_the_program(
    name: str, stage: Stage, tmp_path: Path, warm_cache: Path
) -> None:
    status, output, _ = ends(stage, load(EXAMPLES / f"{name}.py"), tmp_path, warm_cache)
    assert (status, output.splitlines()[-1].endswith(": it does not hold")) == (1, True), output


def test_a_fault_handler_of_the_module_maps_pages(stage: Stage, tmp_path: Path, warm_cache: Path) -> None:
    status, output, _ = ends(stage, toy(INSERTED), tmp_path, warm_cache)
    assert (status, output.count(": it holds\n")) == (0, 3), output


def test_a_thread_does_its_steps_in_the_guest(stage: Stage, tmp_path: Path, warm_cache: Path) -> None:
    status, output, _ = ends(stage, toy(THREAD), tmp_path, warm_cache)
    assert (status, output) == (1, "seen.present == 0: it does not hold\n")


def test_a_sysctl_is_put_back(stage: Stage, tmp_path: Path, warm_cache: Path) -> None:
    status, output, left = ends(stage, toy(SYSCTL), tmp_path, warm_cache, "/proc/sys/vm/nr_hugepages")
    assert (status, "VM_HUGETLB' not in vma.flags: it does not hold" in output) == (1, True), output
    assert left == "0\n"
