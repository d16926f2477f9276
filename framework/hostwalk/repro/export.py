"""Export: a script as a C program, and a module where it needs one, that need nothing of hostwalk."""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass
from pathlib import Path

from hostwalk.repro import ctext
from hostwalk.repro.ccontext import Translation
from hostwalk.repro.cmodule import header, module
from hostwalk.repro.ctext import snippet
from hostwalk.repro.record import write
from hostwalk.repro.script import Script
from hostwalk.repro.translate import translate

PROGRAM, MODULE, HEADER, MAKEFILE, KBUILD = (
    "repro.c",
    "repro_mod.c",
    "repro.h",
    "Makefile",
    "Kbuild",
)
WIDTH = 76
_ORDER = (
    "must", "turns", "turned", "endchild", "forkbriefly", "threads", "endthread", "settings", "set", "number",
    "mount", "page", "map", "astride", "hugepage", "scratch", "store", "load", "refused", "refusedeither", "verdict",
    "faulted", "vmflags", "hasflag", "vmapgoff", "status", "pagemap", "present", "pfn", "settle", "device", "gup",
    "inserted", "insert", "insertnow", "mappedpfn", "refcount", "countof", "kmsg",
)  # fmt: skip
_NEEDS = {
    "gup": ("device", "must"), "refcount": ("device", "must", "pagemap", "pfn"), "present": ("pagemap",),
    "pfn": ("pagemap",), "hugepage": ("set", "settings", "map"), "astride": ("map",), "set": ("settings",),
    "number": ("settings",), "refusedeither": ("refused",),
     "mappedpfn": ("pagemap", "pfn", "device", "must"), "countof": ("device", "must"),
}  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """The files of an export by name; ``seen_inside`` tells whether the program itself sees the failure."""

    files: dict[str, str]
    seen_inside: bool

    def save(self, directory: Path) -> list[Path]:
        """Write them; raises UsageError."""
        for name, text in self.files.items():
            write(directory / name, text)
        return [directory / name for name in self.files]


def export(script: Script) -> Exported:
    """Return a script as C; raises UsageError for a step that has no counterpart in C."""
    made = translate(script)
    files = {PROGRAM: _program(script, made), MAKEFILE: _makefile(made)}
    if made.uses_module:
        files |= {HEADER: header(made), MODULE: module(made), KBUILD: _kbuild()}
    return Exported(files, made.seen_inside)


def _program(script: Script, made: Translation) -> str:
    used = _with_needs(made.helpers)
    headers = [f"#include <{name}>" for name in ctext.headers(used)]
    own = ["", f'#include "{HEADER}"'] if made.uses_module else []
    parts = [
        _opening(script, made), "#define _GNU_SOURCE", *headers, *own, "",
        *(snippet(f"{name}.c") for name in _ORDER if name in used), *(_threads(made) if made.threads else []),
        "int main(void)", "{", *([] if made.threads else [*_indented(made.declarations), ""]), *_indented(made.lines),
        "}", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _indented(lines: list[str]) -> list[str]:
    return [f"\t{line}" if line else "" for line in lines]


def _threads(made: Translation) -> list[str]:
    """Return the functions of the threads, and before them the variables that they share with main()."""
    shared = [f"static {line}" for line in made.declarations]
    functions = [
        line
        for name, steps in made.threads.items()
        for line in (
            f"static void *{name}_steps(void *arg)", "{", "\tstruct thread *self = arg;", "", *_indented(steps),
            "\tbegin_step(self);", "\treturn NULL;", "}", "",
        )
    ]  # fmt: skip
    return [*shared, "", *functions]


def _with_needs(helpers: set[str]) -> set[str]:
    return helpers | {need for name in helpers for need in _NEEDS.get(name, ())} | {"page"}


def _opening(script: Script, made: Translation) -> str:
    pin = script.pin
    about = (ast.get_docstring(script.tree) or script.path.name).split("hostwalk repro run")[0].strip()
    where = (
        "Exit status: 1 it reproduces, 0 it does not, 3 a step failed and nothing is proven."
        if made.seen_inside
        else "What fails cannot be seen from inside: the program does the steps, says where to look from outside, and "
        "ends with 2; 3 is a step that failed."
    )
    paragraphs = [
        *about.split("\n\n"), f"Seen on Linux {pin.release} ({pin.arch}, {pin.memory} MiB, {pin.cpus} CPU), "
        f"in QEMU {pin.qemu} with processor {pin.cpu}.", where,
    ]  # fmt: skip
    lines = [line for each in paragraphs for line in [*textwrap.wrap(_comment(each), WIDTH), ""]]
    inside = "\n".join(f" * {line}".rstrip() for line in lines[:-1])
    return f"// SPDX-License-Identifier: GPL-2.0\n/*\n{inside}\n */"


def _comment(text: str) -> str:
    return " ".join(text.replace("*/", "* /").split())


def _makefile(made: Translation) -> str:
    build = (
        "\nKDIR ?= /lib/modules/$(shell uname -r)/build\n\nmodule:\n\t$(MAKE) -C $(KDIR) M=$(CURDIR) modules\n"
        if made.uses_module
        else ""
    )
    goals = "repro module" if made.uses_module else "repro"
    included = f" {HEADER}" if made.uses_module else ""
    link = f"-static{' -pthread' if made.threads else ''} -o $@ {PROGRAM}"
    return (
        f"# SPDX-License-Identifier: GPL-2.0\nCFLAGS ?= -O2\nCFLAGS += -Wall -Wextra\n\nall: {goals}\n\n"
        f"repro: {PROGRAM}{included}\n\t$(CC) $(CFLAGS) {link}\n{build}\n"
        f"clean:\n\trm -f repro *.o *.ko *.mod* .*.cmd Module.symvers modules.order\n\n"
        f".PHONY: all clean{' module' if made.uses_module else ''}\n"
    )


def _kbuild() -> str:
    return "# SPDX-License-Identifier: GPL-2.0\nobj-m := repro_mod.o\n"
