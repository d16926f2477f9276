"""QMP, QEMU's control protocol: qemu.qmp's asyncio client behind synchronous calls.

One event loop, on a thread of its own, serves every machine of the process. A command and its answer take
half a millisecond on an idle host.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import functools
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, Message, QMPClient, QMPError
from qemu.qmp.events import EventListener

from hostwalk.deadline import Deadline
from hostwalk.errors import GuestHungError, HostwalkError, MachineDiedError, Phase

DEFAULT_SECONDS = 10.0
END_SECONDS = 1.0
SLICE_SECONDS = 0.05
EVENTS_KEPT = 1000
_T = TypeVar("_T")
_lock = threading.Lock()
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
logging.getLogger("qemu.qmp").propagate = False


class QmpCommandError(HostwalkError):
    """QEMU refused a command; ``command`` and ``arguments`` say which, ``reason`` is QEMU's."""

    default_phase = Phase.OPERATION

    def __init__(self, command: str, arguments: Mapping[str, Any], reason: str) -> None:
        shown = f"{command} {dict(arguments)}" if arguments else command
        super().__init__(f"QEMU refused {shown}: {reason}")
        self.command = command
        self.arguments = dict(arguments)
        self.reason = reason


@dataclass(frozen=True)
class Event:
    """One QMP event, such as STOP, SHUTDOWN or GUEST_PANICKED."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)


@functools.cache
def _start_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="hostwalk-qmp", daemon=True).start()
    atexit.register(_end_tasks, loop)
    return loop


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """End what still runs when the program ends, lest the interpreter complains of each task."""
    with suppress(concurrent.futures.TimeoutError):
        asyncio.run_coroutine_threadsafe(_cancelled(), loop).result(END_SECONDS)


async def _cancelled() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _nothing() -> None:
    """Do nothing."""


def _wait(
    coroutine: Coroutine[Any, Any, _T],
    deadline: Deadline,
    what: str,
    meanwhile: Callable[[], object] = _nothing,
) -> _T:
    """Run a coroutine on the loop's thread, with a call of ``meanwhile`` now and then; GuestHungError in the end."""
    with _lock:
        loop = _start_loop()
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    while not concurrent.futures.wait([future], min(SLICE_SECONDS, deadline.remaining)).done:
        if deadline.expired:
            future.cancel()
            raise GuestHungError(f"QEMU did not answer {what} within {deadline.seconds:.3g} s")
        meanwhile()
    return future.result()


class _Listener(EventListener):
    """Hands every event on and keeps none."""

    def __init__(self, note: Callable[[Message], None]) -> None:
        super().__init__()
        self._note = note

    def accept(self, event: Message) -> bool:
        self._note(event)
        return False


class Qmp:
    """A QMP session; any thread may call its methods.

    ``events`` holds the last events, oldest first; ``shutdown`` is the SHUTDOWN event once the guest has
    ended; ``explain`` adds to an error what is known of the machine. ``meanwhile`` is called every 50 ms while an
    answer is awaited: a QEMU that finds the console's pipe full may not answer before somebody has read it.
    """

    def __init__(self, client: QMPClient, on_event: Callable[[Event], None]) -> None:
        self._client = client
        self._on_event = on_event
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.shutdown: Event | None = None
        self.explain: Callable[[HostwalkError], HostwalkError] = lambda error: error
        self.meanwhile: Callable[[], object] = _nothing

    @classmethod
    def connect(
        cls, sock: socket.socket, deadline: Deadline, on_event: Callable[[Event], None] = lambda event: None
    ) -> Qmp:
        """Negotiate over a connected socket, which the session owns from now on.

        ``on_event`` is called on the loop's thread and must not wait. Raises MachineDiedError,
        GuestHungError.
        """
        return _wait(cls._connect(sock, on_event), deadline, "the QMP greeting")

    @classmethod
    async def _connect(cls, sock: socket.socket, on_event: Callable[[Event], None]) -> Qmp:
        client = QMPClient()
        qmp = cls(client, on_event)
        client.events.event_filter = lambda message: False
        client.register_listener(_Listener(qmp._note))
        try:
            await client.connect(sock)
        except (QMPError, EOFError, OSError) as error:
            raise MachineDiedError("QEMU ended before it greeted", phase=Phase.LAUNCH) from error
        return qmp

    def _note(self, message: Message) -> None:
        data = message.get("data", {})
        event = Event(str(message["event"]), data if isinstance(data, dict) else {})
        self.events.append(event)
        if event.name == "SHUTDOWN":
            self.shutdown = event
        self._on_event(event)

    def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, deadline: Deadline | None = None
    ) -> Any:
        """Execute a command and return what it returns.

        Raises QmpCommandError when QEMU refuses it, MachineDiedError when QEMU has gone, GuestHungError when
        it does not answer before the deadline (10 s unless given).
        """
        given = dict(arguments or {})
        try:
            return _wait(
                self._client.execute(command, given), deadline or Deadline.after(DEFAULT_SECONDS), command,
                self.meanwhile,
            )  # fmt: skip
        except ExecuteError as error:
            raise QmpCommandError(command, given, error.error.error.desc) from error
        except GuestHungError as error:
            raise self.explain(error) from None
        except (QMPError, EOFError, OSError) as error:
            raise self.explain(MachineDiedError(f"QEMU ended before it answered {command}")) from error

    def give(self, descriptor: int, name: str, deadline: Deadline | None = None) -> None:
        """Hand QEMU a copy of a descriptor, which later commands call by a name; raises what ``execute`` raises."""
        limit = deadline or Deadline.after(DEFAULT_SECONDS)
        try:
            _wait(self._give(descriptor, name), limit, "getfd")
        except ExecuteError as error:
            raise QmpCommandError("getfd", {"fdname": name}, error.error.error.desc) from error
        except GuestHungError as error:
            raise self.explain(error) from None
        except (QMPError, EOFError, OSError) as error:
            raise self.explain(MachineDiedError("QEMU ended before it took a descriptor")) from error

    async def _give(self, descriptor: int, name: str) -> None:
        self._client.send_fd_scm(descriptor)
        await self._client.execute("getfd", {"fdname": name})

    def hmp(self, line: str, cpu: int | None = None, deadline: Deadline | None = None) -> str:
        """Execute a line of the human monitor, on a processor where given, and return its text."""
        arguments = {"command-line": line} | ({"cpu-index": cpu} if cpu is not None else {})
        return str(self.execute("human-monitor-command", arguments, deadline)).replace("\r\n", "\n")

    def close(self, deadline: Deadline) -> None:
        """End the session; harmless when QEMU has gone."""
        try:
            _wait(self._client.disconnect(), deadline, "the end of the session")
        except (QMPError, EOFError, OSError, GuestHungError):
            return
