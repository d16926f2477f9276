"""What makes a guest ready for a test: commands that it lacks, the configuration, modules, and the bound on memory."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostwalk.drivers import ModuleRefusedError
from hostwalk.errors import LoginError
from hostwalk.guest.failures import SyscallFailed
from hostwalk.kernels import modules
from hostwalk.machine.ssh import Finished
from hostwalk.suites import furnishing
from hostwalk.suites.expected import Known, Needs
from hostwalk.suites.kselftests import MANIFEST
from hostwalk.suites.libraries import is_kept


def test_commands_are_written_as_they_are(tmp_path: Path) -> None:
    text = "#!/bin/sh\necho \"it's $1\" '%s' \\n\n"
    script = furnishing.commands_script({"pgrep": text}).replace("/usr/local/bin", str(tmp_path))
    subprocess.run(["sh", "-ec", script], check=True, timeout=10)
    assert (tmp_path / "pgrep").read_text() == text
    assert (tmp_path / "pgrep").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "test_vmalloc: Summary: fix_size_alloc_test passed: 10 failed: 0 xfailed: 0 repeat: 10\n"
            "[ 1.2] test_vmalloc: Summary: vrealloc_test passed: 9 failed: 1 xfailed: 0 repeat: 10\n"
            "test_vmalloc: All test took worker0=7 cycles\n",
            "ok 1 fix_size_alloc_test\n"
            "not ok 2 vrealloc_test # passed: 9 failed: 1 xfailed: 0 repeat: 10\n1..2\n",
        ),
        ("", "not ok 1 test_vmalloc # the kernel log has nothing of it\n"),
    ],
    ids=["summaries", "nothing"],
)
def test_what_test_vmalloc_logs_becomes_lines_of_its_script(tmp_path: Path, log: str, said: str) -> None:
    for name, text in {
        "modprobe": Known.of(MANIFEST, "mm").commands["modprobe"].replace("/root", str(tmp_path)),
        "insmod": "#!/bin/sh\nexit 1\n", "dmesg": f"#!/bin/sh\nprintf %s {shlex.quote(log)}\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text.lstrip())
        (tmp_path / name).chmod(0o755)
    (tmp_path / "test_vmalloc.ko").touch()
    script = "modprobe test_vmalloc test_loop_count=1 >/dev/null 2>&1; echo $?"
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script], env=path, capture_output=True, text=True, check=True, timeout=10
    )
    assert done.stdout == f"{said}1\n"


def test_the_configuration_reads_as_the_kernel_s_own() -> None:
    config = {
        "CONFIG_MMU": "y", "CONFIG_ZRAM": "m", "CONFIG_LEVELS": "5", "CONFIG_BASE": "0x1000", "CONFIG_NAME": "-a b",
        "CONFIG_EMPTY": "", "CONFIG_LOW": "-1",
    }  # fmt: skip
    assert furnishing.config_text(SimpleNamespace(config=config)).splitlines() == [  # type: ignore[arg-type]
        "CONFIG_MMU=y", "CONFIG_ZRAM=m", "CONFIG_LEVELS=5", "CONFIG_BASE=0x1000", 'CONFIG_NAME="-a b"',
        'CONFIG_EMPTY=""', "CONFIG_LOW=-1",
    ]  # fmt: skip


def test_only_what_needs_all_memory_is_without_a_bound() -> None:
    assert furnishing.within(Needs(), ("./cow",)) == ("./cow",)
    command = furnishing.within(Needs(unbounded=True), ("./compaction_test", "-x"))
    assert command[:2] == ("sh", "-c")
    assert "memory.max" in command[2]
    assert command[-2:] == ("./compaction_test", "-x")


def test_modules_are_loaded_after_what_they_need_where_the_kernel_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[bytes, str]] = []
    for name in ("brd", "zram", "lzo"):
        (tmp_path / f"{name}.ko").write_bytes(b"\x7fELF" + name.encode())
    monkeypatch.setattr(modules, "depends", lambda _data, path: ("lzo",) if path.stem == "zram" else ())

    @contextmanager
    def spawn() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(load_module=lambda data, words: loaded.append((data[4:], words)))

    kernel = SimpleNamespace(modules=tmp_path)
    console = SimpleNamespace(printed=0)
    cell = SimpleNamespace(
        prepared=SimpleNamespace(kernel=kernel), agent=SimpleNamespace(spawn=spawn),
        machine=SimpleNamespace(console=console),
    )  # fmt: skip
    needs = Needs(modules=("zram num_devices=2", "test_hmm", "brd rd_nr=1 rd_size=8"))
    furnishing.load_modules(cell, needs)  # type: ignore[arg-type]
    assert loaded == [(b"lzo", ""), (b"zram", "num_devices=2"), (b"brd", "rd_nr=1 rd_size=8")]


def test_a_module_that_a_test_loads_itself_lies_beside_it(tmp_path: Path) -> None:
    put: list[tuple[str, bytes]] = []
    status = [0, 1]

    def run(argv: Sequence[str], *, deadline: object, stdin: bytes) -> Finished:
        put.append((argv[-1], stdin))
        return Finished(status.pop(0), b"", b"cat: write error: No space left on device\n")

    (tmp_path / "test_vmalloc.ko").write_bytes(b"\x7fELF...")
    cell = SimpleNamespace(
        prepared=SimpleNamespace(kernel=SimpleNamespace(modules=tmp_path)),
        machine=SimpleNamespace(ssh=lambda: SimpleNamespace(run=run)),
    )
    needs = Needs(carries=("test_vmalloc", "test_hmm"))
    furnishing.carry_modules(cell, needs)  # type: ignore[arg-type]
    assert put == [("cat >/root/test_vmalloc.ko", b"\x7fELF...")]
    with pytest.raises(LoginError, match="No space left on device"):
        furnishing.carry_modules(cell, needs)  # type: ignore[arg-type]


def test_a_module_that_the_kernel_refuses_is_told_in_the_kernel_s_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zram.ko").write_bytes(b"\x7fELF")
    monkeypatch.setattr(modules, "depends", lambda _data, _path: ())

    def refuse(data: bytes, words: str) -> str:
        raise SyscallFailed("init_module", "EINVAL")

    console = SimpleNamespace(
        printed=0, since=lambda mark: "[    3.2] zram: `many' invalid for parameter `num_devices'\n"
    )
    cell = SimpleNamespace(
        prepared=SimpleNamespace(kernel=SimpleNamespace(modules=tmp_path)),
        agent=SimpleNamespace(spawn=lambda: nullcontext(SimpleNamespace(load_module=refuse))),
        machine=SimpleNamespace(console=console),
    )
    with pytest.raises(ModuleRefusedError) as caught:
        furnishing.load_modules(cell, Needs(modules=("zram num_devices=many",)))  # type: ignore[arg-type]
    assert caught.value.message == (
        "zram.ko cannot be loaded: EINVAL: zram: `many' invalid for parameter `num_devices'"
    )


def test_headers_and_archives_of_a_package_are_kept() -> None:
    kept = ["usr/include/sys/capability.h", "usr/lib/aarch64-linux-gnu/libcap.a"]
    others = ["usr/share/man/man3/cap_init.3.gz", "usr/lib/aarch64-linux-gnu/libcap.so"]
    assert [path for path in (*kept, *others) if is_kept(path)] == kept
