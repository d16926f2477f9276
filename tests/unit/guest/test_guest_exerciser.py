"""The exerciser's client against a scripted exerciser, in the layout of the real interface."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from conftest import reply

from hostwalk.errors import UsageError
from hostwalk.guest import Agent, NotExported, Subject, SyscallFailed
from hostwalk.guest.structs import Struct
from hostwalk.guest.wire import Frame
from hostwalk.image.layout import Layout

SCRATCH = 0x201000000
LAYOUT = {"FOLL_WRITE": 1, "FOLL_FORCE": 16, "FOLL_LONGTERM": 256, "FOLL_NOWAIT": 32}


@dataclass
class Exerciser:
    """Answers ioctls with ``fills`` (by structure) and remembers what was asked."""

    abi: Layout
    fills: dict[str, dict[str, int]] = field(default_factory=dict)
    pfns: tuple[int, ...] = (0x100, 0x101, 0x102, 0x103)
    asked: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    returned: int = 0
    mapped: int = 0x7000_0000

    def answer(self, request: Frame) -> Frame:
        nr = request.args[0]
        if nr == self.abi["__NR_ioctl"]:
            return self._ioctl(request)
        value = {self.abi["__NR_openat"]: 3, self.abi["__NR_mmap"]: self.mapped}.get(nr, 0)
        return reply(request, value)

    def _ioctl(self, request: Frame) -> Frame:
        shapes = {
            self.abi[f"HOSTWALK_IOC_{name.upper()}"]: shape
            for name, shape in (
                ("gup", "gup"), ("release", "release"), ("alloc", "alloc"), ("insert", "insert"),
                ("result", "insert_result"),
            )
        }  # fmt: skip
        shape = shapes[request.args[2]]
        layout = Struct(self.abi, f"struct hostwalk_{shape}")
        members = layout.unpack(request.payload)
        self.asked.append((shape, members))
        room = (len(request.payload) - layout.size) // 8
        behind = struct.pack(f"<{room}Q", *(self.pfns + (0,) * room)[:room])
        payload = layout.pack(**(members | self.fills.get(shape, {}))) + behind
        return reply(request, self.returned, payload=payload)


Make = Callable[..., tuple[Subject, Exerciser]]


@pytest.fixture
def make(abi: Layout, scripted: Callable[..., socket.socket]) -> Make:
    def build(**fills: dict[str, int]) -> tuple[Subject, Exerciser]:
        exerciser = Exerciser(abi, fills)
        agent = Agent(scripted(exerciser.answer, abi), abi, LAYOUT, seconds=2)
        agent.page_size = 4096
        return Subject(agent, 4, 100, SCRATCH, 1 << 20), exerciser

    return build


def test_what_is_asked_of_get_user_pages(make: Make, abi: Layout) -> None:
    subject, exerciser = make(gup={"ret": 3, "filled": 3, "handle": 9, "locked": -1})
    area = subject.area(0x10000, 3)
    with subject.get_user_pages(area, write=True, force=True, flags=0x8000) as pins:
        assert (pins.returned, pins.errno, pins.filled, pins.locked) == (3, None, 3, -1)
        assert pins.pfns == (0x100, 0x101, 0x102)
    _, asked = exerciser.asked[0]
    assert asked["call"] == abi["HOSTWALK_GET_USER_PAGES"]
    assert (asked["start"], asked["nr_pages"], asked["gup_flags"], asked["pid"]) == (0x10000, 3, 0x8011, 0)
    assert asked["pfns"] == SCRATCH + abi["sizeof(struct hostwalk_gup)"]
    assert asked["capacity"] >= 3
    assert exerciser.asked[1] == (
        "release",
        {"handle": 9, "how": abi["HOSTWALK_PUT_PAGE"], "first": 0, "count": 0},
    )


def test_a_listener_hears_what_was_asked_and_what_came_of_it(make: Make) -> None:
    subject, _ = make(gup={"ret": 2, "filled": 2, "handle": 9})
    heard: list[tuple[str, str, str]] = []
    subject.agent.listener = lambda _who, reply: heard.append((reply.call, reply.details, reply.outcome))
    with subject.get_user_pages(0x7F00_0000_0000, nr_pages=2, write=True):
        pass
    calls, details, outcomes = zip(*heard, strict=True)
    assert calls[1:] == (
        "subject 4: ioctl(GUP, get_user_pages)", "subject 4: get_user_pages()", "subject 4: ioctl(RELEASE, put_page)",
    )  # fmt: skip
    assert "start=0x7f0000000000" in details[1]
    assert "nr_pages=2" in details[1]
    assert outcomes[2] == "2"


@pytest.mark.parametrize("nr_pages", [0, -1, -(1 << 63), 1 << 40])
def test_odd_numbers_are_passed_on(make: Make, nr_pages: int) -> None:
    subject, exerciser = make(gup={"ret": 0, "filled": 0})
    with subject.get_user_pages_fast(0x1234, nr_pages=nr_pages):
        pass
    assert [shape for shape, _ in exerciser.asked] == ["gup"]
    assert (exerciser.asked[0][1]["nr_pages"], exerciser.asked[0][1]["start"]) == (nr_pages, 0x1234)


def test_flags_and_options_by_name(make: Make, abi: Layout) -> None:
    subject, exerciser = make(gup={"ret": 0, "filled": 0})
    with subject.get_user_pages(0x1000, write=True, no_pages=True, write_lock=True):
        pass
    options = abi["HOSTWALK_GUP_NO_PAGES"] | abi["HOSTWALK_GUP_WRITE_LOCK"]
    assert (exerciser.asked[0][1]["gup_flags"], exerciser.asked[0][1]["options"]) == (1, options)


def test_a_call_may_be_awaited_later(make: Make) -> None:
    subject, _ = make(gup={"ret": 2, "filled": 2, "handle": 9})
    with subject.start_gup("get_user_pages", 0x1000, 2).result() as pins:
        assert (pins.function, pins.returned) == ("get_user_pages", 2)


def test_an_errno_for_a_count_keeps_the_pins(make: Make, abi: Layout) -> None:
    subject, exerciser = make(gup={"ret": 2, "filled": 2, "handle": 9})
    with subject.pin_user_pages(subject.area(0, 2)) as pins:
        pins.unpin_error()
    hows = [asked["how"] for shape, asked in exerciser.asked if shape == "release"]
    assert hows == [abi["HOSTWALK_UNPIN_USER_PAGES_ERROR"], abi["HOSTWALK_UNPIN_USER_PAGE"]]


def test_partial_release(make: Make, abi: Layout) -> None:
    subject, exerciser = make(gup={"ret": 4, "filled": 4, "handle": 9})
    with subject.pin_user_pages(subject.area(0, 4)) as pins:
        pins.unpin(first=1, count=2)
        pins.unpin_dirty_lock(first=0, count=1)
    hows = [
        (asked["how"], asked["first"], asked["count"])
        for shape, asked in exerciser.asked
        if shape == "release"
    ]
    unpin, dirty = abi["HOSTWALK_UNPIN_USER_PAGE"], abi["HOSTWALK_UNPIN_USER_PAGES_DIRTY_LOCK"]
    assert hows == [(unpin, 1, 2), (dirty, 0, 1), (unpin, 0, 0)]


def test_all_released_means_nothing_left_to_do(make: Make) -> None:
    subject, exerciser = make(gup={"ret": 2, "filled": 2, "handle": 9})
    with subject.get_user_pages(subject.area(0, 2)) as pins:
        pins.set_page_dirty_lock()
    assert [shape for shape, _ in exerciser.asked] == ["gup", "release"]


def test_a_call_that_fails_is_a_result(make: Make) -> None:
    subject, _ = make(gup={"ret": -14, "filled": 0})
    with subject.get_user_pages(0) as pins:
        assert (pins.returned, pins.errno, pins.pfns) == (-14, "EFAULT", ())
    with subject.refuses("EFAULT"):
        subject.get_user_pages(0)


def test_remote_names_the_other_process(make: Make) -> None:
    subject, exerciser = make()
    subject.get_user_pages_remote(Subject(subject.agent, 5, 321, 0, 0), 0x1000)
    assert exerciser.asked[0][1]["pid"] == 321


def test_functions_that_modules_cannot_call(make: Make, abi: Layout) -> None:
    subject, exerciser = make()
    exerciser.returned = -abi["EOPNOTSUPP"]
    with pytest.raises(NotExported, match="get_user_pages_fast_only") as raised:
        subject.get_user_pages_fast_only(0)
    assert raised.value.function == "get_user_pages_fast_only"
    exerciser.returned = -abi["ENOMEM"]
    with pytest.raises(SyscallFailed, match="GUP, pin_user_pages"):
        subject.pin_user_pages(0)


def test_pages(make: Make, abi: Layout) -> None:
    subject, exerciser = make(alloc={"handle": 6})
    pages = subject.alloc_pages("split", order=2)
    assert (pages.handle, pages.pfns, len(pages)) == (6, (0x100, 0x101, 0x102, 0x103), 4)
    assert exerciser.asked[0][1]["kind"] == abi["HOSTWALK_PAGE_SPLIT"]
    assert subject.alloc_pages("anon", addr=0x5000).pfns == (0x100,)


def test_insertion_by_mmap(make: Make, abi: Layout) -> None:
    subject, exerciser = make(alloc={"handle": 6}, insert_result={"runs": 1, "ret": -16, "num": 2})
    inserted = subject.insert("vm_insert_pages", subject.alloc_pages(nr=4), first=1, map_pages=8, keep=True)
    assert (inserted.errno, inserted.ret, inserted.num) == ("EBUSY", -16, 2)
    assert (inserted.area.start, inserted.area.pages) == (exerciser.mapped, 8)
    asked = exerciser.asked[1][1]
    assert (asked["alloc"], asked["first"], asked["nr"], asked["when"]) == (
        6,
        1,
        3,
        abi["HOSTWALK_WHEN_MMAP"],
    )
    assert asked["options"] == abi["HOSTWALK_INSERT_KEEP"]


def test_insertion_now(make: Make) -> None:
    subject, exerciser = make(alloc={"handle": 6}, insert={"ret": -14, "num": 1})
    area = subject.area(0x8000, 2)
    again = subject.insert("vm_insert_page", subject.alloc_pages(), when="now", at=area, offset=-4096)
    assert (again.errno, again.num, again.area) == ("EFAULT", 1, area)
    assert (exerciser.asked[1][1]["addr"], exerciser.asked[1][1]["offset"]) == (0x8000, -4096)
    with pytest.raises(UsageError):
        subject.insert("vm_insert_page", subject.alloc_pages(), at=area)


def test_a_mapping_that_was_refused(make: Make, abi: Layout) -> None:
    subject, exerciser = make(insert_result={"ret": -6})
    exerciser.mapped = -abi["ENXIO"]
    inserted = subject.insert("vm_map_pages", subject.alloc_pages())
    assert (inserted.errno, inserted.mapping) == ("ENXIO", None)
    with pytest.raises(SyscallFailed, match="vm_map_pages"):
        assert inserted.area
