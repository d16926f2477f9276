"""Backtraces over a stack and tables of our own."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hostwalk.errors import WalkError
from hostwalk.linux.stack import backtrace, in_text, name_of
from hostwalk.target import Arch

TEXT, ENTRY, END = 0x1000, 0x1800, 0x2000
IPS, ORCS, STACK = 0x10000, 0x20000, 0x30000
SP, BP, PREV, NONE = 5, 4, 1, 0
OUTER, MIDDLE, INNER, BROKEN = TEXT, TEXT + 0x100, TEXT + 0x200, TEXT + 0x300


class Symbols(dict[str, int]):
    def nearest(self, address: int) -> tuple[str, int]:
        name, start = max(
            ((name, start) for name, start in self.items() if start <= address and not name.startswith("_")),
            key=lambda each: each[1],
        )
        return name, address - start


class Fake:
    """Memory of a dictionary of bytes, and the symbols that a backtrace needs."""

    def __init__(self, **more: int) -> None:
        self.bytes: dict[int, int] = {}
        self.symbols = Symbols(
            _text=TEXT,
            _etext=END,
            outer=OUTER,
            middle=MIDDLE,
            inner=INNER,
            broken=BROKEN,
            entry=ENTRY,
            **more,
        )

    def put(self, at: int, data: bytes) -> None:
        self.bytes |= {at + offset: byte for offset, byte in enumerate(data)}

    def word(self, at: int, value: int) -> None:
        self.put(at, value.to_bytes(8, "little"))

    def uint(self, at: int, size: int = 8) -> int:
        return int.from_bytes(self._read(at, size), "little")

    def sint(self, at: int, size: int = 8) -> int:
        return int.from_bytes(self._read(at, size), "little", signed=True)

    def _read(self, at: int, size: int) -> bytes:
        if at not in self.bytes:
            raise WalkError(f"nothing at {at:#x}")
        return bytes(self.bytes.get(at + offset, 0) for offset in range(size))


def x86() -> Any:
    """A kernel: inner has a frame of 16 bytes, middle one by BP, outer one of 8, broken is in no table."""
    fake = Fake(
        __entry_text_start=ENTRY, __entry_text_end=ENTRY + 0x100, __start_orc_unwind_ip=IPS,
        __stop_orc_unwind_ip=IPS + 20, __start_orc_unwind=ORCS,
    )  # fmt: skip
    rows = [
        (OUTER, 8, 0, SP, NONE), (MIDDLE, 16, -16, BP, PREV), (INNER, 24, 0, SP, NONE), (BROKEN, 0, 0, NONE, NONE),
        (ENTRY, 0, 0, NONE, NONE),
    ]  # fmt: skip
    for number, (ip, sp_offset, bp_offset, sp_reg, bp_reg) in enumerate(rows):
        fake.put(IPS + 4 * number, struct.pack("<i", ip - (IPS + 4 * number)))
        fake.put(ORCS + 6 * number, struct.pack("<hhH", sp_offset, bp_offset, sp_reg | bp_reg << 4 | 0x2000))
    return fake


def stacked(fake: Any) -> dict[str, int]:
    """entry calls outer, outer middle, middle inner."""
    fake.word(STACK + 16, MIDDLE + 0x20)
    fake.word(STACK + 0x40, 0xB0)
    fake.word(STACK + 0x48, OUTER + 0x30)
    fake.word(STACK + 0x50, ENTRY + 0x40)
    return {"rip": INNER + 4, "rsp": STACK, "rbp": STACK + 0x40}


def test_frames_follow_the_tables_down_to_the_entry_code() -> None:
    fake = x86()
    frames = backtrace(fake, Arch.X86_64, stacked(fake))
    assert [str(frame) for frame in frames] == ["inner+0x4", "middle+0x20", "outer+0x30", "entry+0x40"]
    assert all(frame.sure for frame in frames)


def test_a_call_at_the_end_of_a_function_belongs_to_that_function() -> None:
    fake = x86()
    registers = stacked(fake)
    fake.word(STACK + 16, INNER)
    assert str(backtrace(fake, Arch.X86_64, registers)[1]) == "middle+0x100"


def test_where_the_tables_end_the_stack_is_searched_and_the_frame_is_not_sure() -> None:
    fake = x86()
    registers = stacked(fake) | {"rip": BROKEN + 4}
    fake.word(STACK, OUTER + 0x77)
    fake.word(STACK + 8, 0)
    fake.put(MIDDLE + 0x20 - 5, b"\xe8")
    fake.put(OUTER + 0x77 - 5, b"\x90")
    frames = backtrace(fake, Arch.X86_64, registers)
    assert [str(frame) for frame in frames][:3] == ["broken+0x4", "middle+0x20 ?", "outer+0x30"]


def test_a_stack_that_cannot_be_read_ends_the_trace() -> None:
    frames = backtrace(x86(), Arch.X86_64, {"rip": INNER, "rsp": 0x9_0000, "rbp": 0})
    assert [str(frame) for frame in frames] == ["inner+0x0"]


@pytest.mark.parametrize(("returns", "frames"), [(MIDDLE, 64), (0, 2)])
def test_a_ring_of_frames_comes_to_an_end(returns: int, frames: int) -> None:
    fake: Any = Fake()
    fake.word(STACK, STACK)
    fake.word(STACK + 8, returns)
    assert len(backtrace(fake, Arch.ARM64, {"pc": INNER, "x29": STACK, "x30": MIDDLE})) == frames


def test_frame_records_and_the_link_register_give_the_callers() -> None:
    fake: Any = Fake()
    fake.symbols |= {"_text": TEXT | 0xFFFF << 48, "_etext": END | 0xFFFF << 48}
    fake.symbols |= {name: fake.symbols[name] | 0xFFFF << 48 for name in ("outer", "middle", "inner")}
    high, signed = 0xFFFF << 48, 0x0080 << 48 | 0x5A << 56
    fake.word(STACK, STACK + 0x20)
    fake.word(STACK + 8, OUTER + 0x30 | signed)
    fake.word(STACK + 0x20, 0)
    fake.word(STACK + 0x28, 0)
    frames = backtrace(fake, Arch.ARM64, {"pc": INNER | high, "x29": STACK, "x30": MIDDLE + 0x20 | high})
    assert [str(frame) for frame in frames] == ["inner+0x0", "middle+0x20 ?", "outer+0x30"]


def test_symbols_that_name_no_addresses_leave_a_number() -> None:
    fake: Any = Fake()
    fake.symbols = dict(fake.symbols)
    assert name_of(fake, INNER + 1) == f"{INNER + 1:#x}"


def test_what_is_not_the_kernels_text_has_no_name() -> None:
    fake: Any = Fake()
    assert not in_text(fake, END)
    assert (name_of(fake, END), name_of(fake, INNER + 1)) == ("0x2000", "inner+0x1")
