"""A command in a guest, watched from its first instruction on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from hostwalk.deadline import Deadline
from hostwalk.errors import LoginError
from hostwalk.machine.pump import Streams
from hostwalk.machine.ssh import GO, Command, Finished
from hostwalk.watching.begin import DEFAULT, WATCH_SECONDS, Wanted, begin
from hostwalk.watching.sample import Sample
from hostwalk.watching.watch import Watch

if TYPE_CHECKING:
    from hostwalk.cell import Cell

LOOK_SECONDS = 0.02
START_SECONDS = 30.0


class Watched:
    """A command that waits to be let go: iterate over its samples, or have :meth:`finish` serve the watch.

    ``finished`` is its status and what it said, once it has ended; it may say 2 MiB before somebody finishes it.
    """

    def __init__(self, watch: Watch, command: Command) -> None:
        self.watch = watch
        self.finished: Finished | None = None
        self._command = command

    def __iter__(self) -> Iterator[Sample]:
        """Let it go and yield what the watch sees, to the command's end."""
        self._command.go()
        yield from self.watch
        out, err = bytearray(), bytearray()
        status = self._command.finish(Streams(out.extend, err.extend, beside=self.watch))
        self.finished = Finished(status, bytes(out), bytes(err))
        yield from self.watch.take()

    def finish(self, streams: Streams) -> int:
        """Let it go, serve ``streams.beside`` until it has ended, and return its status; errors are Ssh.stream's."""
        return self._command.finish(replace(streams, first=GO))


@contextmanager
def watched(
    cell: Cell, argv: Sequence[str], wanted: Wanted = DEFAULT, deadline: Deadline | None = None
) -> Iterator[Watched]:
    """Start a command in a machine that one can log in to, to be watched; it ends with the block.

    Raises LoginError, UsageError for a point that the kernel has not, and what the machine's ``watch`` raises.
    """
    limit = deadline or Deadline.after(WATCH_SECONDS)
    with cell.machine.ssh().holding(argv, deadline=limit) as command:
        pid = _found(cell, command, limit.at_most(START_SECONDS))
        with begin(cell, pid, wanted, limit, from_exec=True) as watch:
            yield Watched(watch, command)


def _found(cell: Cell, command: Command, limit: Deadline) -> int:
    """Return the pid of a process that is held: guest memory tells."""
    while True:
        with cell.machine.stopped():
            tasks = cell.moment().linux.tasks()
            pid = next((task.pid for task in tasks if task.comm == command.name), 0)
        if pid:
            return pid
        cell.machine.watch()
        if limit.expired or command.channel.closed:
            raise LoginError(f"the command did not start within {limit.seconds:.3g} s")
        cell.machine.console.drain(limit.at_most(LOOK_SECONDS))
