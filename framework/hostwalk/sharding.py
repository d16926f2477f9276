"""Shards of a pytest session: which of what was selected is left, and that nothing left is no failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hostwalk import parallel
from hostwalk.claim import claim_of

if TYPE_CHECKING:
    from hostwalk.plugin import Session


class Sharding:
    """The plugin that leaves one shard of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave only the shard asked for, of what was selected otherwise."""
        shard = self._session.shard
        self._session.selected = len(items)
        others = [item for item in items if not shard.has(_part_of(item))]
        if others:
            items[:] = [item for item in items if shard.has(_part_of(item))]
            config.hook.pytest_deselected(items=others)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Let a shard pass that has no claims, where the whole would have some."""
        ours = self._session
        parallel.tell_selected(session.config, ours.selected)
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and ours.options.shard and ours.selected:
            session.exitstatus = pytest.ExitCode.OK


def _part_of(item: pytest.Item) -> str:
    """Return what all targets of a claim, or of a test without one, have in common."""
    claim = claim_of(item)
    return claim.id if claim is not None else f"{item.path.name}::{getattr(item, 'originalname', item.name)}"
