"""Recording: what a test does to subjects and asks of the witness, step by step."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType, TracebackType
from typing import Any

from hostwalk.guest import Agent
from hostwalk.guest.tap import CONTEXT, Call

OURS = ("hostwalk.guest.", "hostwalk.repro.recorder", "contextlib")
SELF = -1
"""Of a frame that is not on the stack: no place."""


@dataclass(frozen=True)
class Place:
    """Where in a test a call stands: its function's code, and line and column of its start and end."""

    code: CodeType
    line: int
    end_line: int
    column: int
    end_column: int


@dataclass(eq=False)
class Step:
    """One call, with what it returned or raised."""

    call: Call
    place: Place | None
    result: Any = None
    error: BaseException | None = None

    @property
    def method(self) -> str:
        """The name of what was called."""
        return self.call.method


@dataclass(eq=False)
class Edge:
    """The beginning or the end of a ``with`` block on the result of a step.

    ``unwound``: an exception went through it. ``error``: what its end raised of its own.
    """

    step: Step
    begins: bool
    unwound: bool = False
    error: BaseException | None = None


class Number(int):
    """A number that the guest has given, such as a descriptor: equal to it, and known as the result of its step."""


@dataclass
class Recorder:
    """A tap that keeps what it hears; ``agent.tap`` is set within ``with recorder.listening():``."""

    agent: Agent
    events: list[Step | Edge] = field(default_factory=list)
    _depth: int = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[Recorder]:
        """Hear what is called in the block."""
        self.agent.tap = self
        try:
            yield self
        finally:
            self.agent.tap = None

    def hear(self, call: Call, make: Callable[[Call], Any]) -> Any:
        """Make an outermost call and keep it; the calls that it makes in its turn are its own affair."""
        if self._depth:
            return make(call)
        if call.method in CONTEXT:
            return self._edge(call, make)
        made = Call(call.owner, call.method, tuple(_kept(arg) for arg in call.args), dict(call.kwargs))
        step = Step(made, _place(sys._getframe(2)))
        self.events.append(step)
        try:
            step.result = self._known(step, self._quietly(make, made))
        except BaseException as error:
            step.error = error
            raise
        return step.result

    def _quietly(self, make: Callable[[Call], Any], call: Call) -> Any:
        self._depth += 1
        try:
            return make(call)
        finally:
            self._depth -= 1

    def _known(self, step: Step, result: Any) -> Any:
        """Return a result that can be recognised when it comes back."""
        if type(result) is int:
            return Number(result)
        is_plain = isinstance(result, contextlib.AbstractContextManager)
        return Block(self, step, result) if is_plain and type(result).__module__ == "contextlib" else result

    def _edge(self, call: Call, make: Callable[[Call], Any]) -> Any:
        """Note the block of an object whose class is tapped itself."""
        step = self.step_of(call.owner)
        if step is None:
            return self._quietly(make, call)
        unwound = call.method == "__exit__" and bool(call.args) and call.args[0] is not None
        edge = Edge(step, call.method == "__enter__", unwound)
        self.events.append(edge)
        return self._quietly(make, call)

    def step_of(self, result: object) -> Step | None:
        """Return the step that first gave this very object."""
        steps = (event for event in self.events if isinstance(event, Step))
        return next((step for step in steps if step.result is result and result is not None), None)

    def block(self, step: Step, manager: contextlib.AbstractContextManager[Any]) -> Any:
        """Enter a block of a context manager that is not tapped itself."""
        self.events.append(Edge(step, begins=True))
        return self._quietly(lambda _call: manager.__enter__(), step.call)

    def end_block(
        self, step: Step, manager: contextlib.AbstractContextManager[Any], error: Sequence[Any]
    ) -> bool | None:
        """Leave it; what it raises then is its own failure."""
        edge = Edge(step, begins=False, unwound=error[0] is not None)
        self.events.append(edge)
        try:
            swallowed = self._quietly(lambda _call: manager.__exit__(*error), step.call)
        except BaseException as raised:
            if raised is not error[1]:
                edge.unwound, edge.error = False, raised
            raise
        edge.unwound = edge.unwound and not swallowed
        return bool(swallowed)


class Block:
    """Stands for a context manager that an operation returned: ``refuses``, ``faults``, ``sysctl``."""

    def __init__(
        self, recorder: Recorder, step: Step, manager: contextlib.AbstractContextManager[Any]
    ) -> None:
        self._recorder, self._step, self._manager = recorder, step, manager
        self.value: Any = None

    def __enter__(self) -> Any:
        value = self._recorder.block(self._step, self._manager)
        self.value = Number(value) if type(value) is int else value
        return self.value

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._recorder.end_block(self._step, self._manager, (kind, value, trace))


def _kept(arg: Any) -> Any:
    """Return an argument that can be looked at later: what an iterator gives is taken out of it once."""
    return tuple(arg) if isinstance(arg, Iterator) else arg


def _place(frame: FrameType | None) -> Place | None:
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(OURS):
        frame = frame.f_back
    if frame is None or frame.f_lasti < 0:
        return None
    positions = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    line, end_line, column, end_column = (SELF if each is None else each for each in positions)
    return Place(frame.f_code, line, end_line, column, end_column)
