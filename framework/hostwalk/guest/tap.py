"""A tap on the public operations of subjects and of the witness: a listener hears each call that a test makes.

What an operation calls in its turn is not heard, for the listener decides what counts as outermost. Nobody listens
unless ``agent.tap`` is set.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from hostwalk.guest.agent import Agent

Tapped = TypeVar("Tapped", bound=type)
CONTEXT = ("__enter__", "__exit__")


@dataclass(frozen=True)
class Call:
    """A call of ``method`` of ``owner``, as it was made."""

    owner: object
    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Tap(Protocol):
    """A listener."""

    def hear(self, call: Call, make: Callable[[Call], Any]) -> Any:
        """Make the call, or one like it, and return what it returns, or something as good."""


def tapped(agent_of: Callable[[Any], Agent], *only: str) -> Callable[[Tapped], Tapped]:
    """Have the public methods of a class (or ``only`` some) heard by the tap of its agent."""

    def wrap(cls: Tapped) -> Tapped:
        for name, method in list(vars(cls).items()):
            wanted = name in only if only else not name.startswith("_") or name in CONTEXT
            if wanted and isinstance(method, FunctionType):
                setattr(cls, name, _heard(method, agent_of))
        return cls

    return wrap


def _heard(method: FunctionType, agent_of: Callable[[Any], Agent]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        tap = agent_of(self).tap
        if tap is None:
            return method(self, *args, **kwargs)
        return tap.hear(
            Call(self, method.__name__, args, kwargs), lambda made: method(self, *made.args, **made.kwargs)
        )

    return call


def own_agent(owner: Any) -> Agent:
    """Return the agent of what has one itself."""
    agent: Agent = owner.agent
    return agent
