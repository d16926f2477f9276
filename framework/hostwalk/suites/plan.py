"""Which programs of tools/testing/selftests/mm run, with which arguments: what its own run_vmtests.sh says. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_CALL = re.compile(r"^\s*CATEGORY=\"?([\w-]+)\"? run_test (.+?)\s*$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^\s*(\w+)=(\.?/?[\w./-]+)$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_PROGRAM = re.compile(r"(?:\./|/)([\w-]+)(?![\w./-])")
OTHERS = "unlisted"
"""The category of what the script does not run."""


@dataclass(frozen=True)
class Step:
    """One command of the suite; ``skip`` says why it cannot run, empty if it can."""

    category: str
    command: tuple[str, ...]
    skip: str = ""

    @property
    def program(self) -> str:
        """The file of the suite that the command is about, without its directory."""
        return next((word for word in self.command if word.startswith("./")), self.command[0]).removeprefix(
            "./"
        )

    @property
    def name(self) -> str:
        """The command as a name for reports, as run_vmtests.sh has it: without ``./``."""
        return shlex.join(word.removeprefix("./") for word in self.command if word != "bash")


def steps(script: str, programs: Collection[str], helpers: str = "") -> tuple[Step, ...]:
    """Return what run_vmtests.sh runs, then each program that it does not, without arguments.

    Programs that ``helpers``, the text of other scripts, run are left to these.
    """
    known = dict(_ASSIGNMENT.findall(script))
    joined = script.replace("\\\n", " ")
    listed = tuple(dict.fromkeys(_step(category, call, known) for category, call in _CALL.findall(joined)))
    named = {step.program for step in listed} | set(_PROGRAM.findall(helpers))
    return (*listed, *(Step(OTHERS, (f"./{name}",)) for name in sorted(programs) if name not in named))


def _step(category: str, call: str, known: dict[str, str]) -> Step:
    filled = _VARIABLE.sub(lambda match: known.get(match[1], match[0]), call)
    command = tuple(shlex.split(filled))
    unknown = list(dict.fromkeys(_unknown(filled)))
    why = f"run_vmtests.sh finds {', '.join(unknown)} only while it runs" if unknown else ""
    return Step(category, command, why)


def _unknown(text: str) -> Iterator[str]:
    return (match[0] for match in _VARIABLE.finditer(text))
