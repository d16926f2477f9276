"""Kinds of arguments that several verbs take."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Return a number that is at least 1; raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"no positive number: {text!r}")
    return int(text)
