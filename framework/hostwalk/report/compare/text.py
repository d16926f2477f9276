"""The comparison as a mail under a patch: short, plain, and with the command that repeats it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from hostwalk.comparing.comparison import Comparison
from hostwalk.report.compare.lines import lines, summary

WIDTH = 75
FEW, DETAIL_LINES = 4, 4
AGAIN = "again: "
UNWRAPPED = (AGAIN, "pte ", "pmd ")


def text(comparison: Comparison, command: str) -> str:
    """Return the report; ``command`` repeats the comparison."""
    return "".join(f"{line}\n" for line in _lines(comparison, command))


def _lines(comparison: Comparison, command: str) -> Iterator[str]:
    yield f"hostwalk compare: {summary(comparison)}"
    yield ""
    own = comparison.patched.kernel.startswith("tree:")
    for line in list(lines(comparison, few=FEW, detail=DETAIL_LINES))[:-1]:
        if not (own and line.text.startswith(AGAIN)):  # a tree of ours, which no reader has
            yield from _wrapped(line.text, line.indent)
    yield "To repeat:"
    yield f"  {command}"


def _wrapped(line: str, indent: int) -> list[str]:
    """Wrap prose, not commands."""
    if line.startswith(UNWRAPPED) or not line:
        return [" " * indent + line if line else ""]
    return textwrap.wrap(
        line, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
