from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from hostwalk.memory import FakeMemory, Region
from hostwalk.sabotage import (
    Sabotage,
    SabotageError,
    Saboteur,
    Write,
    entry_bit,
    entry_pfn,
    refcount,
    vm_flag,
)
from hostwalk.target import Arch

TABLE = 0x1000


@dataclass
class FakeMoment:
    memory: FakeMemory
    arch: Arch = Arch.X86_64
    zero_pfn: int = 0x77
    layout: dict[str, int] = field(default_factory=lambda: {"PAGE_SHIFT": 12, "VM_LOCKED": 0x2000})

    def field(self, address: int, type_: str, member: str) -> int:
        return address + {"vm_flags": 0x20}[member]

    def page_field(self, page: Any, member: str) -> int:
        return int(page.head_address) + {"_refcount": 0x34}[member]


def memory() -> FakeMemory:
    made = FakeMemory((Region(0, 1 << 20),))
    made.write(TABLE, (0x8000000000005067).to_bytes(8, "little") + bytes(8))
    return made


def record(index: int, **extra: Any) -> SimpleNamespace:
    entry = 0x8000000000005067 if index == 0 else 0
    return SimpleNamespace(entry=entry, entry_phys=TABLE + 8 * index, level="pte", frame=None, **extra)


def reading(kind: str = "pages", **extra: Any) -> Any:
    return SimpleNamespace(kind=kind, records=(record(0), record(1)), **extra)


def struck(sabotage: Sabotage, moment: FakeMoment, *readings: Any) -> list[int]:
    """Return the first entry's value during each reading."""
    saboteur = Saboteur(sabotage)
    seen = []
    for each in readings:
        with saboteur.strike(moment, each):  # type: ignore[arg-type]
            seen.append(int.from_bytes(moment.memory.read(TABLE, 8), "little"))
    return seen


def test_it_strikes_once_at_its_reading_and_puts_the_bytes_back() -> None:
    moment = FakeMoment(memory())
    seen = struck(entry_bit("writable", set=False, at=2), moment, reading(), reading(), reading())
    assert seen == [0x8000000000005067, 0x8000000000005065, 0x8000000000005067]
    assert moment.memory.read(TABLE, 8) == (0x8000000000005067).to_bytes(8, "little")


def test_readings_of_other_kinds_do_not_count() -> None:
    seen = struck(entry_pfn(+1, at=1), FakeMoment(memory()), reading("mm"), reading("frames"), reading())
    assert seen == [0x8000000000005067, 0x8000000000005067, 0x8000000000006067]


def test_bytes_come_back_when_the_reading_fails() -> None:
    moment = FakeMoment(memory())
    with pytest.raises(ZeroDivisionError), Saboteur(entry_pfn(+1)).strike(moment, reading()):  # type: ignore[arg-type]
        raise ZeroDivisionError
    assert moment.memory.read(TABLE, 8) == (0x8000000000005067).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("arch", "expected"), [(Arch.X86_64, 0x8000000000077025), (Arch.ARM64, 0x60000000077CC3)]
)
def test_a_missing_entry_is_made_to_map_the_zero_page(arch: Arch, expected: int) -> None:
    moment = FakeMoment(memory(), arch)
    with Saboteur(entry_bit("present", set=True)).strike(moment, reading()):  # type: ignore[arg-type]
        made = int.from_bytes(moment.memory.read(TABLE + 8, 8), "little")
    assert made == expected


def test_arm64_writable_takes_two_bits() -> None:
    sabotage = entry_bit("writable", set=True)
    (write,) = sabotage.alter(FakeMoment(memory(), Arch.ARM64), SimpleNamespace(  # type: ignore[arg-type]
        kind="pages", records=(SimpleNamespace(entry=0x80 | 3, entry_phys=TABLE),)
    ))  # fmt: skip
    assert write == Write(TABLE, (1 << 51 | 3).to_bytes(8, "little"))


def test_a_reference_count_is_that_of_the_head_page() -> None:
    moment = FakeMoment(memory())
    moment.memory.write(0x2034, (7).to_bytes(4, "little"))
    frame = SimpleNamespace(address=0x3000, head_address=0x2000)
    evidence = SimpleNamespace(kind="frames", records=(SimpleNamespace(frame=frame),))
    assert refcount(-2).alter(moment, evidence) == (Write(0x2034, (5).to_bytes(4, "little")),)  # type: ignore[arg-type]


def test_a_vma_flag_is_toggled() -> None:
    evidence = SimpleNamespace(kind="vma", address=0x4000, records=())
    (write,) = vm_flag("VM_LOCKED").alter(FakeMoment(memory()), evidence)  # type: ignore[arg-type]
    assert write == Write(0x4020, (0x2000).to_bytes(8, "little"))


def test_an_alteration_that_changes_no_byte_is_none() -> None:
    with (
        pytest.raises(SabotageError, match="would alter nothing: set writable"),
        Saboteur(entry_bit("writable", set=True)).strike(FakeMoment(memory()), reading()),  # type: ignore[arg-type]
    ):
        pass


def test_evidence_that_is_not_there_cannot_be_altered() -> None:
    with pytest.raises(SabotageError, match="struct page"):
        refcount(+1).alter(FakeMoment(memory()), reading())  # type: ignore[arg-type]
