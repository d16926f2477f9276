from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostwalk.report.model import Verdict
from hostwalk.report.words import duration, plain, short_names, word, worst
from hostwalk.target import matrix


def test_one_target_is_its_architecture() -> None:
    assert list(short_names(matrix(("arm64",))).values()) == ["arm64"]


def test_targets_are_named_by_what_differs() -> None:
    assert list(short_names(matrix(("x86_64",), ("debian:6.1", "debian:6.12"))).values()) == [
        "debian:6.1",
        "debian:6.12",
    ]


def test_the_default_format_goes_without_saying_beside_its_architecture() -> None:
    names = short_names(matrix(("x86_64", "arm64"), (), ("4level", "5level", "48bit")))
    assert list(names.values()) == ["x86_64", "x86_64 5level", "arm64"]


def test_two_formats_of_one_architecture_are_told_apart() -> None:
    assert len(set(short_names(matrix(("x86_64",), (), ("4level", "5level"))).values())) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (123, "2 min 03 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_worst() -> None:
    assert worst([Verdict.KEPT, Verdict.NOT_APPLICABLE]) is Verdict.KEPT
    assert worst([Verdict.UNPROVEN, Verdict.BROKEN, Verdict.KEPT]) is Verdict.BROKEN


def test_sabotage_has_words_of_its_own() -> None:
    assert [word(verdict, sabotage=True) for verdict in Verdict] == [
        "found",
        "missed",
        "n/a",
        "unproven",
        "departs",
    ]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("a\x00\x9b\ud800b", "ab"),
    ],
)
def test_plain(raw: str, text: str) -> None:
    assert plain(raw) == text


@given(st.text(st.characters()))
def test_plain_text_fits_into_xml(raw: str) -> None:
    element = ET.Element("a")
    element.text = plain(raw)
    assert ET.fromstring(ET.tostring(element)).tag == "a"
