"""Progress that people see: bars on a terminal, a line for each task elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from hostwalk.kernels.progress import Progress

PLAIN_SECONDS = 10
BYTES_FROM = 20_000
"""A total as large as this counts bytes: no run has so many claims."""


class PlainProgress:
    """One line for each task, when it starts: for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextlib.contextmanager
    def task(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Print the task's name and how much there is to do."""
        size = f" ({decimal(total)})" if total and total >= BYTES_FROM else ""
        self._console.print(Text(text + size), soft_wrap=True)
        yield lambda _done: None


class BarProgress:
    """Live bars below whatever else is printed; they vanish with their tasks."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextlib.contextmanager
    def task(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar while the block runs; the block reports how much is done so far."""
        number = self._bars.add_task(text, total=total)
        try:
            yield lambda done: self._bars.update(number, completed=done)
        finally:
            self._bars.remove_task(number)


class _Amount(ProgressColumn):
    """How much of a task is done: bytes, per cent, or things."""

    def render(self, task: Task) -> Text:
        """Return the words."""
        return Text("" if task.total is None else _amount(int(task.completed), int(task.total)), "dim")


def _amount(done: int, total: int) -> str:
    if total >= BYTES_FROM:
        return f"{decimal(done)} of {decimal(total)}"
    return f"{done} %" if total == 100 else f"{done} of {total}"


@contextlib.contextmanager
def showing(console: Console) -> Iterator[Progress]:
    """Lend a Progress that suits the console."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainProgress(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(24),
        _Amount(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield BarProgress(bars)


@contextlib.contextmanager
def telling(console: Console) -> Iterator[Callable[[str], None]]:
    """Lend a function that shows how something goes: one line that changes, elsewhere a line now and then."""
    if console.is_terminal and not console.is_dumb_terminal:
        with console.status("") as status:
            yield status.update
        return
    last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            console.print(Text(text), soft_wrap=True)

    yield tell


def busy(progress: Progress) -> Callable[[str], AbstractContextManager[object]]:
    """Return a function that shows something of unknown length while its block runs."""
    return lambda text: progress.task(text, None)
