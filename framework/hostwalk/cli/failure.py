"""Errors as people read them: once, in full, and without a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hostwalk.cli.output import err
from hostwalk.errors import HostwalkError
from hostwalk.report.words import plain

_NAME = ("hostwalk: ", "bold red")


def say(error: Exception, *, debug: bool = False, console: Console | None = None) -> None:
    """Print an error to standard error; with ``debug`` its traceback too."""
    console = console or err()
    if debug:
        console.print(Text("".join(traceback.format_exception(error)), "dim"), soft_wrap=True)
    text = _known(error) if isinstance(error, HostwalkError) else _unknown(error)
    console.print(text, soft_wrap=True)


def _known(error: HostwalkError) -> Text:
    text = Text.assemble(_NAME, (f"{error.phase}: ", "dim"), (plain(error.message), "bold"))
    if error.remedy:
        text.append("\n  try: ", "cyan").append(plain(error.remedy))
    if str(error.evidence):
        text.append(f"\n{plain(str(error.evidence))}", "dim")
    return text


def _unknown(error: Exception) -> Text:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    text = Text.assemble(_NAME, (f"a defect of hostwalk itself{where}: ", "bold"))
    text.append(f"{type(error).__name__}: {plain(str(error))}")
    report = "set HOSTWALK_DEBUG=1 to see the traceback, and report it"
    mend = "remove .venv and run ./hostwalk again, or reinstall hostwalk"
    return text.append("\n  try: ", "cyan").append(mend if isinstance(error, ImportError) else report)
