"""Which programs of tools/testing/selftests/mm run, with which arguments: what its own run_vmtests.sh says. Pure."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

_CALL = re.compile(r"\s*CATEGORY=\"?([\w-]+)\"? run_test (.+?)\s*")
_ASSIGNMENT = re.compile(r"^\s*(?:local )?(\w+)=(\.?/?[\w./-]+)$", re.MULTILINE)
_LOOP = re.compile(r"\s*for (\w+) in (.+); do")
_FUNCTION = re.compile(r"(\w+)\(\) *\{")
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_PROGRAM = re.compile(r"(?:\./|/)([\w-]+)(?![\w./-])")
OTHERS = "unlisted"
"""The category of what the script does not run."""


@dataclass(frozen=True)
class Step:
    """One command of the suite; ``skip`` says why it cannot run, empty if it can.

    ``extra``: the suite's own script runs it only when asked for everything. ``title`` is its name, by default the
    command.
    """

    category: str
    command: tuple[str, ...]
    skip: str = ""
    extra: bool = False
    title: str = ""

    @property
    def program(self) -> str:
        """The file of the suite that the command is about, without its directory."""
        return next((word for word in self.command if word.startswith("./")), self.command[0]).removeprefix(
            "./"
        )

    @property
    def name(self) -> str:
        """Its name for reports: the command as run_vmtests.sh has it, without ``./``."""
        return self.title or shlex.join(word.removeprefix("./") for word in self.command if word != "bash")


def steps(
    script: str,
    programs: Collection[str],
    helpers: str = "",
    variables: Callable[[str], Mapping[str, str]] = lambda _program: {},
) -> tuple[Step, ...]:
    """Return what run_vmtests.sh runs, then each program that it does not, without arguments.

    ``variables`` gives values that the script finds only while it runs, for a program. Programs that ``helpers``, the
    text of other scripts, run are left to these.
    """
    listed = tuple(dict.fromkeys(_Reader(script, variables).read()))
    named = {step.program for step in listed} | set(_PROGRAM.findall(helpers))
    return (*listed, *(Step(OTHERS, (f"./{name}",)) for name in sorted(programs) if name not in named))


class _Reader:
    """Goes through a script once; a call in loops is one step for each round, one in a function is extra."""

    def __init__(self, script: str, variables: Callable[[str], Mapping[str, str]]) -> None:
        self._known = dict(_ASSIGNMENT.findall(script))
        self._lines = script.replace("\\\n", " ").splitlines()
        self._variables = variables
        self._loops: list[tuple[str, tuple[str, ...]]] = []
        self._inside = ""

    def read(self) -> Iterator[Step]:
        for line in self._lines:
            if found := _CALL.fullmatch(line):
                yield from self._steps(found[1], found[2])
            elif loop := _LOOP.fullmatch(line):
                self._loops.append((loop[1], tuple(shlex.split(self._filled(loop[2], {})))))
            elif line.strip() == "done" and self._loops:
                self._loops.pop()
            elif function := _FUNCTION.fullmatch(line):
                self._inside = function[1]
            elif line == "}":
                self._inside = ""

    def _steps(self, category: str, call: str) -> Iterator[Step]:
        names = [name for name, _ in self._loops]
        for values in itertools.product(*(words for _, words in self._loops)):
            yield self._step(category, call, dict(zip(names, values, strict=True)))

    def _step(self, category: str, call: str, values: Mapping[str, str]) -> Step:
        program = next(iter(_PROGRAM.findall(self._filled(call, values))), "")
        filled = self._filled(call, {**values, **self._variables(program)})
        unknown = list(dict.fromkeys(match[0] for match in _VARIABLE.finditer(filled)))
        why = f"run_vmtests.sh finds {', '.join(unknown)} only while it runs" if unknown else ""
        return Step(category, tuple(shlex.split(filled)), why, extra=bool(self._inside))

    def _filled(self, text: str, values: Mapping[str, str]) -> str:
        known = {**self._known, **values}
        return _VARIABLE.sub(lambda match: known.get(match[1], match[0]), text)
