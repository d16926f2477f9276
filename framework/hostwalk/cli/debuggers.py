"""gdb and drgn on a machine of ours."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hostwalk import doctor, process
from hostwalk.cell import Cell
from hostwalk.cli import prompt
from hostwalk.cli.question import asker
from hostwalk.errors import MissingToolError, UsageError
from hostwalk.kernels import Kernel
from hostwalk.kernels.debugfile import require_debug_file
from hostwalk.machine.accel import host_arch
from hostwalk.machine.qmp import Qmp
from hostwalk.machine.symbolfile import symbol_file
from hostwalk.target import Arch

_LINE = "debugger"
LONGEST_SYMBOL = 1 << 20
"""In bytes: beyond that an address is no part of what the symbol below it names."""
_GDB_NAMES = {Arch.X86_64: "i386:x86-64", Arch.ARM64: "aarch64"}


def found(kind: str | None, arch: str) -> str:
    """Return the debugger's program, "" where it is a library or none is asked for.

    Raises MissingToolError, and UsageError for a drgn that is too old, before anything boots.
    """
    if kind == "drgn":
        _require_drgn()
    return _gdb(Arch.parse(arch)) if kind == "gdb" else ""


def _require_drgn() -> None:
    pip = [sys.executable, "-m", "pip", "install"]
    if importlib.util.find_spec("drgn") is None:
        raise MissingToolError("drgn is not installed for this Python", remedy=process.quote([*pip, "drgn"]))
    library = importlib.import_module("drgn")
    if not hasattr(library.Program, "set_linux_kernel_custom"):
        raise UsageError(
            f"drgn {library.__version__} cannot be attached",
            remedy=process.quote([*pip, "--upgrade", "drgn"]),
        )


def require_vmlinux(kind: str | None, path: Path | None, kernel: Kernel) -> None:
    """Raise UsageError for a file that is not the vmlinux of a kernel, has nothing for drgn, or that nobody reads."""
    if path is None:
        return
    if kind not in ("gdb", "drgn"):
        raise UsageError(
            "--vmlinux is read by gdb and drgn alone", remedy="give --gdb or --drgn, or leave it out"
        )
    require_debug_file(path, kernel, types=kind == "drgn")


def _gdb(arch: Arch) -> str:
    """Return a gdb that knows an architecture; gdb-multiarch is offered where there is none."""
    there = shutil.which("gdb-multiarch") or (shutil.which("gdb") if host_arch() is arch else None)
    if there is None:
        doctor.ensure(doctor.DEBUGGING, ask=asker())
    return there or process.find_tool("gdb-multiarch", "gdb-multiarch")


def gdb(cell: Cell, tool: str, vmlinux: Path | None) -> int:
    """Run gdb on QEMU's gdbstub, the guest held still; return its exit status."""
    with tempfile.TemporaryDirectory(prefix="hostwalk-gdb-") as directory:
        place = Path(directory)
        symbols = vmlinux or _debug_file(cell) or _written(cell, place / "symbols")
        serve_gdb(cell.machine.qmp, place / "gdb")
        words = (
            "set confirm off", f"set architecture {_GDB_NAMES[cell.target.arch]}", f"file {symbols}",
            f"target remote {place}/gdb",
        )  # fmt: skip
        argv = [tool, "-q", *(word for each in words for word in ("-ex", each))]
        return _to_the_end(argv)


def serve_gdb(qmp: Qmp, path: Path) -> None:
    """Have QEMU serve its gdbstub on a Unix socket, whose directory is to be ours alone."""
    address = {"type": "unix", "data": {"path": str(path)}}
    backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
    qmp.execute("chardev-add", {"id": _LINE, "backend": backend})
    qmp.hmp(f"gdbserver chardev:{_LINE}")


def _to_the_end(argv: list[str]) -> int:
    """Run a program on our terminal; its own Ctrl-C does not end us."""
    running = process.spawn(argv, stdin=None, stdout=None, stderr=None, session=False)
    while True:
        try:
            return running.wait()
        except KeyboardInterrupt:
            continue


def _debug_file(cell: Cell) -> Path | None:
    """Return the vmlinux of a tree in which the kernel was built."""
    spec = Path(cell.prepared.kernel.spec)
    return spec / "vmlinux" if (spec / "vmlinux").is_file() else None


def _written(cell: Cell, path: Path) -> Path:
    path.write_bytes(symbol_file(cell.target.arch, cell.prepared.kernel.symbols))
    return path


def drgn(cell: Cell, vmlinux: Path | None, given: dict[str, Any] | None = None) -> int:
    """Give drgn's prompt on the guest's memory, with the names of the Python prompt or others."""
    library = importlib.import_module("drgn")
    command_line = importlib.import_module("drgn.cli")
    program = attached(cell, library)
    debug = vmlinux or _debug_file(cell)
    if debug is not None:
        program.load_debug_info([str(debug)])
    names = given or prompt.names_of(cell)
    sys.stderr.write(f"{prompt.banner(cell, names)}\n")
    if debug is None:
        sys.stderr.write("no debug information: symbols and memory only; give --vmlinux FILE\n")
    command_line.run_interactive(program, globals_func=lambda found: {**found, **names})
    return 0


def attached(cell: Cell, library: Any) -> Any:
    """Return a drgn program that reads the machine's memory; ``library`` is drgn's module."""
    arch = {Arch.X86_64: library.Architecture.X86_64, Arch.ARM64: library.Architecture.AARCH64}[
        cell.target.arch
    ]
    program = library.Program(library.Platform(arch))
    for region in cell.memory.regions:
        program.add_memory_segment(
            region.start,
            region.size,
            lambda address, count, _offset, _physical: cell.memory.read(address, count),
            True,
        )
    linux = cell.linux.anew()
    size = linux.uint(linux.symbols["vmcoreinfo_size"])
    info = linux.read_virt(linux.uint(linux.symbols["vmcoreinfo_data"]), size)
    program.set_linux_kernel_custom(info, is_live=True)
    program.register_symbol_finder("hostwalk", _finder(cell, library), enable_index=-1)
    return program


def _finder(cell: Cell, library: Any) -> Any:
    symbols = cell.prepared.kernel.symbols

    def find(_program: Any, name: str | None, address: int | None, _one: bool) -> list[Any]:
        if name is None and address is None:
            return []
        if name is None:
            name, offset = symbols.nearest(address or 0)
            if offset >= LONGEST_SYMBOL:
                return []
        start = symbols.get(name)
        kind = library.SymbolBinding.GLOBAL, library.SymbolKind.UNKNOWN
        return [] if start is None else [library.Symbol(name, start, 1, *kind)]

    return find
