"""Consoles: where text goes and how wide and colourful it may be."""

from __future__ import annotations

import os
import sys

from rich.console import Console

PIPE_WIDTH = 120


def out() -> Console:
    """Return the console for results, on standard output."""
    return _console(stderr=False)


def err() -> Console:
    """Return the console for progress, questions and errors, on standard error."""
    return _console(stderr=True)


def interactive() -> bool:
    """Whether somebody is there to answer a question."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _console(*, stderr: bool) -> Console:
    """Rich knows about NO_COLOR, FORCE_COLOR and COLUMNS; a pipe has no width of its own."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)
