"""The comparison that people read: what changed, and nothing else."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from hostwalk.comparing.comparison import Comparison
from hostwalk.report.compare.lines import lines


def show(comparison: Comparison, console: Console) -> None:
    """Print it without wrapping: a command must survive copy and paste."""
    for line in lines(comparison):
        console.print(Text(" " * line.indent + line.text, line.style), soft_wrap=True)
