from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwalk.errors import LayoutError
from hostwalk.guest.structs import Struct
from hostwalk.image.layout import Layout

HEADER = Path(__file__).parents[3] / "guest" / "include" / "hostwalk_uapi.h"
NAME = "struct hostwalk_toy"


def toy(*members: tuple[str, int, int, int], size: int, **more: int) -> dict[str, int]:
    entries = {
        f"sizeof({NAME})": size,
        "sizeof(struct hostwalk_other)": 1,
        "offsetof(struct hostwalk_other, x)": 0,
    }
    for name, offset, width, is_signed in members:
        entries[f"offsetof({NAME}, {name})"] = offset
        entries[f"sizeof({NAME}.{name})"] = width
        entries[f"signed({NAME}.{name})"] = is_signed
    return entries | {key.replace("_0", "[0]"): value for key, value in more.items()}


TOY = toy(("late", 16, 8, 1), ("flag", 0, 1, 0), ("small", 2, 2, 1), ("word", 4, 4, 0), size=24)


def test_members_lie_where_the_table_says() -> None:
    packed = Struct(TOY, NAME).pack(flag=0xAB, small=-2, word=0x01020304, late=-1)
    assert packed.hex() == "ab00feff04030201" + "00" * 8 + "ff" * 8


@given(
    st.integers(-(1 << 15), (1 << 15) - 1),
    st.integers(0, (1 << 32) - 1),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
def test_what_was_packed_comes_back(small: int, word: int, late: int) -> None:
    layout = Struct(TOY, NAME)
    values = {"flag": 1, "small": small, "word": word, "late": late}
    assert layout.unpack(layout.pack(**values)) == values


def test_values_wrap_as_in_c() -> None:
    layout = Struct(TOY, NAME)
    assert layout.unpack(layout.pack(word=-1, late=1 << 63, flag=256)) == {
        "flag": 0, "small": 0, "word": 0xFFFFFFFF, "late": -(1 << 63)
    }  # fmt: skip


def test_arrays() -> None:
    table = toy(("list", 0, 12, 0), size=12) | {f"sizeof({NAME}.list[0])": 4}
    layout = Struct(table, NAME)
    packed = layout.pack(list=(1, 2))
    assert layout.array(packed, "list") == (1, 2, 0)
    assert layout.unpack(packed) == {}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (toy(("a", 0, 4, 0), ("b", 2, 4, 0), size=8), "overlaps"),
        (toy(("a", 0, 4, 0), size=2), "which has 2"),
        (toy(("a", 0, 3, 0), size=4), "no integer"),
        (toy(size=4), "which has 4"),
    ],
)
def test_a_table_that_makes_no_sense(table: dict[str, int], says: str) -> None:
    with pytest.raises(LayoutError, match=says):
        Struct(table, NAME)


def test_unknown_members() -> None:
    with pytest.raises(LayoutError, match="no member colour"):
        Struct(TOY, NAME).pack(colour=1)


def test_every_structure_of_the_interface_is_complete(abi: Layout) -> None:
    names = [key[7:-1] for key in abi if key.startswith("sizeof(struct hostwalk_") and "." not in key]
    assert {"struct hostwalk_frame", "struct hostwalk_gup", "struct hostwalk_insert_result"} <= set(names)
    for name in names:
        layout = Struct(abi, name)
        assert sum(field.end - field.offset for field in layout.fields) == layout.size


def test_signs_come_from_the_compiler(abi: Layout) -> None:
    signs = {field.name: field.signed for field in Struct(abi, "struct hostwalk_gup").fields}
    assert signs["ret"]
    assert signs["nr_pages"]
    assert not signs["start"]


def test_the_table_has_all_of_the_header(abi: Layout) -> None:
    header = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    numbers = re.findall(r"^#define (HOSTWALK_\w+)\s+[^\"\s]", header, re.MULTILINE)
    for body in re.findall(r"^enum \w+ \{(.*?)\};", header, re.MULTILINE | re.DOTALL):
        numbers += re.findall(r"HOSTWALK_\w+", body)
    structs = re.findall(r"^struct (hostwalk_\w+) \{", header, re.MULTILINE)
    assert len(numbers) > 60
    assert len(structs) > 5
    missing = [key for key in [*numbers, *(f"sizeof(struct {name})" for name in structs)] if key not in abi]
    assert not missing, "add them to guest/agent/abi.c"
