"""Our terminal, lent to a shell in the guest."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from hostwalk.errors import UsageError

LOOK_SECONDS = 0.05
CHUNK = 1 << 14
LEAVE = b"\x1d"
"""Ctrl-]."""
ESCAPE = b"\r~."
"""What ssh(1) is left by: Enter, tilde, dot."""


def need_terminal(verb: str) -> None:
    """Raise UsageError where standard input or output is no terminal."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"{verb} needs a terminal", remedy="hostwalk run runs commands without one")


def size() -> tuple[int, int]:
    """Return columns and lines."""
    found = shutil.get_terminal_size()
    return found.columns, found.lines


@dataclass
class Line:
    """The other side of a session.

    ``descriptor`` becomes readable when there is something; ``take`` returns what has arrived; ``give`` sends; ``over``
    says whether it has ended, and may raise; ``resize`` hears of a new size (columns, lines).
    """

    descriptor: int
    take: Callable[[], bytes]
    give: Callable[[bytes], object]
    over: Callable[[], bool]
    resize: Callable[[int, int], object] = field(default=lambda columns, lines: None)


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Have every key reach us as it is pressed: Ctrl-C, too."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class _Resized:
    """Whether the terminal's size has changed (SIGWINCH) since it was last asked."""

    def __init__(self) -> None:
        self._changed = False

    def __enter__(self) -> _Resized:
        self._before = signal.signal(signal.SIGWINCH, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGWINCH, self._before)

    def _note(self, _signum: int, _frame: FrameType | None) -> None:
        self._changed = True

    def asked(self) -> bool:
        """Say so, once for each change."""
        changed, self._changed = self._changed, False
        return changed


def interact(line: Line, *, leave: bytes) -> bool:
    """Connect our terminal until the other side ends, or ``leave`` is typed; return whether it was."""
    recent = b""
    with raw(), _Resized() as resized, selectors.PollSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        selector.register(line.descriptor, selectors.EVENT_READ)
        while not line.over():
            ready = {key.fd for key, _ in selector.select(LOOK_SECONDS)}
            if resized.asked():
                line.resize(*size())
            _show(line.take())
            if sys.stdin.fileno() in ready:
                typed = os.read(sys.stdin.fileno(), CHUNK)
                recent = (recent + typed)[-len(typed) - len(leave) :]
                if not typed or leave in recent:
                    return True
                line.give(typed)
        _show(line.take())
    return False


def _show(data: bytes) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
