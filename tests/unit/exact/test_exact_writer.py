"""Searching for the last change, with a replay that only counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from hostwalk.errors import Evidence, HostwalkError, MachineError, UsageError
from hostwalk.exact import writer
from hostwalk.exact.playing import Replay
from hostwalk.exact.writer import FAN, Change, Place, Question, Search
from hostwalk.machine.course import Mark
from hostwalk.memory.regions import Region
from hostwalk.repro.run import Outcome, Result

END = 500_000_000
PLACE = Place(0x1000, 8, "a word", (), entry=True)


@dataclass
class Counting:
    """A replay of which one word changes at the counts in ``changes``."""

    changes: tuple[int, ...]
    halts: int = 0
    recording: Any = field(
        default_factory=lambda: SimpleNamespace(
            marks=(Mark(100, "", "boot"), Mark(END, "", "verdict"), Mark(END + 9, "", "end")), verdict=1
        )
    )

    @contextmanager
    def bare(self, _regions: object) -> Iterator[Counting]:
        self.count = 0
        yield self

    def run_to(self, count: int) -> None:
        assert count >= self.count, "a replay only goes forward"
        self.count = count
        self.halts += 1

    @property
    def memory(self) -> Any:
        changed = sum(count <= self.count for count in self.changes)
        return SimpleNamespace(read=lambda _phys, size: changed.to_bytes(size, "little"))


def searching(*changes: int) -> tuple[Search, Counting]:
    player = Counting(changes)
    return Search(player, PLACE), player  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [1, 2, 77, FAN, 123_456_789, END - 1, END])
def test_the_last_change_is_found_to_the_instruction(at: int) -> None:
    search, player = searching(*(count for count in (1, at // 2, at) if count))
    assert search._last_change(END) == at
    assert search.replays <= 4
    assert player.halts <= 4 * (FAN + 2)


def test_a_change_after_the_verdict_is_none() -> None:
    search, _ = searching(END + 1)
    assert search._last_change(END) is None


def test_an_earlier_change_takes_no_second_look_at_the_whole_run() -> None:
    search, _ = searching(4_000_000, 400_000_000)
    assert search._last_change(END) == 400_000_000
    replays = search.replays
    assert search._last_change(400_000_000 - 1) == 4_000_000
    assert search.replays - replays <= 3


def change(icount: int, *, walker: bool) -> Change:
    return Change(icount, bytes(8), bytes(8), "main+0x1", (), "", None, walker)


def test_a_table_walk_is_told_and_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    search, _ = searching(1_000, 2_000, 3_000)
    monkeypatch.setattr(search, "_look", lambda count: change(count, walker=count > 2_000))
    assert [(found.icount, found.walker) for found in search.changes()] == [(3_000, True), (2_000, False)]


@pytest.mark.parametrize(
    ("count", "said"), [(5, "before 'boot'"), (101, "after 'boot' and before 'verdict'")]
)
def test_a_change_is_between_two_halts(count: int, said: str) -> None:
    assert searching()[0].during(count) == said


def test_names_of_the_script_come_before_symbols_of_the_kernel() -> None:
    names = {"area": 7, "jiffies": 8}
    moment: Any = SimpleNamespace(linux=SimpleNamespace(symbols={"jiffies": 1, "init_mm": 2}))
    given = [writer.evaluate(text, names, moment) for text in ("area + 1", "jiffies", "init_mm", "0x10")]
    assert given == [8, 8, 2, 16]
    with pytest.raises(UsageError, match="'nothing' gives no address"):
        writer.evaluate("nothing", names, moment)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question("1 << 64", physical=True), "number of more than 64 bits"),
        (Question("-8"), "number of more than 64 bits"),
        (Question("{}"), "is a dict, no address"),
        (Question("0x5000", physical=True), "0x5000: that is no RAM"),
        (Question("0x1ffc", physical=True), "0x1ffc: that is no RAM"),
        (Question("0x1ffc"), "8 bytes at 0x1ffc do not lie in one page"),
        (Question("0x1000", size=4097), "4097 bytes at 0x1000 do not lie in one page"),
    ],
)
def test_a_place_is_in_ram_and_in_one_page(question: Question, said: str) -> None:
    """Pages that are neighbours in an address space are none in RAM."""
    space = SimpleNamespace(format=SimpleNamespace(page_size=4096))
    moment = SimpleNamespace(linux=SimpleNamespace(symbols={}, kernel_space=space))
    memory = SimpleNamespace(regions=(Region(0x1000, 0x1000, 0),))
    cell: Any = SimpleNamespace(moment=lambda: moment, memory=memory)
    assert writer.locate(cell, {}, Question("0x1ff8", physical=True)).phys == 0x1FF8
    with pytest.raises(UsageError, match=said):
        writer.locate(cell, {}, question)


class Performing:
    """A replay that tells of an error in its outcome, as that of a script does."""

    def __init__(self, otherwise: Outcome, *, comes: bool = True) -> None:
        self.otherwise, self.comes = otherwise, comes

    def perform(self, at_verdict: Any) -> Replay:
        outcome = self.otherwise
        try:
            if self.comes:
                at_verdict(None, {})
        except HostwalkError as error:
            error.evidence = Evidence(console="[    0.000000] Linux version")
            outcome = Outcome(Result.UNPROVEN, said=error.message, error=error)
        return Replay(1, 1, (True,), outcome, 1.0)


def test_an_address_that_makes_no_sense_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def locate(*_: object) -> Place:
        raise UsageError("area[99] gives no address", remedy="give a number")

    monkeypatch.setattr(writer, "locate", locate)
    player: Any = Performing(Outcome(Result.REPRODUCES))
    with pytest.raises(UsageError, match=r"area\[99\] gives no address") as caught:
        writer.who_wrote(player, Question("area[99]"))
    assert not str(caught.value.evidence), "the guest's console explains nothing here"


def test_a_replay_that_does_not_come_to_the_verdict_is_told() -> None:
    for outcome, error, said in (
        (Outcome(Result.OTHER, said="1 == 2"), HostwalkError, "it fails otherwise: 1 == 2"),
        (
            Outcome(Result.UNPROVEN, error=MachineError("stopped elsewhere")),
            MachineError,
            "stopped elsewhere",
        ),
    ):
        player: Any = Performing(outcome, comes=False)
        with pytest.raises(error, match=said):
            writer.who_wrote(player, Question("0x1000"))
