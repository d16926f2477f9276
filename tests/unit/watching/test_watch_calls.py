"""Points by name, and how a call reads that was seen at one."""

from __future__ import annotations

import struct

import pytest

from hostwalk.errors import UsageError
from hostwalk.target import Arch
from hostwalk.watching.begin import Wanted
from hostwalk.watching.calls import (
    FRAME_SIZE,
    Call,
    Point,
    arguments_in,
    default_points,
    points,
    shown,
)

ABI = {
    "PROT_NONE": 0, "PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4, "MAP_TYPE": 15, "MAP_SHARED": 1,
    "MAP_PRIVATE": 2, "MAP_FIXED": 16, "MAP_ANONYMOUS": 32, "MAP_HUGE_SHIFT": 26, "MAP_HUGE_2MB": 21 << 26,
    "MADV_NORMAL": 0, "MADV_DONTNEED": 4, "MADV_HUGEPAGE": 14, "EINVAL": 22,
}  # fmt: skip
SYMBOLS = {"__x64_sys_mprotect": 0x1000, "__x64_sys_munmap": 0x2000, "mprotect": 0x3000, "do_exit": 0x4000}
MASK = (1 << 64) - 1


def call(name: str, *arguments: int, result: int | None = None, is_call: bool = True) -> str:
    return shown(Call(name, arguments, is_call, result), ABI)


def test_a_name_is_a_system_call_s_before_it_is_a_function_s() -> None:
    assert points(["mprotect", "do_exit"], Arch.X86_64, SYMBOLS) == (
        Point("mprotect", 0x1000, is_call=True),
        Point("do_exit", 0x4000),
    )
    assert [point.name for point in default_points(Arch.X86_64, SYMBOLS)] == ["munmap", "mprotect"]


def test_a_name_that_the_kernel_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match="neither a system call nor a function 'munmap'"):
        points(["munmap"], Arch.ARM64, SYMBOLS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (call("mprotect", 0x7000, 0x4000, 3, 9, 9, 9), "mprotect(0x7000, 0x4000, PROT_READ|PROT_WRITE)"),
        (call("mprotect", 0x7000, 0x4000, 0, result=0), "mprotect(0x7000, 0x4000, PROT_NONE) = 0"),
        (call("mprotect", 1, 1, 0x10, result=-22), "mprotect(0x1, 0x1, 0x10) = EINVAL"),
        (
            call("mmap", 0, 0x1000, 1, 0x32, MASK, 0, result=0x7000),
            "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x7000",
        ),
        (call("madvise", 0x7000, 0x1000, 0), "madvise(0x7000, 0x1000, MADV_NORMAL)"),
        (call("madvise", 0x7000, 0x1000, 14), "madvise(0x7000, 0x1000, MADV_HUGEPAGE)"),
        (call("madvise", 0x7000, 0x1000, 99), "madvise(0x7000, 0x1000, 99)"),
        (call("fork", 1, 2, 3, result=93), "fork() = 93"),
        (call("handle_mm_fault", 1, 2, 3, 4, 5, 6, is_call=False, result=-22), "handle_mm_fault(1, 2, 3, 4) = -22"),
    ],
)  # fmt: skip
def test_a_call_reads_as_source(text: str, words: str) -> None:
    assert text == words


@pytest.mark.parametrize(
    ("arch", "places"), [(Arch.X86_64, (14, 13, 12, 7, 9, 8)), (Arch.ARM64, (0, 1, 2, 3, 4, 5))]
)
def test_arguments_lie_in_the_registers_that_the_kernel_saved(arch: Arch, places: tuple[int, ...]) -> None:
    frame = [0] * (FRAME_SIZE // 8)
    for number, place in enumerate(places):
        frame[place] = number + 1
    assert arguments_in(struct.pack(f"<{len(frame)}Q", *frame), arch) == (1, 2, 3, 4, 5, 6)


def test_a_request_is_milliseconds_or_names() -> None:
    assert Wanted.parse("") == Wanted()
    assert Wanted.parse("2.5") == Wanted(every=0.0025)
    assert Wanted.parse("mprotect,do_exit") == Wanted(at=("mprotect", "do_exit"))
    with pytest.raises(UsageError, match="every 0 ms"):
        Wanted.parse("0")
