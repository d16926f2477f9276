"""Shards: a run in parts, on several machines, none of which knows of the others."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from hostwalk.errors import UsageError

_TEXT = re.compile(r"([1-9]\d*)/([1-9]\d*)")


@dataclass(frozen=True)
class Shard:
    """The ``number``-th of ``count`` parts, counted from 1.

    The part that a name belongs to depends on the name alone: a claim that is added moves no other, and the parts
    together are the whole, each name once.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard that ``2/5`` means, the whole for an empty text; raises UsageError."""
        if not text:
            return cls()
        match = _TEXT.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise UsageError(
                f"{text!r} is no shard", remedy="write I/N, such as 2/5: the second of five parts"
            )
        return cls(int(match[1]), int(match[2]))

    def has(self, name: str) -> bool:
        """Whether a name belongs to this part."""
        digest = hashlib.sha256(name.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1
