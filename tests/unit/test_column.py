from __future__ import annotations

import pytest

from hostwalk.column import Column


def test_equality_is_about_the_whole_column() -> None:
    column = Column([1, 2, 2])
    assert column == (1, 2, 2)
    assert column != (1, 2, 3)
    assert column != (1, 2)
    assert Column([5, 5]) == 5
    assert Column([5, 6]) != 5


def test_a_number_never_equals_an_empty_column_by_accident_of_length() -> None:
    assert not Column([]).all
    assert Column([1]) != Column([1, 1])


def test_arithmetic_is_element_by_element() -> None:
    assert Column([1, 2]) + 1 == (2, 3)
    assert Column([1, 2]) + (1, 0) == (2, 2)
    assert Column([5, 7]) - Column([1, 2]) == (4, 5)


def test_columns_of_different_length_cannot_be_added() -> None:
    with pytest.raises(ValueError, match="2 pages"):
        Column([1, 2]) + (1, 2, 3)


def test_differing_names_the_pages() -> None:
    assert Column([1, 2, 3]).differing((1, 0, 3)) == (1,)
    assert Column([1]).differing((1, 2)) == (1,)


def test_it_prints_runs_and_hexadecimal() -> None:
    assert repr(Column([1, 1, 2], "refcounts")) == "refcounts[1 x2, 2]"
    assert repr(Column([4096], "pfns", in_hex=True)) == "pfns[0x1000]"


def test_a_slice_is_a_column_again() -> None:
    part = Column([1, 2, 3], "refcounts")[1:]
    assert isinstance(part, Column)
    assert part == (2, 3)
    assert part.name == "refcounts"
