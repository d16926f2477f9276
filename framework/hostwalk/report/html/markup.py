"""Elements of a page. Text becomes text whatever it holds: ElementTree escapes it, control characters go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from xml.etree import ElementTree as ET

from hostwalk.report.words import plain

Child = ET.Element | str | None
DIGITS, GROUP = 16, 4
ALIKE = 0.5
"""From this likeness of two lines on, marks say more than the lines themselves."""


def element(tag: str, *children: Child, **attributes: str | int | bool | None) -> ET.Element:
    """Return an element; ``class_`` is its class, an attribute that is None or False is left out."""
    made = ET.Element(tag)
    for name, value in attributes.items():
        if value is not None and value is not False:
            made.set(name.rstrip("_").replace("_", "-"), "" if value is True else plain(str(value)))
    for child in children:
        add(made, child)
    return made


def add(parent: ET.Element, child: Child) -> None:
    """Put an element or text at an element's end."""
    if isinstance(child, ET.Element):
        parent.append(child)
    elif child and len(parent):
        parent[-1].tail = (parent[-1].tail or "") + plain(child)
    elif child:
        parent.text = (parent.text or "") + plain(child)


def anchor(*parts: object) -> str:
    """Return an id for a place in the page, without blanks."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(str(part) for part in parts))


def entry_digits(value: int, other: int | None) -> ET.Element:
    """Return an entry's 16 digits in groups of four, those marked that differ from the ``other`` entry's."""
    digits = f"{value:0{DIGITS}x}"
    against = digits if other is None else f"{other:0{DIGITS}x}"
    groups = (
        element("span", *_marked(digits[at : at + GROUP], against[at : at + GROUP]), class_="g")
        for at in range(0, DIGITS, GROUP)
    )
    return element("code", *groups, class_="e")


def _marked(digits: str, against: str) -> Iterator[Child]:
    for digit, other in zip(digits, against, strict=True):
        yield element("mark", digit) if digit != other else digit


def differing(text: str, other: str) -> list[Child]:
    """Return a line with the words marked that the ``other`` line does not have there; none if most are others."""
    words, against = re.split(r"(\s+)", text), re.split(r"(\s+)", other)
    matcher = SequenceMatcher(None, words, against, autojunk=False)
    if matcher.ratio() < ALIKE:
        return [text]
    parts: list[Child] = []
    for kind, start, end, _, _ in matcher.get_opcodes():
        run = "".join(words[start:end])
        if kind == "equal" or not run.strip():
            parts.append(run)
        else:
            core = run.strip()
            parts += [run[: run.index(core)], element("mark", core), run[run.index(core) + len(core) :]]
    return parts


def digits_differing(text: str, other: str) -> list[Child]:
    """Return a number with the digits marked in which it differs from another, compared from the right."""
    against = other.rjust(len(text))[-len(text) :] if text else ""
    pairs = zip(text, against, strict=True)
    return [element("mark", digit) if digit != old else digit for digit, old in pairs]


def joined(parts: Iterable[Child], between: str = " ") -> list[Child]:
    """Return the parts with text between them."""
    made: list[Child] = []
    for part in parts:
        made += [between, part] if made else [part]
    return made


def lines_of(*rows: Child) -> Iterator[Child]:
    """Yield each child on a line of the source, so that the page can be looked through with line tools."""
    for row in rows:
        yield row
        yield "\n"
