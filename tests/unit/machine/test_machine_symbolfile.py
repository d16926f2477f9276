"""Symbols as an ELF file, read back by a reader that we did not write."""

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from hostwalk.machine.symbolfile import symbol_file
from hostwalk.target import Arch

SYMBOLS = {"fixed_percpu_data": 0, "_text": 0xFFFF_8000_8000_0000, "init_task": 0xFFFF_8000_81EA_94C0}


@pytest.mark.parametrize(("arch", "machine"), [(Arch.X86_64, "EM_X86_64"), (Arch.ARM64, "EM_AARCH64")])
def test_symbols_come_back_without_those_of_user_space(arch: Arch, machine: str) -> None:
    file = ELFFile(io.BytesIO(symbol_file(arch, SYMBOLS)))
    table = file.get_section_by_name(".symtab")
    found = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols() if symbol.name}
    assert found == {name: address for name, address in SYMBOLS.items() if address}
    assert file["e_machine"] == machine
    text = file.get_section_by_name(".text")
    assert text["sh_addr"] + text["sh_size"] > max(found.values())


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_knows_them(tmp_path: Path) -> None:
    (tmp_path / "symbols").write_bytes(symbol_file(Arch.X86_64, SYMBOLS))
    argv = ["gdb", "-nx", "-batch", "-ex", "info symbol 0xffff800081ea94c4", str(tmp_path / "symbols")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert "init_task + 4" in done.stdout
