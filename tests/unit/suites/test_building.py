"""A tree of links that make may write into, and why programs did not build."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from hostwalk import process
from hostwalk.deadline import Deadline
from hostwalk.kernels import toolchain
from hostwalk.suites.building import LINKED, failures_in, keep_scripts, shadow
from hostwalk.target import Arch

SAID = """\
  CHK      [config] local_config.mk
  CC       cow
  CC       migration
migration.c:12:10: fatal error: numa.h: No such file or directory
   12 | #include <numa.h>
      |          ^~~~~~~~
compilation terminated.
make: *** [../lib.mk:224: /tmp/files/migration] Error 1
  CC       rmap
/usr/bin/ld: rmap.c:(.text+0x1): undefined reference to `numa_available'
make: *** [../lib.mk:224: /tmp/files/rmap] Error 1
make: Target 'all' not remade because of errors.
"""


def test_each_program_that_is_not_there_has_the_compiler_s_reason(tmp_path: Path) -> None:
    (tmp_path / "cow").touch()
    found = failures_in(SAID, ["cow", "migration", "rmap", "odd"], tmp_path, tmp_path)
    assert found["migration"] == "migration.c:12:10: fatal error: numa.h: No such file or directory"
    assert "undefined reference to `numa_available'" in found["rmap"]
    assert found["odd"] == "make did not get to it, and does not say why"
    assert "cow" not in found


def test_make_writes_beside_the_source_and_never_into_it(tmp_path: Path) -> None:
    source, collection = tmp_path / "linux", tmp_path / "linux/tools/testing/selftests/mm"
    collection.mkdir(parents=True)
    (source / "Makefile").write_text("top")
    (collection.parent / "lib.mk").write_text("lib")
    (collection / "cow.c").write_text("cow")
    work = shadow(source, tmp_path / "copy", "mm")
    (work / "local_config.mk").write_text("made")
    assert (work / "cow.c").read_text() == "cow"
    assert (work / "../lib.mk").read_text() == "lib"
    assert (tmp_path / "copy/Makefile").is_symlink()
    assert sorted(path.name for path in collection.iterdir()) == ["cow.c"]


def test_scripts_lie_beside_the_programs(tmp_path: Path) -> None:
    work, files = tmp_path / "work", tmp_path / "files"
    work.mkdir()
    files.mkdir()
    (work / "test_hmm.sh").write_text("#!/bin/sh\n")
    keep_scripts(work, files)
    assert (files / "test_hmm.sh").stat().st_mode & 0o111


@pytest.mark.parametrize("arch", list(Arch))
def test_a_constant_is_on_no_page_with_code(arch: Arch, tmp_path: Path) -> None:
    if not any(map(shutil.which, (f"{arch.gnu}-gcc", *(["gcc"] if arch is toolchain.host_arch() else [])))):
        pytest.skip(f"no compiler for {arch}")
    source, program = tmp_path / "test.c", tmp_path / "test"
    source.write_text('const char word[] = "READONLY";\nvoid _start(void) { }\n')
    argv = [toolchain.find(arch).cc, *LINKED.split(), "-nostdlib", "-o", program, source]
    process.run(argv, deadline=Deadline.after(60))
    with program.open("rb") as stream:
        elf = ELFFile(stream)
        section = elf.get_section_by_name(".rodata")
        holding = [each for each in elf.iter_segments("PT_LOAD") if each.section_in_segment(section)]
        assert [each["p_flags"] & 1 for each in holding] == [0]
