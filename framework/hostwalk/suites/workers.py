"""Runs steps of a suite with several workers, each a thread with a machine of its own; results come in their order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from hostwalk import process
from hostwalk.suites.outcome import Result
from hostwalk.suites.plan import Step

Run = Callable[[Step], tuple[Result, ...]]
END_SECONDS = 0.2


def ran(run: Run, steps: Sequence[Step], workers: int) -> Generator[tuple[Result, ...], None, None]:
    """Yield what each step comes to, in the order of the steps; raises what ``run`` raises.

    Whoever gives up closes it: what has not begun is not run, and machines are ended, so that no worker waits for one.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="hostwalk-suite") as pool:
        begun = [pool.submit(run, step) for step in steps]
        try:
            yield from (each.result() for each in begun)
        finally:
            _end(begun)


def _end(begun: Sequence[Future[tuple[Result, ...]]]) -> None:
    """Have all workers come to their end, those too that are just about to start a program."""
    for each in begun:
        each.cancel()
    while wait(begun, END_SECONDS).not_done:
        process.end_children()
