"""``hostwalk run --watch-json``: a line for each sample, and a file that cannot be written."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostwalk import watching
from hostwalk.cli import run as run_verb
from hostwalk.cli import watched
from hostwalk.deadline import Deadline
from hostwalk.errors import CommandTimeoutError, HostwalkError, UsageError
from hostwalk.machine.pump import Streams

FULL = Path("/dev/full")


class Run:
    """Stands for a command under a watch: samples, and how it ends; ``lines`` is what the file has meanwhile."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.samples = [{"number": 0}, {"number": 1}]
        self.last: list[dict[str, int]] = []
        self.end: HostwalkError | None = None
        self.lines: list[str] = []
        self.watch = SimpleNamespace(due=0.0, fileno=lambda: -1, serve=lambda: None, take=self.take)

    def take(self) -> Iterator[dict[str, int]]:
        while self.samples:
            yield self.samples.pop(0)

    def finish(self, streams: Streams) -> int:
        assert streams.beside is not None
        streams.beside.serve()
        self.lines = self.place.read_text().splitlines()
        self.samples = self.last
        if self.end is not None:
            raise self.end
        return 7


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    made = Run(tmp_path / "watch.json")

    @contextmanager
    def started(*_: object) -> Iterator[Run]:
        yield made

    monkeypatch.setattr(watching, "watched", started)
    monkeypatch.setattr(watching, "plain", lambda sample: sample)
    return made


def stream(place: Path) -> int:
    args = argparse.Namespace(watch="", watch_json=str(place), command=["./test"])
    return watched.stream(SimpleNamespace(), args, Streams(), Deadline.after(5))  # type: ignore[arg-type]


def test_each_sample_is_a_line_and_there_at_once(run: Run) -> None:
    run.last = [{"number": 2}]
    assert stream(run.place) == 7
    assert [json.loads(line)["number"] for line in run.lines] == [0, 1]
    assert [json.loads(line)["number"] for line in run.place.read_text().splitlines()] == [0, 1, 2]


@pytest.mark.skipif(not FULL.is_char_device(), reason="this host has no /dev/full")
@pytest.mark.parametrize("when", ["meanwhile", "at the end"])
def test_a_full_disk_is_an_error_of_hostwalk_s_and_no_defect(run: Run, when: str) -> None:
    if when == "at the end":
        run.samples, run.last = [], run.samples
    run.place = Path("/dev/null")
    with pytest.raises(HostwalkError, match="cannot write /dev/full: No space left on device") as caught:
        stream(FULL)
    assert run_verb.status_of(caught.value) == run_verb.FAILED


@pytest.mark.skipif(not FULL.is_char_device(), reason="this host has no /dev/full")
def test_what_ended_the_command_is_told_before_a_full_disk(run: Run) -> None:
    run.samples, run.last, run.end = [], run.samples, CommandTimeoutError("late")
    run.place = Path("/dev/null")
    with pytest.raises(CommandTimeoutError, match="late"):
        stream(FULL)


def test_a_place_that_cannot_be_written_is_a_matter_of_usage(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        stream(tmp_path / "no" / "watch.json")
