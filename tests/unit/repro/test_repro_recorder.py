"""Steps that were heard, as the lines of a script."""

from __future__ import annotations

import contextlib

import pytest
from repro_stage import PAGE, Stage

from hostwalk.guest import SyscallFailed
from hostwalk.guest.failures import OutcomeError
from hostwalk.repro.names import Speaker, UnspeakableError
from hostwalk.repro.write import Writer, double_quoted, finished, wrapped


@pytest.fixture
def stage() -> Stage:
    return Stage()


def lines(stage: Stage, after: str = "") -> list[str]:
    writer = Writer(stage.recorder, Speaker(stage.roots, PAGE))
    return finished(writer.write(), after)


def test_calls_are_written_with_names_for_what_came_out_of_them(stage: Stage) -> None:
    subject, witness = stage.subject, stage.witness
    with stage.recorder.listening():
        area = subject.mmap(pages=4, prot="rw").touch()
        fd = subject.memfd(2)
        subject.mmap(2, shared=True, fd=fd, offset=PAGE)
        subject.munmap(area[1:3])
        subject.mprotect((area.address(3), PAGE), "r")
        subject.call("mlock", area.end + PAGE, 2 * PAGE)
        witness.pages(area)
    assert lines(stage) == [
        "area = subject.mmap(pages=4, prot='rw').touch()",
        "fd = subject.memfd(2)",
        "subject.mmap(2, shared=True, fd=fd, offset=subject.page_size)",
        "subject.munmap(area[1:3])",
        "subject.mprotect((area.address(3), subject.page_size), 'r')",
        "subject.call('mlock', area.end + subject.page_size, 2 * subject.page_size)",
        "witness.pages(area)",
    ]


def test_the_exercisers_file_is_said_by_its_name(stage: Stage) -> None:
    subject = stage.subject
    subject._exerciser_fd = 3
    with stage.recorder.listening():
        subject.mmap(2, fd=3)
        subject.mmap(2, fd=4)
    assert lines(stage) == ["subject.mmap(2, fd=subject.exerciser)", "subject.mmap(2, fd=4)"]


def test_nothing_is_heard_before_and_after(stage: Stage) -> None:
    stage.subject.mmap()
    with stage.recorder.listening():
        pass
    stage.subject.mmap()
    assert stage.recorder.events == []


def test_blocks_stay_blocks_and_end_where_the_failure_is(stage: Stage) -> None:
    stage.agent.refused = {"mlock": "ENOMEM"}
    subject = stage.subject
    with stage.recorder.listening(), contextlib.suppress(OutcomeError):
        area = subject.mmap()
        with subject.refuses("ENOMEM"):
            subject.mlock(area)
        with subject.refuses("EINVAL"):
            subject.munmap(area)
    assert lines(stage) == [
        "area = subject.mmap()",
        "with subject.refuses('ENOMEM'):",
        "    subject.mlock(area)",
        "with subject.refuses('EINVAL'):",
        "    subject.munmap(area)",
    ]


def test_an_error_that_the_test_went_on_from_is_expected(stage: Stage) -> None:
    stage.agent.refused = {"mlock": "EAGAIN"}
    with stage.recorder.listening():
        area = stage.subject.mmap()
        with pytest.raises(SyscallFailed):
            stage.subject.mlock(area)
        stage.subject.munmap(area)
    assert lines(stage)[1:3] == ["with subject.refuses('EAGAIN'):", "    subject.mlock(area)"]


def test_a_process_from_elsewhere_cannot_be_said(stage: Stage) -> None:
    other = Stage()
    other.subject.agent = stage.agent
    with stage.recorder.listening():
        other.subject.mmap()
    with pytest.raises(UnspeakableError, match="Subject"):
        lines(stage)


def test_page_frames_are_those_of_a_reading(stage: Stage) -> None:
    with stage.recorder.listening():
        seen = stage.witness.pages(stage.subject.mmap(pages=3))
    speaker = Speaker(stage.roots, PAGE, [(seen, "seen")])
    assert speaker.say(seen.pfns) == "seen.pfns"
    assert speaker.say(tuple(seen.pfns)[1:]) == "seen.pfns[1:]"
    assert speaker.say([seen.pfns[2], 7]) == "[seen.pfns[2], 7]"
    assert speaker.say((1, 1, 1)) == "(1, 1, 1)"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "3"), (-1, "-1"), (0x200000008, "subject.scratch + 8"), (5 * PAGE, "5 * subject.page_size"),
        ((1 << 64) - PAGE, "-4096 % (1 << 64)"), (True, "True"), (b"\0", r"b'\x00'"),
    ],
)  # fmt: skip
def test_plain_values(stage: Stage, value: object, said: str) -> None:
    assert Speaker(stage.roots, PAGE).say(value, raw=True) == said


def test_quotes_and_long_lines() -> None:
    assert double_quoted("f('a', \"b\", 'it\"s')\n") == 'f("a", "b", \'it"s\')\n'
    long = "    area = subject.mmap(" + ", ".join(["pages=1"] * 12) + ").touch()"
    assert [len(line) - len(line.lstrip()) for line in wrapped(long).splitlines()] == [4, 8, 4]
