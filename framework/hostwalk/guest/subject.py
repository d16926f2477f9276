"""Subjects: guest processes whose address spaces are under test."""

from __future__ import annotations

from hostwalk.guest.conditions import Conditions
from hostwalk.guest.gup import GetUserPages
from hostwalk.guest.insert import Insert
from hostwalk.guest.modules import Modules
from hostwalk.guest.tap import own_agent, tapped


@tapped(own_agent)
class Subject(GetUserPages, Insert, Modules, Conditions):
    """A process or thread of the guest that does what it is told; a context manager that ends it."""

    def fork(self) -> Subject:
        """Return a child, which has not inherited the exerciser's file; raises SyscallFailed."""
        child = Subject.of_reply(self.agent, self.duplicate("FORK"))
        if self._exerciser_fd is not None:
            child.close(self._exerciser_fd)
        return child

    def thread(self) -> Subject:
        """Return a new thread of this process, a subject of its own; raises SyscallFailed."""
        thread = Subject.of_reply(self.agent, self.duplicate("THREAD"))
        thread._exerciser_fd = self._exerciser_fd
        return thread
