"""What exported programs do of insertions, threads and settings, and how those end that show no assertion."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_repro_export import ASSERTION, compiled, script

from hostwalk.errors import UsageError
from hostwalk.repro.ctext import snippet, taken
from hostwalk.repro.export import HEADER, MAKEFILE, MODULE, PROGRAM, export

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
INSERTS = {
    "vm_insert_page": ("nr=1", "return vm_insert_page(vma, addr, pages[0]);"),
    "vm_insert_pages": ("first=1", "vm_insert_pages(vma, addr, pages + 1, &num);"),
    "vm_map_pages": ("pgoff=2, map_pages=2", "return vm_map_pages(vma, pages, 4);"),
    "vm_map_pages_zero": ("first=2", "return vm_map_pages_zero(vma, pages + 2, 2);"),
    "remap_pfn_range": (
        'pgprot="readonly"',
        "return remap_pfn_range(vma, addr, page_to_pfn(pages[0]),\n\t\t\t       4 * PAGE_SIZE, "
        "vm_get_page_prot(vma->vm_flags & ~VM_WRITE));",
    ),
    "vm_iomap_memory": (
        "offset=512",
        "return vm_iomap_memory(vma, page_to_phys(pages[0]) + 512, 4 * PAGE_SIZE);",
    ),
    "vmf_insert_pfn": (
        'nr=1, when="fault", pfnmap=True',
        "return vmf_insert_pfn(vma, addr, page_to_pfn(pages[0]));",
    ),
    "vmf_insert_pfn_prot": (
        'when="fault", pfnmap=True, pgprot="noncached"',
        "fault = vmf_insert_pfn_prot(vma, addr + i * PAGE_SIZE, page_to_pfn(pages[i]),\n\t\t\t\t   "
        "pgprot_noncached(vma->vm_page_prot));",
    ),
    "vmf_insert_mixed": (
        'first=3, when="fault", mixedmap=True',
        "return insert_mixed(vma, addr, page_to_pfn(pages[3]));",
    ),
}
KINDS = {
    "'order0', nr=2": ("alloc_page(GFP_KERNEL | __GFP_ZERO)", "put_page(pages[i]);"),
    "'zero', nr=2": ("pages[i] = ZERO_PAGE(0);", ""),
    "'slab'": ("virt_to_page(object)", "kfree(page_address(pages[0]));"),
    "'compound', order=3": (
        "alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_COMP, 3)",
        "__free_pages(pages[0], 3);",
    ),
    "'split', order=1": ("split_page(page, 1);", "put_page(pages[i]);"),
    "'unsplit', order=1": ("alloc_pages(GFP_KERNEL | __GFP_ZERO, 1)", "__free_pages(pages[0], 1);"),
    "'anon', addr=area.start": ("get_user_pages_fast(addr, 1, FOLL_WRITE, pages)", "put_page(pages[i]);"),
}
THREADS = """
    area = subject.mmap(pages=2).touch()
    with subject.thread() as other:
        other.mprotect(area, "r")
        with other.faults("SIGSEGV", "SEGV_ACCERR"):
            other.store(area.start)
        subject.mprotect(area[0], "rw")
        other.must(other.store(area.start))
    seen = witness.pages(area)
    assert seen.present == 1
"""
SETTINGS = """
    with subject.sysctl("vm/nr_hugepages", 2) as pool:
        assert pool == 2
        with subject.sysctl("../../sys/kernel/mm/ksm/run", pool + 1):
            subject.mmap(pages=1)
    with subject.file_system("ramfs", 4096) as where:
        fd = subject.open(where + "/file", "O_RDWR|O_CREAT")
        subject.write(fd, b"x")
    fd = subject.open("/sys/kernel/mm/ksm/run", "O_WRONLY")
    subject.write(fd, b"1")
"""


def inserting(call: str, options: str, rest: str = "") -> str:
    made = f'    made = subject.insert("{call}", pages, {options})\n'
    return f'\n    pages = subject.alloc_pages("split", order=2)\n{made}{rest}'


def module_of(body: str) -> str:
    return export(script(body)).files[MODULE]


@pytest.mark.parametrize("call", INSERTS)
def test_the_module_makes_the_call_as_the_script_says_it(call: str) -> None:
    options, expected = INSERTS[call]
    text = module_of(inserting(call, options))
    assert expected in text
    made = re.findall(
        r"\b(vm_insert_pages?|vm_map_pages\w*|vm_iomap_memory|remap_pfn_range|vmf_insert_\w+)\(", text
    )
    assert set(made) == {call}
    assert ("insert_0_ops" in text) == ("fault" in options)
    assert ("vm_flags_set(vma, VM_PFNMAP);" in text) == ("pfnmap" in options)


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_allocated_and_given_back_by_their_kind(kind: str) -> None:
    body = f"\n    area = subject.mmap().touch()\n    pages = subject.alloc_pages({kind})\n"
    text = module_of(body)
    allocated, freed = KINDS[kind]
    assert allocated in text
    assert freed in text.split("static void repro_free_pages(void)")[1].split("}\n")[0]
    release = text.split("static int repro_release")[1]
    assert "repro_free_pages();" in release.split("}")[0]


@needs_gcc
@pytest.mark.parametrize("call", ["vm_insert_page", "remap_pfn_range", "vmf_insert_mixed"])
def test_programs_that_insert_compile(call: str, tmp_path: Path) -> None:
    rest = """    assert (made.errno, made.num) == (None, 0)
    seen = witness.pages(made.area)
    before = witness.frames(pages.pfns)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        made.area.load()
    result = subject.insert_result()
    assert seen.pfns[:1] != pages.pfns[1:2]
    assert seen.pfns == (pages.pfns[0], -1)
    after = witness.frames(pages.pfns)
    assert (after.refcounts, result.runs) == (before.refcounts, 1)
"""
    made = export(script(inserting(call, INSERTS[call][0].replace("nr=1, ", ""), rest)))
    assert made.seen_inside
    compiled(made.files, tmp_path)
    assert "result.num = " in made.files[MODULE] or call.startswith(("vm_map", "vm_iomap", "remap"))


def test_an_insertion_into_a_mapping_that_is_there_gets_no_mmap_of_its_own() -> None:
    rest = '    other = subject.insert("remap_pfn_range", pages, when="now", at=made.area[1:])\n'
    files = export(script(inserting("vm_insert_page", "keep=True, shared=False", rest))).files
    assert "case 0:\n\t\treport(insert_0(vma));\n\t\treturn 0;" in files[MODULE]
    assert "case REPRO_NOW(1):\n\t\treturn insert_now(file, arg, insert_1);" in files[MODULE]
    assert "insert_now(1, made.area + 1 * page)" in files[PROGRAM]
    assert "insert(0, NULL, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0)" in files[PROGRAM]


@needs_gcc
def test_a_mapping_of_the_modules_file_may_come_first(tmp_path: Path) -> None:
    rest = """    area = subject.mmap(4, "rw", shared=True, fd=subject.exerciser)
    made = subject.insert("vm_insert_page", pages, when="now", at=area)
    seen = witness.pages(area)
    assert seen.pfns == range(pages.pfns[0], pages.pfns[0] + 4)
    assert seen.pfns == (pages.pfns[0], *pages.pfns[1:3], -1)
"""
    files = export(script(f'\n    pages = subject.alloc_pages("split", order=2)\n{rest}')).files
    compiled(files, tmp_path)
    assert "MAP_SHARED, device(), 0);" in files[PROGRAM]
    assert (
        "seen_pfns[i] == ((long long[]){ pages_pfns[0], pages_pfns[1], pages_pfns[2], -1 })[i]"
        in files[PROGRAM]
    )
    assert "vma->vm_ops = &repro_vm_ops;\n\treturn 0;" in files[MODULE]
    assert "armed" not in files[MODULE].replace("the armed call", "")


def test_a_part_of_a_part_is_where_it_is() -> None:
    rest = "    seen = witness.pages(made.area)\n    assert seen.pfns[1:][1:] == pages.pfns[1:][:2]\n"
    rest += "    assert seen.pfns[1:][2] == pages.pfns[3]\n"
    text = export(script(inserting("vm_insert_page", "nr=4", rest))).files[PROGRAM]
    assert "seen_pfns[i + 2] == pages_pfns[i + 1]" in text
    assert "seen_pfns[3] == pages_pfns[3]" in text


def test_only_mappings_without_pages_are_looked_up_by_the_module() -> None:
    rest = "    seen = witness.pages(made.area)\n    assert seen.pfns == pages.pfns\n"
    plain = export(script(inserting("vm_insert_page", "nr=4", rest))).files
    remapped = export(script(inserting("remap_pfn_range", "nr=4", rest))).files
    assert "follow_pfn" not in plain[MODULE]
    assert "mapped_pfn" not in plain[PROGRAM]
    assert "follow_pfnmap_start" in remapped[MODULE]
    assert "seen_pfns[i] = mapped_pfn(made.area + i * page);" in remapped[PROGRAM]


def test_an_exported_module_has_only_what_is_asked_of_it() -> None:
    files = export(script(inserting("vm_insert_page", "nr=1"))).files
    for word in ("repro_pages", "REPRO_NOW", "REPRO_PFN", "REPRO_COUNT", "REPRO_FREE", "REPRO_CALL"):
        assert word not in files[HEADER] + files[MODULE]


def test_what_was_asserted_of_gup_and_of_insertions_is_of_one_module() -> None:
    rest = (
        "    pins = subject.pin_user_pages_fast(made.area, write=True)\n    assert pins.pfns == pages.pfns\n"
    )
    text = module_of(inserting("vm_insert_page", "nr=4", rest))
    assert "long ret = insert_ioctl(file, cmd, arg);" in text
    assert "release(0, true);\n\trepro_free_pages();" in text


@needs_gcc
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (THREADS, 0),
        (THREADS.replace("present == 1", "present == 0"), 1),
        (THREADS.replace("area[0]", "area[1]"), -11),
        (THREADS.replace('mprotect(area, "r")', "munmap((area.start + 1, 1))"), 3),
        (THREADS.replace('other.mprotect(area, "r")', 'other.mprotect(area, "rw")'), 3),
        (THREADS.replace("seen.present", "seen.exclusive"), 2),
        (THREADS.replace("witness.pages(area)", "witness.pages(area, of=other)"), 2),
    ],
)
def test_a_thread_does_its_steps_in_its_turn(tmp_path: Path, body: str, status: int) -> None:
    files = export(script(body)).files
    compiled(files, tmp_path)
    assert "-static -pthread" in files[MAKEFILE]
    words = [tmp_path / "repro"]
    done = subprocess.run(words, input="\n", capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == status, done.stdout + done.stderr


@needs_gcc
def test_threads_are_many_and_share_what_they_know(tmp_path: Path) -> None:
    body = """
    one = subject.thread()
    two = subject.thread()
    fd = one.memfd(2)
    area = two.mmap(pages=2, shared=True, fd=fd).touch()
    one.mprotect(area[0], "none")
    with two.faults("SIGSEGV"):
        two.load(area.start)
    seen = witness.pages(area[1])
    assert seen.present == 1
"""
    compiled(export(script(body)).files, tmp_path)
    done = subprocess.run([tmp_path / "repro"], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (0, "seen.present == 1: it holds\n")


def test_settings_are_put_back_where_their_block_ends() -> None:
    lines = export(script(SETTINGS)).files[PROGRAM].split("int main(void)")[1]
    wanted = [
        'set("/proc/sys/vm/nr_hugepages", "2");', 'pool = number_in("/proc/sys/vm/nr_hugepages");',
        'set("/sys/kernel/mm/ksm/run", value);', "put_back();", "put_back();",
        'mount_empty("ramfs", "/tmp/repro-ramfs-1", 4096);', 'open("/tmp/repro-ramfs-1/file"', "unmount();",
        'keep("/sys/kernel/mm/ksm/run");', 'open("/sys/kernel/mm/ksm/run"',
    ]  # fmt: skip
    places = [lines.index(line) for line in wanted if line != "put_back();"]
    assert places == sorted(places)
    assert lines.count("put_back();") == 2
    assert lines.index("map(NULL") < lines.index("put_back();") < lines.index("mount_empty")


@needs_gcc
@pytest.mark.parametrize(
    ("held", "set_to", "kept"),
    [("17\n", "3", "17\n"), ("always [madvise] never\n", "never", "madvise")],
)
def test_what_was_in_a_file_is_put_back_however_the_program_ends(
    tmp_path: Path, held: str, set_to: str, kept: str
) -> None:
    compiled(export(script(SETTINGS)).files, tmp_path)
    path = tmp_path / "setting"
    program = (tmp_path / PROGRAM).read_text().split("int main(void)")[0]
    steps = f'set("{path}", "{set_to}");\n\tif (number_in("{path}") == 3)\n\t\texit(3);\n\treturn 1;'
    main = f"int main(void)\n{{\n\t{steps}\n}}\n"
    used = ("mount_empty", "must", "map")
    unused = "".join(f"__attribute__((unused)) static void *unused_{name} = {name};\n" for name in used)
    compiled({PROGRAM: program + unused + main}, tmp_path)
    path.write_text(held)
    done = subprocess.run([tmp_path / "repro"], check=False, timeout=20)
    assert done.returncode == (3 if set_to == "3" else 1)
    assert path.read_text().startswith(kept)


@needs_gcc
@pytest.mark.parametrize(
    ("shows", "step", "status"),
    [
        ('"refused", "mmap", ("EINVAL",)', "subject.mmap(pages=0)", 1),
        ('"refused", "mmap", ("EPERM",)', "subject.mmap(pages=0).touch()", 3),
        ('"refused", "mmap", ("EINVAL",)', "subject.mmap(pages=1)", 0),
        ('"refused", "fork", ("ENOMEM",)', "subject.fork()", 0),
        ('"refused", "mremap", ("EINVAL",)', "subject.mremap(area, 0)", 1),
        ('"faulted", "store", ("SIGSEGV (SEGV_ACCERR) at …",)', "area.store()", 1),
        ('"faulted", "store", ("SIGBUS (BUS_ADRERR) at …",)', "area.store()", 3),
        ('"faulted", "load", ("SIGSEGV (SEGV_ACCERR) at …",)', "area.load()", 0),
    ],
)
def test_a_step_that_had_to_succeed_is_the_failure(
    tmp_path: Path, shows: str, step: str, status: int
) -> None:
    compiled(
        export(script(f'\n    area = subject.mmap(pages=1, prot="r")\n    {step}\n', shows)).files, tmp_path
    )
    done = subprocess.run([tmp_path / "repro"], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == status, done.stdout


@needs_gcc
@pytest.mark.parametrize(
    ("first", "second", "status"), [("EINVAL", "EPERM", 0), ("EPERM", "EINVAL", 0), ("EPERM", "EIO", 3)]
)
def test_a_step_may_be_refused_in_one_of_two_ways(
    tmp_path: Path, first: str, second: str, status: int
) -> None:
    block = f'    with subject.refuses("{first}", "{second}"):\n        subject.mmap(pages=0)\n'
    rest = "    seen = witness.pages(area)\n    assert seen.present == 0\n"
    compiled(export(script(f"\n    area = subject.mmap()\n{block}{rest}")).files, tmp_path)
    done = subprocess.run([tmp_path / "repro"], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == status, done.stdout


def test_a_call_without_room_for_pages_gives_none_back() -> None:
    text = module_of("\n    pins = subject.pin_user_pages_unlocked(4096, no_pages=True)\n    pins.unpin()\n")
    assert "pin_user_pages_unlocked(in.start, in.nr, 0, NULL);" in text
    assert "held_nr[call] = clamp_t(long, in.ret, 0, in.filled);" in text


@needs_gcc
def test_names_that_mean_something_in_c_are_others_there(tmp_path: Path) -> None:
    assert {"map", "page", "read", "int", "load", "put_back"} <= taken()
    body = (
        "\n    map = subject.mmap(pages=1).touch()\n    int = witness.pages(map)\n    vm = witness.vma(map)\n"
    )
    body += "    assert 'VM_READ' in vm.flags\n    assert int.present == 1\n"
    compiled(export(script(body)).files, tmp_path)
    done = subprocess.run([tmp_path / "repro"], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (
        0,
        "'VM_READ' in vm.flags: it holds\nint.present == 1: it holds\n",
    )


@pytest.mark.parametrize("name", sorted(Path(snippet.__code__.co_filename).parent.joinpath("c").iterdir()))
def test_pieces_end_with_one_line_end(name: Path) -> None:
    text = name.read_text()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (inserting("vm_insert_pfn_unknown", "nr=1"), 7),
        (inserting("vmf_insert_pfn", "pfnmap=True"), 7),
        (inserting("vm_insert_page", "nr=1, offset=made"), 7),
        (inserting("vm_insert_page", 'when="now"'), 7),
        (inserting("vm_insert_page", 'mixedmap=True, when="now", at=made'), 7),
        ("\n    pages = subject.alloc_pages('slab', nr=2)\n", 6),
        ("\n    made = subject.insert('vm_insert_page', other)\n", 6),
        ("\n    with subject.thread() as one:\n        with subject.fork() as child:\n            pass\n", 7),
        ("\n    with subject.fork() as child:\n        with child.thread() as one:\n            pass\n", 7),
        ("\n    one = subject.thread()\n    one.start_execute(4096)\n", 7),
        ("\n    with subject.thread() as one:\n        one.alloc_pages()\n", 7),
        (
            "\n    area = subject.mmap()\n    with subject.fork() as child:\n        child.pin_user_pages(area)\n",
            8,
        ),
    ],
)
def test_what_has_no_counterpart_is_named(body: str, line: int) -> None:
    with pytest.raises(UsageError, match=rf"toy\.py, line {line}: this step has no counterpart in C"):
        export(script(body, ASSERTION))
