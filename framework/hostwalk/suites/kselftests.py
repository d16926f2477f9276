"""The kernel's own selftests as a suite: tools/testing/selftests, as built for the guest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hostwalk.suites import ktap
from hostwalk.suites.building import Built
from hostwalk.suites.expected import Known
from hostwalk.suites.outcome import Ending, Result, judged
from hostwalk.suites.plan import Step, steps
from hostwalk.suites.suite import PLACE

MANIFEST = "kselftest.toml"
SCRIPT = "run_vmtests.sh"


@dataclass(frozen=True)
class Kselftests:
    """A collection of selftests, ``name`` being its directory's."""

    name: str
    built: Built
    known: Known

    def steps(self) -> tuple[Step, ...]:
        """Return all its tests, in the order of its own script."""
        scripts = {path.name: path.read_text(errors="replace") for path in self.built.directory.glob("*.sh")}
        main = scripts.pop(SCRIPT, "")
        return steps(main, self.built.programs, "".join(scripts.values()), self.known.variables_of)

    @property
    def whole(self) -> bool:
        """Yes: run_vmtests.sh reads each from a pipe, and protection_keys goes on in a child of a child."""
        return True

    def why_not(self, step: Step) -> str:
        """Return why a step cannot run, empty if it can."""
        if step.skip:
            return step.skip
        if step.program in self.built.failures:
            return f"not built: {self.built.failures[step.program]}"
        if step.command[0] not in ("bash", f"./{step.program}", *self.known.commands):
            return f"needs {step.command[0]}, which is not in the guest"
        if not self.built.file(step.program).is_file():
            return "the Makefile of this kernel does not build it here"
        return ""

    def files(self, step: Step) -> tuple[tuple[Path, str], ...]:
        """Return a step's program, for a script all others that it names, too."""
        return tuple((self.built.file(name), f"{PLACE}/{name}") for name in self._names(step))

    def _names(self, step: Step) -> tuple[str, ...]:
        if not step.program.endswith(".sh"):
            return (step.program,)
        text = self.built.file(step.program).read_text(errors="replace")
        scripts = [path.name for path in self.built.directory.glob("*.sh")]
        there = [name for name in (*self.built.programs, *scripts) if self.built.file(name).is_file()]
        return tuple(dict.fromkeys([step.program, *(name for name in there if name in text)]))

    def command(self, step: Step) -> tuple[str, ...]:
        """Return the command as the script has it."""
        return step.command

    def judged(self, name: str, text: str, ending: Ending) -> tuple[Result, ...]:
        """Return a result for each line that judges something, and one for how it ended."""
        return judged(name, ktap.parse(text), ending)


def without_extra(known: Iterable[Step]) -> Iterator[Step]:
    """Yield steps, those that are extra as one for each program, which says how many there are."""
    steps = tuple(known)
    extra = [step.program for step in steps if step.extra]
    told: set[str] = set()
    for step in steps:
        if not step.extra:
            yield step
        elif step.program not in told:
            told.add(step.program)
            many = extra.count(step.program)
            skip = f"run_vmtests.sh runs {many} of them, and only with -a: give --all"
            yield replace(step, command=(f"./{step.program}", "..."), skip=skip)
