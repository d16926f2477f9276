"""The reports that are files, by name, and how one is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hostwalk.errors import UsageError
from hostwalk.report import contract, html, json, junit, ktap
from hostwalk.report.model import Run


@dataclass(frozen=True)
class Format:
    """A report's text, and what it is for in a few words."""

    text: Callable[[Run], str]
    purpose: str


FORMATS: Mapping[str, Format] = {
    "html": Format(html.text, "a page to read: the matrix, and each broken claim with what was seen"),
    "junit": Format(junit.text, "JUnit XML, for CI systems"),
    "json": Format(json.text, "everything, in a stable schema"),
    "ktap": Format(ktap.text, "KTAP, the kernel's own test protocol"),
    "contract": Format(contract.text, "Markdown: the manual, sentence by sentence, and who keeps it"),
}


def check_place(place: str) -> None:
    """Raise UsageError when no file can be made at ``place``, before any work is done in vain."""
    if not Path(place).absolute().parent.is_dir():
        raise UsageError(f"there is no directory for {place}", remedy="make it, or choose another file")


def write(run: Run, name: str, place: str) -> None:
    """Write the report of a format to a file; raises UsageError."""
    try:
        Path(place).write_text(FORMATS[name].text(run), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {place}: {error.strerror}") from error
