from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from quotations import Library, claims, digest, is_quoted, locked, words

from hostwalk.claim import Claim, claim
from hostwalk.errors import UsageError
from hostwalk.sabotage import refcount

PAGE = words("""
 * fish - swim, or try to
 * @tail: the end (not the head)
 *
 * It swims.  If the *water* is deep, it dives; otherwise it re-
 * turns -EAGAIN.
""")
CLAIMS = tuple(claims())


def made(page: str, sentence: str, code: str = "") -> Claim:
    return Claim("fish.1", page, sentence, refcount(+1), code=code)


@pytest.mark.parametrize(
    "sentence",
    [
        "It swims.",
        "@tail: the end (not the head)",
        "If the water is deep, it dives",
        "it swims [...] it dives",
        "swims ... -EAGAIN",
    ],
)
def test_the_words_of_a_page_are_a_quotation(sentence: str) -> None:
    assert is_quoted(sentence, PAGE)


@pytest.mark.parametrize(
    "sentence",
    ["It flies.", "It swims: or try to", "it dives [...] it swims", "wims", "[...]", "it swims [...]"],
)
def test_anything_else_is_none(sentence: str) -> None:
    assert not is_quoted(sentence, PAGE)


def test_every_sentence_was_found_in_its_page() -> None:
    lock = locked()
    unknown = [each.id for each in CLAIMS if digest(each) not in lock]
    assert not unknown, f"look them up with quotations.py: {', '.join(unknown)}"


def test_the_lock_has_nothing_else() -> None:
    assert set(locked()) == {digest(each) for each in CLAIMS}


def test_what_was_looked_up_is_page_and_words_and_code() -> None:
    one = made("fish(2)", "It swims.")
    others = [
        made("fish(3)", "It swims."),
        made("fish(2)", "It swam."),
        made("fish(2)", "It swims.", "swim()"),
    ]
    assert len({digest(each) for each in (one, *others)}) == 4


def test_ids_are_unique() -> None:
    twice = [name for name, count in Counter(each.id for each in CLAIMS).items() if count > 1]
    assert not twice


def test_claims_of_one_sentence_say_what_tells_them_apart() -> None:
    groups = Counter((each.page, each.sentence, each.reading) for each in CLAIMS)
    alike = {group for group, count in groups.items() if count > 1}
    assert not [each.id for each in CLAIMS if (each.page, each.sentence, each.reading) in alike]


def test_code_must_name_a_function() -> None:
    with pytest.raises(UsageError, match="names no function"):
        claim("fish.2", "mm/fish.c", "It swims.", sabotage=refcount(+1), code="line 7")


def test_code_is_looked_up_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "mm").mkdir()
    (tmp_path / "mm" / "fish.c").write_text("static int swim(void)\n{\n}\n")
    (tmp_path / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 9\n")
    library = Library([tmp_path], None)
    assert library.find(made("mm/fish.c", "It swims.", "swim()")) == "Linux 6.12.9"
    assert library.find(made("mm/fish.c", "It swims.", "fly()")) == ""
    assert library.find(made("mm/bird.c", "It swims.", "swim()")) == ""


def test_a_page_of_section_9_is_a_kernel_doc_comment(tmp_path: Path) -> None:
    (tmp_path / "mm").mkdir()
    (tmp_path / "mm" / "fish.c").write_text("/**\n * swim() - move\n * It moves.\n */\n/* It rests. */\n")
    (tmp_path / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\n")
    library = Library([tmp_path], None)
    assert library.find(made("swim(9)", "It moves.")) == "Linux 6.12, mm/fish.c"
    assert library.find(made("swim(9)", "It rests.")) == ""
