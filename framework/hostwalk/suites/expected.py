"""What is known of other people's suites: failures, and what their tests need; images/kselftest.toml, ltp.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from hostwalk import resources
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.plan import Step
from hostwalk.target import Arch

_EXCUSED = (Outcome.FAIL, Outcome.MISMATCH, Outcome.TIMEOUT)


@dataclass(frozen=True)
class Expectation:
    """Results whose name fits ``test`` (a pattern, as fnmatch) are expected to fail on some kernels, for a reason.

    ``kernel`` is a pattern of releases, ``arch`` one of architectures. With ``signal`` a program that this signal
    ended is excused, too.
    """

    test: str
    kernel: str
    arch: str
    reason: str
    signal: str = ""

    def is_about(self, name: str, release: str, arch: Arch) -> bool:
        """Return whether it is about a result of this name on this kernel."""
        known = fnmatchcase(release, self.kernel) and fnmatchcase(arch, self.arch)
        return known and fnmatchcase(name, self.test)


@dataclass(frozen=True)
class Needs:
    """What a test needs of its guest.

    ``setup`` are shell commands that come before it; ``modules`` are loaded where the kernel has them, each with its
    parameters; ``carries`` are modules whose files lie beside the test, which loads them itself, where the kernel has
    them; ``unbounded`` lets it use all memory; ``seconds`` is its time, None for the usual one; ``config`` are
    options of the kernel, each with a pattern of the results, name and reason, that are skipped without it.
    """

    setup: str = ""
    modules: tuple[str, ...] = ()
    unbounded: bool = False
    seconds: float | None = None
    config: tuple[tuple[str, str], ...] = ()
    carries: tuple[str, ...] = ()

    def and_also(self, other: Needs) -> Needs:
        """Return both together; the other's time comes first."""
        return Needs(
            f"{self.setup}\n{other.setup}".strip(), self.modules + other.modules,
            self.unbounded or other.unbounded, other.seconds or self.seconds, self.config + other.config,
            self.carries + other.carries,
        )  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What is known of a collection.

    ``needs`` are pairs of a pattern, which fits a category or a step's name, and what such tests need; ``variables``
    pairs of a pattern of programs and values; ``commands`` are scripts for commands that a guest has not, by name.
    """

    expectations: tuple[Expectation, ...] = ()
    needs: tuple[tuple[str, Needs], ...] = ()
    variables: tuple[tuple[str, Mapping[str, str]], ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: str, collection: str) -> Known:
        """Return what a file of images/ says of a collection; raises ResolveError where the file is missing."""
        return parsed((resources.images() / manifest).read_text(encoding="utf-8"), collection)

    def needs_of(self, step: Step) -> Needs:
        """Return all that a step needs."""
        found = Needs()
        for pattern, needs in self.needs:
            if fnmatchcase(step.category, pattern) or fnmatchcase(step.name, pattern):
                found = found.and_also(needs)
        return found

    def variables_of(self, program: str) -> Mapping[str, str]:
        """Return the values of shell variables in the calls of a program."""
        fitting = (values for pattern, values in self.variables if fnmatchcase(program, pattern))
        return {name: value for values in fitting for name, value in values.items()}

    def applied(self, results: Iterable[Result], release: str, arch: Arch) -> tuple[Result, ...]:
        """Return results with known failures marked as such.

        A crash of the kernel, a leak or what is unproven is never excused, a program's end by a signal only where it
        is the one that is known.
        """
        return tuple(self._applied(result, release, arch) for result in results)

    def _applied(self, result: Result, release: str, arch: Arch) -> Result:
        found = next((each for each in self.expectations if each.is_about(result.name, release, arch)), None)
        if found is None:
            return result
        if result.outcome is Outcome.PASS:
            return replace(result, reason=f"passes, though known to fail: {found.reason}")
        ended = found.signal and result.reason.startswith(f"killed by {found.signal} ")
        if result.outcome not in _EXCUSED and not (ended and result.outcome is Outcome.CRASH):
            return result
        said = f" ({result.outcome}: {result.reason})" if result.reason else f" ({result.outcome})"
        return replace(result, outcome=Outcome.XFAIL, reason=f"{found.reason}{said}")


def parsed(text: str, collection: str) -> Known:
    """Return what a manifest's text says of a collection; nothing where it does not name it."""
    about: dict[str, Any] = tomllib.loads(text).get(collection, {})
    return Known(
        tuple(
            Expectation(
                each["test"], each["kernel"], each.get("arch", "*"), each["reason"], each.get("signal", "")
            )
            for each in about.get("expect", ())
        ),
        tuple((each["test"], _needs(each)) for each in about.get("needs", ())),
        tuple((each["test"], dict(each["values"])) for each in about.get("variables", ())),
        dict(about.get("commands", {})),
    )


def _pairs(config: Mapping[str, Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((option, pattern) for option, patterns in config.items() for pattern in patterns)


def _needs(table: Mapping[str, Any]) -> Needs:
    return Needs(
        table.get("setup", ""), tuple(table.get("modules", ())), bool(table.get("unbounded", False)),
        table.get("seconds"), _pairs(table.get("config", {})), tuple(table.get("carries", ())),
    )  # fmt: skip
