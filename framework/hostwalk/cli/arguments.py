"""Kinds of arguments that several verbs take."""

from __future__ import annotations

import argparse
import os


def positive(text: str) -> int:
    """Return a number that is at least 1; raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"no positive number: {text!r}")
    return int(text)


def workers(text: str) -> str:
    """Return a number of workers, or auto; raises argparse.ArgumentTypeError."""
    if text != "auto" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"neither a number nor auto: {text!r}")
    return text


def chosen_workers(asked: str | None, *, few: bool) -> str:
    """Return as many as asked for, else as many as there are cores; few tests are over before a second has begun."""
    alone = few or len(os.sched_getaffinity(0)) == 1
    return asked or ("0" if alone else "auto")
