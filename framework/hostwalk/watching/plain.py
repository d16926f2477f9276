"""Samples as plain dictionaries, for JSON. Addresses and entries are hexadecimal text."""

from __future__ import annotations

from hostwalk.linux.mm import Vma
from hostwalk.paging import plain_leaf
from hostwalk.paging.plain import Plain
from hostwalk.watching.sample import Sample


def plain(sample: Sample) -> Plain:
    """Return a sample: every mapping and entry that changed, one by one."""
    difference = sample.diff
    return {
        "number": sample.number, "pid": sample.pid, "comm": sample.comm, "seconds": round(sample.seconds, 6),
        "occasion": sample.occasion, "call": _plain_call(sample),
        "mapped": [_plain_vma(vma) for vma in sample.mapped],
        "unmapped": [_plain_vma(vma) for vma in sample.unmapped],
        "appeared": [plain_leaf(leaf) for leaf in difference.appeared],
        "vanished": [plain_leaf(leaf) for leaf in difference.vanished],
        "changed": [
            {"before": plain_leaf(change.before), "after": plain_leaf(change.after), "bits": hex(change.bits),
             "words": list(change.words)}
            for change in difference.changed
        ],
    }  # fmt: skip


def _plain_call(sample: Sample) -> Plain | None:
    if sample.call is None:
        return None
    call = sample.call
    return {"name": call.name, "arguments": [hex(value) for value in call.arguments], "result": call.result}


def _plain_vma(vma: Vma) -> Plain:
    return {
        "start": hex(vma.start), "end": hex(vma.end), "flags": sorted(vma.names), "pgoff": vma.pgoff, "file": vma.file,
    }  # fmt: skip
