"""What is known to fail in other people's suites, and what their tests need: images/kselftest.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from hostwalk import resources
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.target import Arch

MANIFEST = "kselftest.toml"
_EXCUSED = (Outcome.FAIL, Outcome.MISMATCH, Outcome.TIMEOUT)


@dataclass(frozen=True)
class Expectation:
    """Results whose name fits ``test`` (a pattern, as fnmatch) are expected to fail on some kernels, for a reason.

    ``kernel`` is a pattern of releases, ``arch`` one of architectures.
    """

    test: str
    kernel: str
    arch: str
    reason: str

    def is_about(self, name: str, release: str, arch: Arch) -> bool:
        """Return whether it is about a result of this name on this kernel."""
        known = fnmatchcase(release, self.kernel) and fnmatchcase(arch, self.arch)
        return known and fnmatchcase(name, self.test)


@dataclass(frozen=True)
class Known:
    """What is known of a collection: expected failures, and the commands that get a guest ready, by category."""

    expectations: tuple[Expectation, ...] = ()
    setup: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, collection: str) -> Known:
        """Return what images/kselftest.toml says of a collection; raises ResolveError where the file is missing."""
        return parsed((resources.images() / MANIFEST).read_text(encoding="utf-8"), collection)

    def setup_of(self, category: str) -> str:
        """Return the shell commands that come before a test of a category."""
        return "\n".join(text for pattern, text in self.setup if fnmatchcase(category, pattern))

    def applied(self, results: Iterable[Result], release: str, arch: Arch) -> tuple[Result, ...]:
        """Return results with known failures marked as such. A crash, a leak or what is unproven is never excused."""
        return tuple(self._applied(result, release, arch) for result in results)

    def _applied(self, result: Result, release: str, arch: Arch) -> Result:
        found = next((each for each in self.expectations if each.is_about(result.name, release, arch)), None)
        if found is None:
            return result
        if result.outcome is Outcome.PASS:
            return replace(result, reason=f"passes, though known to fail: {found.reason}")
        if result.outcome not in _EXCUSED:
            return result
        said = f" ({result.outcome}: {result.reason})" if result.reason else f" ({result.outcome})"
        return replace(result, outcome=Outcome.XFAIL, reason=f"{found.reason}{said}")


def parsed(text: str, collection: str) -> Known:
    """Return what a manifest's text says of a collection; nothing where it does not name it."""
    about = tomllib.loads(text).get(collection, {})
    expectations = tuple(
        Expectation(each["test"], each["kernel"], each.get("arch", "*"), each["reason"])
        for each in about.get("expect", ())
    )
    return Known(expectations, tuple(about.get("setup", {}).items()))
