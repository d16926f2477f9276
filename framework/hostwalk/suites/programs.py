"""Programs that a file names, and the kernel's selftests, as jobs for pytest: :mod:`hostwalk.suites.collector`."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hostwalk.cache import Cache
from hostwalk.cell import prepare
from hostwalk.errors import UsageError
from hostwalk.kernels.progress import SILENT
from hostwalk.options import CheckOptions
from hostwalk.suites.building import Built, built_for
from hostwalk.suites.expected import Expectation, Known, Needs
from hostwalk.suites.kselftests import MANIFEST, Kselftests, without_extra
from hostwalk.suites.machines import MEMORY, Machines
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.plan import Step
from hostwalk.suites.running import SECONDS, Runner
from hostwalk.target import Target

KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str, "directory": str, "programs": list, "timeout": (int, float), "memory": int, "setup": str,
    "expect": list,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One program on one target: its name and file, what its results' names begin with, the target's, what runs it."""

    name: str
    program: str
    title: str
    target: str
    run: Callable[[], tuple[Result, ...]]


@dataclass(frozen=True)
class Listed:
    """What a file says: programs as commands in ``directory``, in which ``{arch}`` stands for the guest's."""

    name: str
    directory: str
    commands: tuple[tuple[str, ...], ...]
    seconds: float
    memory: int
    known: Known


def listed(file: Path) -> Listed:
    """Read a file; raises UsageError for one that makes no sense."""
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read {file.name}: {error}") from error
    _check(file, said)
    return Listed(
        said.get("name", file.name.partition(".")[0]), said.get("directory", "."),
        tuple(tuple(shlex.split(text)) for text in said["programs"]),
        float(said.get("timeout", SECONDS)), said.get("memory", 0), _known(file, said),
    )  # fmt: skip


def _check(file: Path, said: dict[str, Any]) -> None:
    unknown = sorted(said.keys() - KEYS.keys())
    if unknown:
        raise UsageError(
            f"{file.name} has a key {unknown[0]!r} that is not known", remedy=f"known: {', '.join(KEYS)}"
        )
    wrong = next((key for key, value in said.items() if not isinstance(value, KEYS[key])), "")
    if wrong:
        raise UsageError(f"{file.name}: {wrong} cannot be {said[wrong]!r}")
    if not said.get("programs") or not all(
        isinstance(text, str) and text.strip() for text in said["programs"]
    ):
        raise UsageError(f"{file.name} names no programs", remedy='programs = ["./test -v", "bash ./all.sh"]')


def _known(file: Path, said: dict[str, Any]) -> Known:
    try:
        expectations = tuple(
            Expectation(each["test"], each.get("kernel", "*"), each.get("arch", "*"), each["reason"])
            for each in said.get("expect", ())
        )
    except (KeyError, TypeError, AttributeError):
        raise UsageError(f"{file.name}: what is expected to fail needs test and reason") from None
    return Known(expectations, (("*", Needs(said["setup"])),) if "setup" in said else ())


def _machines(target: Target, options: CheckOptions) -> Machines:
    return Machines(partial(prepare, target, options, SILENT, Cache.user(), login=True))


def jobs(file: Path, options: CheckOptions) -> Iterator[Job]:
    """Yield what a file names, target by target; raises UsageError."""
    said = listed(file)
    for target in replace(options, memory=max(options.memory, said.memory)).targets:
        place = file.parent / said.directory.replace("{arch}", target.arch)
        chosen = tuple(Step(said.name, command) for command in said.commands)
        built = Built(place, tuple(step.program for step in chosen), {})
        suite = Kselftests(said.name, built, said.known)
        runner = Runner(suite, _machines(target, options).make, said.seconds)
        for job in _jobs(runner, target, chosen):
            at = built.file(job.program)
            yield job if at.is_file() else replace(job, run=partial(_missing, job.title, at))


def _missing(title: str, file: Path) -> tuple[Result, ...]:
    return (Result(title, Outcome.UNPROVEN, f"there is no {file}"),)


def selftests(collection: str, options: CheckOptions) -> Iterator[Job]:
    """Yield the kernel's selftests, built first where they are not in the cache; raises what that raises."""
    for target in replace(options, memory=max(options.memory, MEMORY)).targets:
        machines = _machines(target, options)
        built = built_for(machines.prepared, collection, options, Cache.user(), SILENT)
        suite = Kselftests(collection, built, Known.of(MANIFEST, collection))
        chosen = tuple(without_extra(suite.steps()))
        yield from _jobs(Runner(suite, machines.make), target, chosen)


def _jobs(runner: Runner, target: Target, chosen: tuple[Step, ...]) -> Iterator[Job]:
    for step in chosen:
        title = f"{runner.suite.name} / {step.name}"
        yield Job(step.name, step.program, title, target.name, partial(runner.run, step))
