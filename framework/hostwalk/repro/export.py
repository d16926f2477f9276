"""Export: a script as a C program, and a module where it needs one, that need nothing of hostwalk."""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass
from pathlib import Path

from hostwalk.repro import ctext
from hostwalk.repro.ctext import snippet
from hostwalk.repro.record import write
from hostwalk.repro.script import Script
from hostwalk.repro.translate import Translation, translate

PROGRAM, MODULE, HEADER, MAKEFILE, KBUILD = (
    "repro.c",
    "repro_mod.c",
    "repro.h",
    "Makefile",
    "Kbuild",
)
WIDTH = 76
_ORDER = (
    "must", "turns", "endchild", "map", "hugepage", "scratch", "store", "load", "refused", "faulted", "vmflags",
    "status", "pagemap", "present", "pfn", "settle", "device", "gup", "refcount", "kmsg",
)  # fmt: skip
_NEEDS = {
    "gup": ("device", "must"), "refcount": ("device", "must", "pagemap", "pfn"), "present": ("pagemap",),
    "pfn": ("pagemap",),
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
        files |= {HEADER: _header(made), MODULE: _module(made), KBUILD: _kbuild()}
    return Exported(files, made.seen_inside)


def _program(script: Script, made: Translation) -> str:
    used = _with_needs(made.helpers)
    headers = [f"#include <{name}>" for name in ctext.headers(used)]
    own = ["", f'#include "{HEADER}"'] if made.uses_module else []
    parts = [
        _opening(script, made), "#define _GNU_SOURCE", *headers, *own, "",
        *(snippet(f"{name}.c") for name in _ORDER if name in used),
        "int main(void)", "{", *(f"\t{line}" if line else "" for line in made.declarations), "",
        *(f"\t{line}" if line else "" for line in made.lines), "}", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _with_needs(helpers: set[str]) -> set[str]:
    return helpers | {need for name in helpers for need in _NEEDS.get(name, ())} | {"map"}


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


def _header(made: Translation) -> str:
    return snippet("module.h").replace("@COUNT@", str(max(1, len(made.calls))))


def _module(made: Translation) -> str:
    cases = []
    for number, call in enumerate(made.calls):
        body = textwrap.dedent(call.code).strip().splitlines()
        cases += [
            f"\tcase REPRO_CALL({number}):",
            f"\t\tcall = {number};",
            *(f"\t\t{line}" for line in body),
            "\t\tbreak;",
        ]
        pinned = "true" if call.pinned else "false"
        cases += [f"\tcase REPRO_PUT({number}):", f"\t\trelease({number}, {pinned});", "\t\treturn 0;"]
    released = [
        f"\trelease({number}, {'true' if call.pinned else 'false'});"
        for number, call in enumerate(made.calls)
    ]
    text = snippet("module.c").replace("@CALLS@", "\n".join(cases))
    return text.replace("@RELEASES@", "\n".join(released))


def _makefile(made: Translation) -> str:
    module = (
        "\nKDIR ?= /lib/modules/$(shell uname -r)/build\n\nmodule:\n\t$(MAKE) -C $(KDIR) M=$(CURDIR) modules\n"
        if made.uses_module
        else ""
    )
    goals = "repro module" if made.uses_module else "repro"
    header = f" {HEADER}" if made.uses_module else ""
    return (
        f"# SPDX-License-Identifier: GPL-2.0\nCFLAGS ?= -O2\nCFLAGS += -Wall -Wextra\n\nall: {goals}\n\n"
        f"repro: {PROGRAM}{header}\n\t$(CC) $(CFLAGS) -static -o $@ {PROGRAM}\n{module}\n"
        f"clean:\n\trm -f repro *.o *.ko *.mod* .*.cmd Module.symvers modules.order\n\n"
        f".PHONY: all clean{' module' if made.uses_module else ''}\n"
    )


def _kbuild() -> str:
    return "# SPDX-License-Identifier: GPL-2.0\nobj-m := repro_mod.o\n"
