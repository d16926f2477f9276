"""Machines of a suite: what they are made from is made once, and not before one is asked for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hostwalk.errors import ResolveError
from hostwalk.suites import machines as module
from hostwalk.suites.machines import Machines


def test_what_machines_are_made_from_is_made_once_when_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    made = SimpleNamespace(make=lambda: "cell")

    def of(prepared: object) -> SimpleNamespace:
        asked.append(f"source of {prepared}")
        return made

    monkeypatch.setattr(module.Source, "of", of)
    machines = Machines(lambda: asked.append("prepare") or "kernel")  # type: ignore[arg-type, func-returns-value]
    assert asked == []
    assert [machines.make(), machines.make()] == ["cell", "cell"]
    assert asked == ["prepare", "source of kernel"]


def test_a_failure_is_raised_to_each_that_asks() -> None:
    def fail() -> None:
        raise ResolveError("no such kernel")

    machines = Machines(fail)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(ResolveError, match="no such kernel"):
            machines.make()
