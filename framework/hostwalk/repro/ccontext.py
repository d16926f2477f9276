"""What a translation to C has made so far, and whose steps the statements are that it makes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hostwalk.repro.ccalls import ModuleCall
from hostwalk.repro.cinsertions import Insertion, OwnPages
from hostwalk.repro.csight import Sight
from hostwalk.repro.cvalues import Values, owner_of
from hostwalk.repro.script import Script


@dataclass
class Translation:
    """The body of main(), and what it needs; ``threads`` are the bodies of its threads' functions by name.

    ``asks`` are the questions that its module answers: ``count``, ``pfn``, ``result``, ``pfns``.
    """

    lines: list[str] = field(default_factory=list)
    declarations: list[str] = field(default_factory=list)
    threads: dict[str, list[str]] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    calls: list[ModuleCall] = field(default_factory=list)
    own: list[OwnPages] = field(default_factory=list)
    insertions: list[Insertion] = field(default_factory=list)
    asks: set[str] = field(default_factory=set)
    seen_inside: bool = True

    @property
    def all_lines(self) -> list[str]:
        """The lines of main() and of the threads."""
        return [*self.lines, *(line for steps in self.threads.values() for line in steps)]

    def replace(self, line: str, by: str) -> None:
        """Replace a line that is there once."""
        for lines in (self.lines, *self.threads.values()):
            lines[:] = [by if each == line else each for each in lines]

    @property
    def uses_module(self) -> bool:
        """Whether there is anything that only the kernel can do."""
        return bool(self.calls or self.own or self.asks)


@dataclass
class Context:
    """A translation under way: ``child`` is the name of the process that was forked and has not ended."""

    script: Script
    values: Values
    sight: Sight
    made: Translation = field(default_factory=Translation)
    child: str = ""

    def line(self, *texts: str) -> None:
        """Add lines."""
        self.made.lines += texts

    def declare(self, text: str) -> None:
        """Declare a variable, once."""
        if text not in self.made.declarations:
            self.made.declarations.append(text)

    def need(self, *helpers: str) -> None:
        """Have pieces of C in the program."""
        self.made.helpers |= set(helpers)

    def fresh(self, kind: str) -> str:
        """Return a name for a value that has none in the script."""
        return f"{kind}_{len(self.made.declarations) + 1}"

    def is_process(self, call: ast.Call) -> bool:
        """Whether a call is one of the subject, its child or one of its threads."""
        return owner_of(call) in {"subject", *self._others()}

    def _others(self) -> set[str]:
        return {*self.made.threads, *([self.child] if self.child else [])}

    def doer(self, *nodes: ast.AST) -> str:
        """Return the child or the thread whose call is in a statement; nothing for the subject's own."""
        calls = (each for node in nodes for each in ast.walk(node) if isinstance(each, ast.Call))
        return next((owner_of(call) for call in calls if owner_of(call) in self._others()), "")

    @contextmanager
    def step_of(self, doer: str) -> Iterator[None]:
        """Have the lines that are made in the block done by a child or thread, while the others wait for it."""
        first, others = len(self.made.lines), self._others()
        yield
        step = self.made.lines[first:]
        if step and doer in self.made.threads:
            self.made.threads[doer] += ["begin_step(self);", *map(_exiting, step), "end_step(self);"]
            self.made.lines[first:] = [f"step_of(&{doer});"]
        elif step and self.child in others:
            begin = f"if (turn(&{self.child}, {int(doer == self.child)}))"
            end = [] if step[-1].startswith("return ") else [f"turned(&{self.child});"]
            inside = [f"\t{line}" for line in (*step, *end)]
            self.made.lines[first:] = [begin, *inside] if len(inside) == 1 else [f"{begin} {{", *inside, "}"]


def _exiting(line: str) -> str:
    """Return a line of a thread's: where main() returns, it ends the process."""
    found = re.fullmatch(r"(\s*)return (.*);", line)
    return f"{found[1]}exit({found[2]});" if found else line
