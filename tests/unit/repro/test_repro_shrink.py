"""Shrinking with an oracle that needs no machine: what is left is needed, every single part of it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from hostwalk.repro import edits
from hostwalk.repro.script import Script, parse
from hostwalk.repro.shrink import Shrinker, Tally

HEAD = """
from hostwalk.repro import Failure, Pin, repro
@repro(Pin(arch="x86_64", kernel="debian:6.12", format="4level"), Failure("assertion", "x", ("y",)))
def test_it(subject, witness):
"""
BODY = """\
    spare = subject.mmap(pages=16, prot="rw").touch()
    subject.mprotect(spare[3:7], "r")
    fd = subject.open("/tmp/x", "O_RDWR|O_CREAT|O_TRUNC")
    area = subject.mmap(pages=8, prot="rw", populate=True).touch()
    with subject.refuses("ENOMEM"):
        subject.mlock(area[1:3])
    with subject.fork() as child:
        child.munmap(area)
        with subject.get_user_pages_fast(area, nr_pages=0, write=True) as pins:
            assert pins.returned == area.pages
            seen = witness.pages(area)
            assert seen.refcounts == 9
"""
Oracle = Callable[[Script], bool]


def script(body: str = BODY) -> Script:
    return parse(HEAD + body, Path("toy.py"))


def text_of(script: Script) -> str:
    return ast.unparse(script.function)


def needs(*parts: str) -> Oracle:
    return lambda candidate: all(part in text_of(candidate) for part in parts)


def single_edits(small: Script) -> list[Script]:
    return [small.with_function(edit.apply(small.function)) for edit in edits.edits(small.function)]


@pytest.mark.parametrize(
    "parts",
    [
        (), ("child.munmap",), ("O_CREAT",), ("mprotect(spare[3:7], 'r')",), ("refuses", "fork"),
        ("spare[3:7]", "touch"), ("populate",), ("write=True",),
    ],
)  # fmt: skip
def test_no_single_step_can_go(parts: tuple[str, ...]) -> None:
    oracle = needs("seen.refcounts == 9", *parts)
    shrinker = Shrinker(script(), oracle)
    small = shrinker.shrink()
    assert oracle(small)
    for smaller in single_edits(small):
        is_same = text_of(smaller) == text_of(small)
        assert is_same or not edits.is_sound(smaller.function, frozenset()) or not oracle(smaller), text_of(
            smaller
        )
    assert shrinker.tally.steps <= shrinker.tally.first == edits.count(script().function)


def test_nothing_needed_leaves_the_assertion_and_what_it_names() -> None:
    small = Shrinker(script(), lambda _candidate: True).shrink()
    assert text_of(small).splitlines()[2:] == [
        "    area = subject.mmap()",
        "    seen = witness.pages(area)",
        "    assert seen.refcounts == 9",
    ]


def test_a_promise_is_not_edited() -> None:
    body = (
        "    pins = subject.get_user_pages_fast(subject.scratch, nr_pages=0)\n    assert pins.returned == 0\n"
    )
    small = Shrinker(script(body), lambda _candidate: True).shrink()
    assert "get_user_pages_fast(subject.scratch, nr_pages=0)" in text_of(small)
    block = "    with subject.refuses('EINVAL'):\n        subject.mlock(area[1:3])\n"
    refused = f"    area = subject.mmap(pages=4)\n{block}"
    small = Shrinker(script(refused), needs("refuses")).shrink()
    assert "subject.mlock(area[1:3])" in text_of(small)


def test_what_the_guest_claimed_goes_only_with_its_call() -> None:
    small = Shrinker(script(), needs("get_user_pages_fast")).shrink()
    assert "assert pins.returned == area.pages" in text_of(small)


def test_a_candidate_without_its_names_is_never_run() -> None:
    ran: list[str] = []

    def oracle(candidate: Script) -> bool:
        ran.append(text_of(candidate))
        return False

    Shrinker(script(), oracle).shrink()
    assert len(ran) == len(set(ran))
    assert all("spare" not in text or "spare = " in text for text in ran)


def test_progress_is_told_after_each_run() -> None:
    told: list[int] = []

    def watch(tally: Tally) -> None:
        told.append(tally.tries)

    Shrinker(script(), needs("touch"), watch).shrink()
    assert told == list(range(1, len(told) + 1))


def test_the_rest_of_the_file_stays() -> None:
    whole = script()
    small = Shrinker(whole, lambda _candidate: True).shrink()
    text = edits.with_function(
        whole.text + "\n\nif True:\n    print('kept')\n", whole.function, small.function
    )
    assert text.startswith(HEAD)
    assert text.endswith("if True:\n    print('kept')\n")
    assert parse(text, Path("small.py")).shows == whole.shows
