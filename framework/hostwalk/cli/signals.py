"""Signals that end a run. They raise, so that every ``with`` block ends its machines."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end; ``signum`` tells which."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def _raise(signum: int, _frame: FrameType | None) -> None:
    _received.append(signum)
    raise Interrupted(signum)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Raise Interrupted on SIGINT, SIGTERM and SIGHUP within the block; an ignored one stays so."""
    _received.clear()
    before = {signum: signal.getsignal(signum) for signum in ENDING}
    try:
        for signum, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(signum, _raise)
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def check() -> None:
    """Raise Interrupted again if a signal came and somebody (pytest, for one) swallowed it."""
    if _received:
        raise Interrupted(_received[0])


def say_interrupted() -> int:
    """Say which signal ended the run; return 128 and its number, as shells do."""
    signum = next(iter(_received), signal.SIGINT)
    sys.stderr.write(f"\nhostwalk: interrupted by {signal.Signals(signum).name}\n")
    return 128 + signum
