import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from hostwalk.errors import LayoutError
from hostwalk.image.layout import Layout, parse_table, read_table

INCLUDE = Path(__file__).parents[3] / "guest" / "include"
SOURCE = """
#define HOSTWALK_TABLE_SECTION ".hostwalk.layout"
#include "hostwalk_table.h"
#define PAGE_SIZE 4096
struct page { long flags; int _refcount; };
HOSTWALK_CONST(PAGE_SIZE);
HOSTWALK_SIZEOF(struct page);
HOSTWALK_MEMBER(struct page, _refcount);
HOSTWALK_ENTRY("minus", -2LL);
"""


def entry(name: bytes, value: int) -> bytes:
    return struct.pack("<88sQ", name, value)


@pytest.fixture(scope="module")
def ko(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("no compiler on the host")
    where = tmp_path_factory.mktemp("layout")
    (where / "x.c").write_text(SOURCE)
    subprocess.run(["gcc", "-I", INCLUDE, "-c", "x.c", "-o", "x.ko"], cwd=where, check=True)
    return where / "x.ko"


def test_a_compiled_table_is_read_back(ko: Path) -> None:
    layout = Layout.load(ko)
    assert layout.const("PAGE_SIZE") == 4096
    assert layout.sizeof("struct page") == 16
    assert layout.offsetof("struct page", "_refcount") == 8
    assert layout.member_size("struct page", "_refcount") == 4
    assert layout.signed("minus") == -2
    assert layout.has("PAGE_SIZE")
    assert layout.has_member("struct page", "_refcount")
    assert next(iter(layout)) == "PAGE_SIZE"
    assert len(layout) == 5


def test_a_missing_key_names_the_file_and_what_is_close(ko: Path) -> None:
    layout = Layout.load(ko)
    assert "offsetof(struct page, refcount)" not in layout
    assert layout.get("offsetof(struct page, refcount)", 5) == 5
    with pytest.raises(LayoutError, match=r"x\.ko has no .*refcount") as caught:
        layout.offsetof("struct page", "refcount")
    assert "offsetof(struct page, _refcount)" in caught.value.remedy


def test_a_missing_section_and_a_file_that_is_no_elf(ko: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="has no section"):
        read_table(ko, ".hostwalk.abi")
    (tmp_path / "text").write_text("x" * 100)
    with pytest.raises(LayoutError, match="not a readable ELF file"):
        read_table(tmp_path / "text", ".hostwalk.abi")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 95, "not a multiple"),
        (entry(b"", 1), "damaged"),
        (entry(b"\xff\x01", 1), "damaged"),
        (entry(b"a", 1) + entry(b"a", 2), "contradicts"),
    ],
)
def test_a_damaged_table_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        parse_table(data, "here")


def test_repeating_an_entry_with_the_same_value_is_harmless() -> None:
    assert parse_table(entry(b"a", 7) + entry(b"a", 7), "here") == {"a": 7}
