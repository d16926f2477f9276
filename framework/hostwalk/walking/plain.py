"""Answers as plain dictionaries, for JSON. Addresses and entries are hexadecimal text."""

from __future__ import annotations

from hostwalk.paging import AddressSpace, Diff, Leaves, Run, addresses_of, plain_leaf, plain_walk
from hostwalk.paging.plain import Plain
from hostwalk.walking.guest import Guest
from hostwalk.walking.look import Changes, Outcome, Table
from hostwalk.walking.text import runs


def plain(guest: Guest, found: Outcome | Changes, *, each: bool = False) -> Plain:
    """Return an answer; with ``each`` every leaf instead of runs of like ones."""
    about: Plain = {"machine": guest.name, "reader": guest.reader}
    about["ram"] = [[hex(region.start), hex(region.end - 1)] for region in guest.memory.regions]
    if isinstance(found, Changes):
        return about | {"changes": [_plain_diff(*each_one) for each_one in found.diffs]}
    if found.walks:
        walks = [plain_walk(named.walk) | {"symbol": named.symbol or None} for named in found.walks]
        return about | {"walks": walks}
    if found.wanted.find is not None:
        return about | _plain_found(found, found.wanted.find)
    return about | {"spaces": [_plain_table(table, each) for table in found.tables]}


def _plain_space(title: str, space: AddressSpace) -> Plain:
    return {
        "title": title,
        "format": space.format.name,
        "root": hex(space.root),
        "start": hex(space.start),
        "end": hex(space.end - 1),
    }


def _plain_table(table: Table, each: bool) -> Plain:
    return _plain_space(table.title, table.space) | {
        "tables": table.leaves.tables,
        "runs": [_plain_run(run) for run in runs(table.leaves, each=each)],
        "findings": _findings(table.leaves),
        "unlisted_findings": table.leaves.unlisted,
    }


def _findings(leaves: Leaves) -> list[str]:
    return [str(finding) for finding in leaves.findings]


def _plain_run(run: Run) -> Plain:
    return plain_leaf(run.first) | {"count": run.count, "size": run.size, "page_size": run.first.size}


def _plain_found(found: Outcome, phys: int) -> Plain:
    places = [
        {"virt_addr": hex(at), "space": table.title, "leaf": plain_leaf(leaf)}
        for table in found.tables
        for leaf, at in zip(table.leaves, addresses_of(table.leaves, phys), strict=True)
    ]
    return {"phys_addr": hex(phys), "page": str(found.page) if found.page else None, "mapped_at": places}


def _plain_diff(title: str, space: AddressSpace, difference: Diff) -> Plain:
    return _plain_space(title, space) | {
        "appeared": [plain_leaf(leaf) for leaf in difference.appeared],
        "vanished": [plain_leaf(leaf) for leaf in difference.vanished],
        "changed": [
            {"before": plain_leaf(change.before), "after": plain_leaf(change.after), "bits": hex(change.bits)}
            for change in difference.changed
        ],
    }
