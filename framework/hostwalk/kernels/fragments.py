"""Configuration fragments: what a kernel that hostwalk builds must have (images/config/*.config).

A fragment is what scripts/kconfig/merge_config.sh takes: ``CONFIG_X=value`` and ``# CONFIG_X is not set``. Options
below a comment that starts with "Optional", up to the next empty line, may be missing in a kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostwalk import resources
from hostwalk.errors import KernelBuildError, UsageError
from hostwalk.target import Arch, granule_of

DEBUG = "debug"
OPTIONAL = "# Optional"
_SET = re.compile(r"(CONFIG_\w+)=(.*)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")


@dataclass(frozen=True)
class Option:
    """One option that a fragment asks for; ``value`` as in a .config file, "n" where it is not to be set."""

    name: str
    value: str
    optional: bool
    fragment: str

    def __str__(self) -> str:
        """Return the option's line in a .config file."""
        return f"# {self.name} is not set" if self.value == "n" else f"{self.name}={self.value}"

    def is_kept(self, config: Mapping[str, str]) -> bool:
        """Return whether a configuration (CONFIG_X to its value, as in the file) has what is asked for."""
        return config.get(self.name, "n") == self.value


def parse(text: str, fragment: str) -> tuple[Option, ...]:
    """Return the options of a fragment; raises UsageError for a line that is none and no comment."""
    found, optional = [], False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        optional = (optional or line.startswith(OPTIONAL)) and bool(line)
        if match := _SET.fullmatch(line):
            found.append(Option(match[1], match[2], optional, fragment))
        elif match := _UNSET.fullmatch(line):
            found.append(Option(match[1], "n", optional, fragment))
        elif line and not line.startswith("#"):
            raise UsageError(
                f"{fragment}:{number} is no line of a configuration: {line!r}",
                remedy="write CONFIG_X=value or # CONFIG_X is not set",
            )
    return tuple(found)


def merged(fragments: Iterable[Sequence[Option]]) -> tuple[Option, ...]:
    """Return the options of all fragments; where two ask for the same option the later one is heard."""
    options = {option.name: option for fragment in fragments for option in fragment}
    return tuple(options.values())


def names(arch: Arch, page_format: str, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the fragments for a target, each stronger than those before.

    One x86-64 kernel serves both formats: it folds the fifth level where the processor has none.
    """
    own = [f"arm64-{granule_of(page_format)}-{page_format.rpartition('-')[2]}"] if arch is Arch.ARM64 else []
    return ("common", str(arch), *own, *extra)


def load(wanted: Iterable[str]) -> tuple[Option, ...]:
    """Return the merged options of fragments by name; raises UsageError for a name that there is not."""
    return merged(parse(_read(name), f"{name}.config") for name in wanted)


def text_of(options: Iterable[Option]) -> str:
    """Return options as one file for KCONFIG_ALLCONFIG."""
    return "".join(f"{option}\n" for option in options)


def verify(options: Iterable[Option], config: Mapping[str, str], release: str) -> None:
    """Raise KernelBuildError that names each option which the made configuration lacks."""
    lacking = [option for option in options if not option.optional and not option.is_kept(config)]
    if lacking:
        named = ", ".join(f"{option} ({option.fragment})" for option in lacking)
        raise KernelBuildError(
            f"Linux {release} cannot be configured as asked for: it does not take {named}",
            remedy="look what the option depends on (make menuconfig, /); in a fragment, options that a kernel "
            'may lack stand below a comment that starts with "Optional"',
        )


def values(text: str) -> dict[str, str]:
    """Return what a .config file sets, each value as it stands there."""
    return dict(_SET.findall(text))


def _read(name: str) -> str:
    directory = resources.images() / "config"
    path = directory / f"{name}.config"
    if not path.is_file():
        known = ", ".join(_extras(directory))
        raise UsageError(f"there is no configuration {name!r}", remedy=f"known: {known}")
    return path.read_text(encoding="utf-8")


def _extras(directory: Path) -> list[str]:
    """Return the names of fragments that can be asked for."""
    known = {path.stem for path in directory.glob("*.config")}
    return sorted(name for name in known if name != "common" and not name.startswith(tuple(Arch)))
