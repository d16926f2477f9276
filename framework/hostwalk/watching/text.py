"""Samples as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hostwalk.linux.mm import Vma
from hostwalk.paging import Change, Leaf, merge
from hostwalk.paging.leaf import size_text
from hostwalk.watching.sample import FORKED, Sample

RUNS_MOST = 12
AGED = ("A", "D", "AF")
_AGES = {f"{sign}{name}" for sign in "+-" for name in (*AGED, "young", "dirty")}


@dataclass(frozen=True)
class _Like:
    """Neighbouring entries to which the same happened."""

    first: Leaf
    count: int
    words: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.first.virt_addr + self.count * self.first.size


def lines(sample: Sample, *, timed: bool = False) -> Iterator[str]:
    """Yield a sample's lines: the occasion, then ``+`` what appeared, ``-`` vanished, ``~`` changed.

    ``timed``: with the time. Mappings come first (``vma``), then entries, neighbours that are alike in one line.
    """
    when = f"{sample.seconds * 1000:8.1f} ms  " if timed else ""
    yield f"{when}{sample.comm}[{sample.pid}] {sample.occasion}{'' if sample else ': no change'}"
    if sample.occasion == FORKED:
        yield f"  {len(sample.after)} mappings, {len(sample.diff.appeared)} entries, as its parent's"
        return
    yield from (f"  vma - {vma}" for vma in sample.unmapped)
    yield from (f"  vma + {vma}" for vma in sample.mapped)
    found = list(_entries(sample))
    yield from found[:RUNS_MOST]
    if len(found) > RUNS_MOST:
        yield f"  and {len(found) - RUNS_MOST} more"


def _entries(sample: Sample) -> Iterator[str]:
    for sign, leaves, vmas in (
        ("-", sample.diff.vanished, sample.before),
        ("+", sample.diff.appeared, sample.after),
    ):
        for run in merge(leaves, ignore=AGED, contiguous=False):
            where = _range(run.virt_addr, run.end, run.count, run.first)
            yield f"  {sign} {where} {_state(run.first)}{_at(run.virt_addr, vmas)}"
    aged = [change for change in sample.diff.changed if _is_age(change)]
    for like in alike([change for change in sample.diff.changed if not _is_age(change)]):
        first = like.first.virt_addr
        where = _range(first, like.end, like.count, like.first)
        yield f"  ~ {where} {' '.join(like.words)}{_at(first, sample.after)}"
    if aged:
        words = sorted({word for change in aged for word in change.words})
        yield f"  ~ {len(aged)} entries {' '.join(words)}"


def _is_age(change: Change) -> bool:
    """Whether an entry only says that its page was accessed or written."""
    return not change.moved and _AGES.issuperset(change.words)


def _range(start: int, end: int, count: int, first: Leaf) -> str:
    return f"{start:#x}-{end:#x} {count} x {size_text(first.size)}"


def _state(leaf: Leaf) -> str:
    """Return the user's rights and the hardware's flags, or what an absent entry means."""
    if not leaf.present:
        return f"absent: {leaf.linux or f'{leaf.entry:#x}'}"
    return f"{str(leaf.rights).split()[1]} {' '.join(leaf.flags)}"


def _at(address: int, vmas: Sequence[Vma]) -> str:
    """Return which mapping an address is in."""
    found = next((vma for vma in vmas if address in vma), None)
    return f"  in {found.file or 'anonymous memory'}" if found is not None else ""


def alike(changed: Sequence[Change]) -> tuple[_Like, ...]:
    """Return runs of neighbours to which the same happened; that their pages are others is one word."""
    found: list[_Like] = []
    for change in changed:
        words = (*(("another page",) if change.moved else ()), *change.words)
        last = found[-1] if found else None
        joins = (
            last is not None and last.end == change.after.virt_addr and last.first.size == change.after.size
        )
        if last is not None and joins and last.words == words:
            found[-1] = _Like(last.first, last.count + 1, words)
        else:
            found.append(_Like(change.after, 1, words))
    return tuple(found)
