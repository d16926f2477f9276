"""Shrinking: fewer steps and smaller arguments, as long as the same failure comes.

First delta debugging over the steps (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
2002: ddmin), then single edits until none of them can be made any more.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hostwalk.repro import edits
from hostwalk.repro.edits import Edit
from hostwalk.repro.script import Script

Reproduces = Callable[[Script], bool]


@dataclass
class Tally:
    """How a shrinking goes: ``tries`` runs, of which ``hits`` reproduced; ``steps`` are left of ``first``."""

    first: int
    steps: int
    tries: int = 0
    hits: int = 0


@dataclass
class Shrinker:
    """Makes a script smaller; ``reproduces`` runs a candidate, ``watch`` is told after each run."""

    script: Script
    reproduces: Reproduces
    watch: Callable[[Tally], None] = lambda _tally: None
    _refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        steps = edits.count(self.script.function)
        self.tally = Tally(steps, steps)
        self._module = frozenset(
            name for node in self.script.tree.body for name in _bound(node) if name != self.script.test
        )

    def shrink(self) -> Script:
        """Return the smallest script that was found: no single edit of it reproduces."""
        self._ddmin()
        while self._pass():
            pass
        self.script = self.script.with_function(edits.tidied(self.script.function))
        return self.script

    def _ddmin(self) -> None:
        """Remove as many steps as possible at once, then fewer and fewer."""
        parts = 2
        while True:
            steps = edits.steps(self.script.function)
            if len(steps) < 2:
                return
            if self._remove_one_of(_chunks(steps, parts)):
                parts = max(2, parts - 1)
            elif parts >= len(steps):
                return
            else:
                parts = min(len(steps), 2 * parts)

    def _remove_one_of(self, chunks: Sequence[Sequence[Edit]]) -> bool:
        return any(self._try(edits.removed(self.script.function, chunk)) for chunk in chunks)

    def _pass(self) -> bool:
        """Try each single edit once; return whether one of them could be made."""
        position, better = 0, False
        while True:
            left = list(edits.edits(self.script.function))[position:]
            if not left:
                return better
            if self._try(left[0].apply(self.script.function)):
                better = True
            else:
                position += 1

    def _try(self, function: ast.FunctionDef) -> bool:
        text = ast.unparse(function)
        if text in self._refused or text == ast.unparse(self.script.function):
            return False
        if not edits.is_sound(function, self._module):
            return False
        candidate = self.script.with_function(function)
        self.tally.tries += 1
        if not self.reproduces(candidate):
            self._refused.add(text)
            self.watch(self.tally)
            return False
        self.script = candidate
        self.tally.hits += 1
        self.tally.steps = edits.count(function)
        self.watch(self.tally)
        return True


def _chunks(steps: Sequence[Edit], parts: int) -> list[Sequence[Edit]]:
    """Return the steps in parts of about the same size, the last part first."""
    bounds = [len(steps) * number // parts for number in range(parts + 1)]
    found = [steps[first:last] for first, last in pairwise(bounds) if first < last]
    return list(reversed(found))


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    ]
