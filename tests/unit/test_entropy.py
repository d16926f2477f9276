"""When a template is frozen: just after its kernel took a new key."""

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from hostwalk import entropy
from hostwalk.deadline import Deadline
from hostwalk.errors import WalkError


class Guest:
    """A cell whose generator has these generations, one after the other; it counts how often it was given time."""

    def __init__(self, *generations: int, symbols: tuple[str, ...] = (entropy.BASE,)) -> None:
        self._generations: Iterator[int] = iter(generations)
        self.naps = 0
        self.machine = SimpleNamespace(stopped=nullcontext, console=SimpleNamespace(drain=self._nap))
        self.linux = SimpleNamespace(symbols=symbols, anew=lambda: self.linux, uint=self._generation)

    def _generation(self, _address: int) -> int:
        return next(self._generations)

    def _nap(self, _deadline: Deadline) -> None:
        self.naps += 1


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy, "_generator", lambda _linux: (0, 40))


def test_the_wait_ends_with_the_next_key() -> None:
    guest = Guest(5, 5, 5, 6)
    entropy.await_new_key(guest, Deadline.after(60))  # type: ignore[arg-type]
    assert guest.naps == 3


def test_a_kernel_that_takes_none_is_waited_for_no_longer_than_the_deadline() -> None:
    guest = Guest(*[5] * 10)
    entropy.await_new_key(guest, Deadline.after(0))  # type: ignore[arg-type]
    assert guest.naps == 0


def test_a_generator_that_is_not_to_be_found_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_linux: object) -> None:
        raise WalkError("laid out otherwise")

    for guest in (Guest(symbols=()), Guest()):
        monkeypatch.setattr(entropy, "_generator", unknown)
        entropy.await_new_key(guest, Deadline.after(60))  # type: ignore[arg-type]
        assert guest.naps == 0
