from __future__ import annotations

from typing import Any, cast

import pytest

from hostwalk.errors import UsageError
from hostwalk.guest.area import Area, span

AREA = Area(cast("Any", "subject 1"), 0x10000, 8, 0x1000)


def test_ends_and_addresses() -> None:
    assert (AREA.length, AREA.end, len(AREA)) == (0x8000, 0x18000, 8)
    assert (AREA.address(1), AREA.address(-1), AREA.address(2, 5)) == (0x11000, 0x17000, 0x12005)
    assert list(AREA[6:]) == [0x16000, 0x17000]
    with pytest.raises(IndexError):
        AREA.address(8)


def test_slices() -> None:
    assert (AREA[1:3].start, AREA[1:3].pages) == (0x11000, 2)
    assert (AREA[-2:-1].start, AREA[-2:-1].pages) == (0x16000, 1)
    assert AREA[:-1].end == 0x17000
    assert AREA[3] == AREA[3:4]
    assert AREA[9:].pages == AREA[3:1].pages == 0
    with pytest.raises(UsageError, match="step"):
        AREA[::2]


def test_spans_and_words() -> None:
    assert span(AREA[:1]) == (0x10000, 0x1000)
    assert span((3, 4)) == (3, 4)
    assert str(AREA) == "0x10000-0x18000 (8 pages of subject 1)"
