"""A Python prompt with a machine in hand."""

from __future__ import annotations

import code
import contextlib
import importlib
import importlib.util
import sys
from typing import Any

from hostwalk.cell import Cell
from hostwalk.witness import Witness


def names_of(cell: Cell) -> dict[str, Any]:
    """Return what is in hand, by name; the subject is a fresh process of the guest."""
    agent = cell.agent
    return {
        "cell": cell, "machine": cell.machine, "agent": agent, "guest": agent, "subject": agent.spawn(),
        "witness": Witness(cell), "memory": cell.memory, "linux": cell.linux, "symbols": cell.prepared.kernel.symbols,
        "layout": cell.prepared.image.layout, "ssh": cell.machine.ssh,
    }  # fmt: skip


def banner(cell: Cell, names: dict[str, Any]) -> str:
    """Return what is said at the start."""
    return f"{cell.identity}\nin hand: {', '.join(names)}{' (ssh() logs in)' if 'ssh' in names else ''}"


def python(cell: Cell, given: dict[str, Any] | None = None) -> int:
    """Give IPython's prompt where it is installed and there is a terminal, else Python's own with completion.

    ``given`` are other names than those of a machine that runs.
    """
    names = given or names_of(cell)
    if sys.stdin.isatty() and importlib.util.find_spec("IPython"):
        ipython = importlib.import_module("IPython")
        sys.stderr.write(f"{banner(cell, names)}\n")
        ipython.start_ipython(argv=["--no-banner"], user_ns=names)
    else:
        _complete(names)
        code.interact(banner(cell, names), local=names, exitmsg="")
    return 0


def _complete(names: dict[str, Any]) -> None:
    """Have the Tab key complete names and attributes, where Python was built with readline."""
    with contextlib.suppress(ImportError):
        readline, rlcompleter = map(importlib.import_module, ("readline", "rlcompleter"))
        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
