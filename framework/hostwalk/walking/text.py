"""Answers as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from hostwalk.paging import AddressSpace, Diff, Leaf, Leaves, Rights, Run, addresses_of, merge
from hostwalk.paging.leaf import size_text
from hostwalk.walking.look import Changes, Outcome, Table

HEADER = f"  {'start':<18} {'end':<18} {'size':>6} {'of':>4} {'to':<16} user/kern {'type':<8} flags; what Linux sees"
SCATTERED = "scattered"
STYLES = ("table", "leaves", "tree")


def lines(found: Outcome | Changes, style: str = "table") -> Iterator[str]:
    """Yield the lines of an answer; styles are ``table`` (runs of like mappings), ``leaves`` (each one), ``tree``."""
    if isinstance(found, Changes):
        yield from _changes(found)
        return
    for named in found.walks:
        yield from _walk_lines(str(named.walk), named.symbol)
    if found.wanted.find is not None:
        yield from _found(found, found.wanted.find)
        return
    for table in found.tables:
        yield from _table(table, style)


def _walk_lines(text: str, symbol: str) -> Iterator[str]:
    first, *rest = text.splitlines()
    yield f"{first}{f', {symbol}' if symbol else ''}"
    yield from rest


def heading(title: str, space: AddressSpace, leaves: Leaves) -> str:
    """Return a line about a space, its format and how much is mapped."""
    present = leaves[leaves.linux_present]
    mapped = f"{len(present)} pages" if len(present) != 1 else "1 page"
    mapped += f", {size_text(int(present.size.sum()))}" if len(present) else ""
    absent = f", {len(leaves) - len(present)} entries of absent pages" if len(leaves) > len(present) else ""
    where = f"{space.start:#x}-{space.end - 1:#x}"
    return f"{title}: {space.format.name}, root {space.root:#x}, {where}: {mapped}{absent}, {leaves.tables} tables"


def _table(table: Table, style: str) -> Iterator[str]:
    yield heading(table.title, table.space, table.leaves)
    if style == "tree":
        yield from _tree(table)
    elif len(table.leaves):
        yield HEADER
        yield from map(row, runs(table.leaves, each=style == "leaves"))
    yield from oddities(table.leaves)


def runs(leaves: Leaves, *, each: bool = False) -> tuple[Run, ...]:
    """Return runs of like mappings, wherever their pages lie; with ``each``, every leaf by itself."""
    return tuple(Run(leaf, 1) for leaf in leaves) if each else merge(leaves, contiguous=False)


def oddities(leaves: Leaves) -> Iterator[str]:
    """Yield a line for each finding."""
    yield from (f"  ! {finding}" for finding in leaves.findings)
    if leaves.unlisted:
        yield f"  ! and {leaves.unlisted} more"


def row(run: Run) -> str:
    """Return a run as a line."""
    first = run.first
    where = f"  {run.virt_addr:#018x} {run.end - 1:#018x} {size_text(run.size):>6} {size_text(first.size):>4}"
    return f"{where} {_target(run):<16} {attributes(first)}".rstrip()


def _target(run: Run) -> str:
    if not run.first.linux.present:
        return "-"
    if run.count == 1 or run.contiguous:
        return f"{run.first.phys_addr:#x}"
    return SCATTERED


def attributes(leaf: Leaf) -> str:
    """Return rights, memory type, flags and Linux's meaning of a leaf."""
    if not leaf.linux.present:
        return f"{'absent':<18} {leaf.entry:#018x}: {leaf.linux or 'not present'}"
    if not leaf.present:
        return f"{'--- ---':<9} {'':<8} {leaf.entry:#018x}; {leaf.linux}"
    flags = " ".join((*leaf.flags, *leaf.values))
    return f"{rights_text(leaf.rights):<9} {leaf.memory_type:<8} {flags}; {leaf.linux}"


def rights_text(rights: Rights) -> str:
    """Return effective rights as ``rwx r--``: the user's, then the kernel's."""
    words = str(rights).split()
    return f"{words[1]} {words[3]}"


def _tree(table: Table) -> Iterator[str]:
    """Yield the tables on the way to each group of leaves, indented by level, and the groups as runs."""
    shown: tuple[int, ...] = ()
    bounds = [walk.leaf.virt_addr if walk.leaf else walk.virt_addr for walk in table.walks]
    for number, walk in enumerate(table.walks):
        end = bounds[number + 1] if number + 1 < len(bounds) else 1 << 64
        above = walk.levels[:-1]
        path = tuple(step.entry_phys for step in above)
        for depth, step in enumerate(above):
            if shown[: depth + 1] != path[: depth + 1]:
                start = walk.virt_addr & -step.level.size
                yield f"{'  ' * (depth + 1)}{start:#018x} {step}  {' '.join(step.flags)}"
        shown = path
        group = table.leaves[(table.leaves.virt_addr >= bounds[number]) & (table.leaves.virt_addr < end)]
        indent = "  " * len(above)
        yield from (f"{indent}{row(run)}" for run in runs(group))


def _found(found: Outcome, phys: int) -> Iterator[str]:
    """Yield who maps a physical address."""
    yield f"physical address {phys:#x}{f': {found.page}' if found.page else ''}"
    count = 0
    for table in found.tables:
        for leaf, at in zip(table.leaves, addresses_of(table.leaves, phys), strict=True):
            count += 1
            yield f"  {at:#018x} {table.title}, {leaf.level} at {leaf.entry_phys:#x}: {attributes(leaf)}"
    where = f"{len(found.tables)} address space{'s' if len(found.tables) != 1 else ''}"
    yield f"  mapped {count} time{'s' if count != 1 else ''} in {where}"


def _changes(changes: Changes) -> Iterator[str]:
    for title, space, difference in changes.diffs:
        yield f"{title}: {space.format.name}, root {space.root:#x}: {_summary(difference)}"
        yield from (f"  {line}" for line in difference.lines())
    was, now = ({table.title for table in moment.tables} for moment in (changes.before, changes.after))
    yield from (f"{title}: gone" for title in sorted(was - now))
    yield from (f"{title}: new" for title in sorted(now - was))


def _summary(difference: Diff) -> str:
    if not difference:
        return "no change"
    counts = (len(difference.appeared), len(difference.vanished), len(difference.changed))
    return "{} appeared, {} vanished, {} changed".format(*counts)
