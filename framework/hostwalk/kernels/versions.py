"""Debian package versions, in their order (deb-version(7))."""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest

_PARTS = re.compile(r"(\D*)(\d*)")


def compare(left: str, right: str) -> int:
    """Return a number below, at or above zero as ``left`` is older than, equal to or newer than ``right``."""
    return _compare(_split(left), _split(right))


version_order = cmp_to_key(compare)


def upstream(version: str) -> str:
    """Return the upstream part: 6.12.117 of 6.12.117-1~deb12u1."""
    return _split(version)[1]


def _split(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    whole, dash, revision = rest.rpartition("-")
    return (epoch, whole, revision) if dash else (epoch, rest, "")


def _compare(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    return next((order for pair in zip(left, right, strict=True) if (order := _compare_part(*pair))), 0)


def _compare_part(left: str, right: str) -> int:
    pairs = zip_longest(_PARTS.findall(left), _PARTS.findall(right), fillvalue=("", ""))
    for (text, number), (other_text, other_number) in pairs:
        ours, theirs = (_weights(text), int(number or 0)), (_weights(other_text), int(other_number or 0))
        if ours != theirs:
            return -1 if ours < theirs else 1
    return 0


def _weights(text: str) -> list[int]:
    """Return sort keys: a tilde before the end, the end before letters, letters before all else."""
    return [-1 if char == "~" else ord(char) + (0 if char.isalpha() else 256) for char in text] + [0]
