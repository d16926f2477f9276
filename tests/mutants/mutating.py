"""Small bugs of our own for a kernel's source: how they are kept, and planted in a tree that is not the cached one."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from hostwalk.errors import UsageError
from hostwalk.target import Arch

DATA = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True)
class Mutant:
    """One edit: ``old``, which occurs once in a function of a file, becomes ``new``; ``resembles`` names the bug."""

    id: str
    file: str
    function: str
    old: str
    new: str
    resembles: str
    archs: tuple[Arch, ...]


def load(path: Path = DATA) -> tuple[Mutant, ...]:
    """Return the mutants of a TOML file; raises UsageError for one that lacks a field or changes nothing."""
    found = [_mutant(entry, path) for entry in tomllib.loads(path.read_text()).get("mutant", [])]
    ids = [each.id for each in found]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        raise UsageError(f"{path}: more than one mutant is called {', '.join(twice)}", remedy="rename one")
    return tuple(found)


def _mutant(entry: dict[str, object], path: Path) -> Mutant:
    names = {field.name for field in fields(Mutant)}
    if names != entry.keys():
        raise UsageError(
            f"{path}: mutant {entry.get('id', '?')} has not just these fields: {', '.join(sorted(names))}",
            remedy=f"see to: {', '.join(sorted(names ^ entry.keys()))}",
        )
    archs = entry.pop("archs")
    assert isinstance(archs, list)
    mutant = Mutant(archs=tuple(map(Arch, archs)), **{name: str(value) for name, value in entry.items()})
    if mutant.old == mutant.new or not mutant.old or "\n" in mutant.old + mutant.new:
        raise UsageError(
            f"{path}: mutant {mutant.id} changes no line", remedy="old and new are parts of one line"
        )
    return mutant


def chosen(mutants: Iterable[Mutant], arch: Arch, only: Sequence[str]) -> tuple[Mutant, ...]:
    """Return the mutants for an architecture, or those of them that are named; raises UsageError for an unknown id."""
    fitting = {each.id: each for each in mutants if arch in each.archs}
    unknown = [name for name in only if name not in fitting]
    if unknown:
        raise UsageError(
            f"no mutant for {arch} is called {', '.join(unknown)}",
            remedy=f"choose from: {', '.join(fitting)}",
        )
    return tuple(fitting[name] for name in only or fitting)


def spans(text: str, function: str) -> list[tuple[int, int]]:
    """Return where the definitions of a function begin and end in a C source; under #ifdef there may be several."""
    start = re.compile(rf"^(?![\s/*#])[^\n;{{}}]*\b{re.escape(function)}\([^;{{}}]*\{{", re.MULTILINE)
    found = start.finditer(text)
    return [(match.start(), _end(text, match.end())) for match in found]


def _end(text: str, begin: int) -> int:
    """Return where a function ends: at the first bracket in the first column."""
    end = text.find("\n}", begin)
    return len(text) if end < 0 else end


def mutated(text: str, mutant: Mutant) -> str:
    """Return a source with a mutant in it; raises UsageError unless its old text is in its function exactly once."""
    bodies = spans(text, mutant.function)
    if not bodies:
        raise UsageError(
            f"mutant {mutant.id}: {mutant.file} defines no {mutant.function}()",
            remedy="adapt the mutant to this source",
        )
    counts = [text.count(mutant.old, *body) for body in bodies]
    if sum(counts) != 1:
        raise UsageError(
            f"mutant {mutant.id}: {mutant.function}() of {mutant.file} has {mutant.old!r} {sum(counts)} times, "
            "not once",
            remedy="adapt the mutant to this source",
        )
    start, end = bodies[counts.index(1)]
    return text[:start] + text[start:end].replace(mutant.old, mutant.new) + text[end:]


@dataclass(frozen=True)
class WorkCopy:
    """A tree of hard links to a source. A file is unlinked before it is written, so that the source stays as it is."""

    source: Path
    tree: Path

    def prepare(self, mutants: Iterable[Mutant]) -> None:
        """Make the tree if it is not there, and take out what a killed run has left in it; raises OSError."""
        if not self.tree.exists():
            part = self.tree.with_name(f"{self.tree.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(self.source, part, symlinks=True, copy_function=os.link)
            part.rename(self.tree)
        for name in sorted({each.file for each in mutants}):
            if not (self.tree / name).is_file() or self._differs(name):
                self._write(name, (self.source / name).read_text())

    @contextmanager
    def having(self, mutant: Mutant) -> Iterator[None]:
        """Have one mutant in the tree."""
        whole = (self.source / mutant.file).read_text()
        self._write(mutant.file, mutated(whole, mutant))
        try:
            yield
        finally:
            self._write(mutant.file, whole)

    def _differs(self, name: str) -> bool:
        return (self.tree / name).read_bytes() != (self.source / name).read_bytes()

    def _write(self, name: str, text: str) -> None:
        """Put a file of its own in the place of a link. It is new for make, also where it is as it was."""
        (self.tree / name).unlink(missing_ok=True)
        (self.tree / name).write_text(text)
