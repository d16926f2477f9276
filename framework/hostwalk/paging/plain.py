"""Walks and leaves as plain dictionaries, for JSON. Addresses and entries are hexadecimal text."""

from __future__ import annotations

from hostwalk.paging.leaf import Leaf
from hostwalk.paging.walk import Step, Walk

Plain = dict[str, object]


def plain_leaf(leaf: Leaf) -> Plain:
    """Return a leaf as a dictionary."""
    return {
        "virt_addr": hex(leaf.virt_addr),
        "size": leaf.size,
        "level": leaf.level,
        "entry": hex(leaf.entry),
        "entry_phys": hex(leaf.entry_phys),
        "present": leaf.present,
        "phys_addr": hex(leaf.phys_addr) if leaf.linux.present else None,
        "rights": str(leaf.rights),
        "flags": list(leaf.flags),
        "memory_type": leaf.memory_type if leaf.present else None,
        "values": list(leaf.values) if leaf.present else [],
        "linux": sorted(leaf.linux.names),
        "swap": str(leaf.swap) if leaf.swap else None,
    }


def plain_walk(walk: Walk) -> Plain:
    """Return a walk as a dictionary."""
    return {
        "virt_addr": hex(walk.virt_addr),
        "space": str(walk.space),
        "end": str(walk.end),
        "phys_addr": None if walk.phys_addr is None else hex(walk.phys_addr),
        "levels": [_plain_step(step) for step in walk.levels],
        "leaf": plain_leaf(walk.leaf) if walk.leaf else None,
        "findings": list(walk.findings),
    }


def _plain_step(step: Step) -> Plain:
    return {
        "name": step.name,
        "table_phys": hex(step.table_phys),
        "index": step.index,
        "entry": hex(step.entry),
        "kind": str(step.kind),
        "phys_addr": None if step.phys_addr is None else hex(step.phys_addr),
        "flags": list(step.flags),
    }
