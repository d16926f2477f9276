from __future__ import annotations

from collections import Counter

import pytest

from hostwalk.errors import UsageError
from hostwalk.shard import Shard

NAMES = [f"{family}.{number}" for family in ("gup", "mprotect", "fork", "mlock") for number in range(150)]


def parts(names: list[str], count: int) -> dict[str, list[int]]:
    shards = [Shard(number, count) for number in range(1, count + 1)]
    return {name: [shard.number for shard in shards if shard.has(name)] for name in names}


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_each_name_is_in_one_part(count: int) -> None:
    assert all(len(numbers) == 1 for numbers in parts(NAMES, count).values())


def test_a_name_that_is_added_moves_no_other() -> None:
    before, after = parts(NAMES[::2], 5), parts(NAMES, 5)
    assert all(after[name] == numbers for name, numbers in before.items())


def test_where_a_name_belongs_never_changes() -> None:
    """Other runs, machines and versions rely on it: these are SHA-256 of the name, modulo 5."""
    assert [parts([name], 5)[name] for name in ("gup.ref.1", "fork.cow.1", "mlock.fork.1")] == [[4], [2], [2]]


def test_parts_are_about_even() -> None:
    sizes = Counter(numbers[0] for numbers in parts(NAMES, 5).values())
    assert all(60 < size < 180 for size in sizes.values())


def test_no_text_is_the_whole() -> None:
    assert all(Shard.parse("").has(name) for name in NAMES)


def test_written() -> None:
    assert Shard.parse("2/5") == Shard(2, 5)


@pytest.mark.parametrize("text", ["0/5", "6/5", "2", "a/b", "2/0", "-1/3", "1/5/2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="no shard"):
        Shard.parse(text)
