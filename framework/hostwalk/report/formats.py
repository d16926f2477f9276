"""The reports that are files, by name, and how one is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
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
    path = Path(place).absolute()
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory for {place}", remedy="make it, or choose another file")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"no file can be written at {place}", remedy="choose another file")


def write(run: Run, places: Iterable[tuple[str, str]]) -> None:
    """Write reports, (format, file) each; raises what :func:`write_texts` raises."""
    write_texts((FORMATS[name].text(run), place) for name, place in places)


def write_texts(texts: Iterable[tuple[str, str]]) -> None:
    """Write files, (text, file) each, every one that can be; raises UsageError for the first that cannot."""
    failed = [error for text, place in texts if (error := _write(text, place))]
    if failed:
        raise failed[0]


def _write(text: str, place: str) -> UsageError | None:
    try:
        Path(place).write_text(text, encoding="utf-8")
    except OSError as error:
        return UsageError(f"cannot write {place}: {error.strerror}")
    return None
