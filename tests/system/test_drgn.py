"""Walks against drgn's, which reads the kernel's debug information and a dump of the machine."""

import random

import pytest
from busy_subject import busy_subject
from drgn_side import Drgn
from proofs import proven

from hostwalk.paging import scan, walk

ADDRESSES = 4000


@pytest.fixture
def drgn(cell):
    found = Drgn.find()
    if found is None:
        pytest.skip(
            "HOSTWALK_DRGN (a Python that has drgn) and HOSTWALK_VMLINUX (debug information) name none"
        )
    if not found.fits(cell.prepared.kernel.release):
        pytest.skip(f"{found.vmlinux} is not of Linux {cell.prepared.kernel.release}")
    return found


def test_walks_lead_where_drgn_says(cell, drgn, tmp_path):
    with busy_subject(cell) as busy, cell.machine.stopped():
        mm = cell.linux.anew().task(busy.subject.pid).mm
        addresses = chosen(cell, mm)
        seen = [walk(cell.memory, mm.space, address) for address in addresses]
        said = drgn.walk(cell, busy.subject.pid, addresses, tmp_path)
    ours = [found.phys_addr for found in seen]
    differ = [
        (hex(address), mine, theirs, str(found))
        for address, mine, theirs, found in zip(addresses, ours, said["phys"], seen, strict=True)
        if mine != theirs
    ]
    proven(cell, "drgn", len(addresses), len(differ))
    assert not differ, differ[:3]
    assert sum(phys is not None for phys in ours) > ADDRESSES // 4


def chosen(cell, mm):
    """Return addresses in and around what is mapped, boundaries first."""
    some, page = random.Random(5), mm.space.format.page_size
    leaves = scan(cell.memory, mm.space)
    vmas = [vma for vma in mm.vmas() if vma.end <= mm.space.end]
    found = [at for vma in vmas for at in (vma.start - 1, vma.start, vma.end - 1, vma.end) if at >= 0]
    while len(found) < ADDRESSES:
        leaf, vma = leaves[some.randrange(len(leaves))], some.choice(vmas)
        found.append(leaf.virt_addr + some.randrange(leaf.size))
        found.append(some.randrange(max(0, vma.start - page), vma.end + page))
    return found
