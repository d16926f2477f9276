"""Named matrices: sets of targets written down in TOML, ours in images/matrix.toml, a project's in its own file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hostwalk import resources
from hostwalk.errors import UsageError
from hostwalk.target import Target, matrix

DEFAULT = "default"
KEYS = ("kernel", "arch", "format", "smp", "memory")
Entry = Mapping[str, object]


def named(
    name: str, *, accel: str = "auto", memory: int = 256, start: Path | None = None
) -> tuple[Target, ...]:
    """Return the targets of a matrix, in the order of its entries, each once.

    A project's matrix, looked for from directory ``start`` (the current one) upwards, goes before ours of the
    same name. Raises UsageError for a name that nobody has, and for an entry that makes no sense.
    """
    project = _project(start or Path.cwd())
    known = {**_load(resources.images() / "matrix.toml"), **project}
    if name not in known:
        raise UsageError(f"there is no matrix {name!r}", remedy=f"known: {', '.join(sorted(known))}")
    entries = known[name]
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"matrix {name!r} has no entries", remedy=f"write it as [[matrix.{name}]]")
    cells = [cell for entry in entries for cell in _cells(name, entry, accel, memory)]
    return tuple(dict.fromkeys(cells))


def project_has(name: str, start: Path | None = None) -> bool:
    """Whether a project here has a matrix of this name."""
    return name in _project(start or Path.cwd())


def _cells(name: str, entry: Entry, accel: str, memory: int) -> tuple[Target, ...]:
    unknown = sorted(set(entry) - set(KEYS))
    if unknown:
        raise UsageError(
            f"matrix {name!r}: unknown key {unknown[0]!r}", remedy=f"keys are: {', '.join(KEYS)}"
        )
    sizes = _numbers(name, entry, "memory") or [memory]
    return tuple(
        cell
        for size in sizes
        for cell in matrix(
            _words(name, entry, "arch"), _words(name, entry, "kernel"), _words(name, entry, "format"),
            accel=accel, memory=size, cpus=_numbers(name, entry, "smp") or [1],
        )
    )  # fmt: skip


def _words(name: str, entry: Entry, key: str) -> list[str]:
    values = _listed(entry, key)
    if not all(isinstance(value, str) for value in values):
        raise UsageError(f"matrix {name!r}: {key} takes text or a list of texts")
    return [str(value) for value in values]


def _numbers(name: str, entry: Entry, key: str) -> list[int]:
    values = _listed(entry, key)
    numbers = [value for value in values if isinstance(value, int) and value > 0]
    if len(numbers) != len(values):
        raise UsageError(f"matrix {name!r}: {key} takes a positive number or a list of them")
    return numbers


def _listed(entry: Entry, key: str) -> Sequence[object]:
    value = entry.get(key, [])
    return value if isinstance(value, list) else [value]


def _project(start: Path) -> dict[str, object]:
    for directory in (start, *start.parents):
        if (directory / "hostwalk.toml").is_file():
            return _table(_load(directory / "hostwalk.toml"), "matrix")
        if (directory / "pyproject.toml").is_file():
            tool = _table(_load(directory / "pyproject.toml"), "tool")
            return _table(_table(tool, "hostwalk"), "matrix")
    return {}


def _table(parent: Mapping[str, object], key: str) -> dict[str, object]:
    value = parent.get(key, {})
    return dict(value) if isinstance(value, dict) else {}


def _load(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", remedy="mend the file") from error
