"""What the host reads of pages, mappings and counters, against what the guest's kernel prints of them."""

import re
import struct

import numpy as np
import pytest
from busy_subject import busy_subject

from hostwalk.audit import collect

KPF = {
    "PG_referenced": 2, "PG_dirty": 4, "PG_lru": 5, "PG_active": 6, "PG_reserved": 32, "PG_uptodate": 3,
    "PG_swapbacked": 14, "PG_unevictable": 18,
}  # fmt: skip
ANON, HEAD, TAIL = 12, 15, 16
# What the guest itself changes as it is asked: reading the files touches pages.
MOVING = {"PG_referenced", "PG_active", "PG_lru"}
FIELDS = {"anon": "RssAnon", "file": "RssFile", "shmem": "RssShmem", "swap": "VmSwap"}
SIZES = {"total_vm": "VmSize", "locked_vm": "VmLck", "data_vm": "VmData", "stack_vm": "VmStk"}


@pytest.fixture
def seen(cell):
    with busy_subject(cell) as busy:
        subject = busy.subject
        said = {"status": subject.status_fields(), "smaps": smaps(subject)}
        cell.settle()
        with cell.machine.stopped():
            evidence = collect(cell.moment())
        yield subject, evidence, said


def smaps(subject):
    """Return (start, {field: KiB or text}) of each mapping."""
    parts = re.split(
        r"^(?=[0-9a-f]+-[0-9a-f]+ )", subject.read_file("/proc/self/smaps").decode(), flags=re.MULTILINE
    )
    return [
        (
            int(part.partition("-")[0], 16),
            dict(re.findall(r"^(\w+):\s*(.+?)(?: kB)?\s*$", part, re.MULTILINE)),
        )
        for part in parts
        if part and int(part.partition("-")[0], 16) < 1 << 63
    ]


def kernel_view(subject, name, pfns):
    fd = subject.open(f"/proc/{name}", "O_RDONLY")
    found = [struct.unpack("<Q", subject.read(fd, 8, 8 * pfn))[0] for pfn in pfns]
    subject.close(fd)
    return found


def mine(subject, evidence):
    return next(i for i, space in enumerate(evidence.spaces) if space.pid == subject.pid)


def test_counters_are_those_of_status(seen):
    subject, evidence, said = seen
    space = evidence.spaces[mine(subject, evidence)]
    kib = subject.page_size >> 10
    status = {
        name: int(said["status"][name].split()[0]) for name in (*FIELDS.values(), *SIZES.values(), "VmPTE")
    }
    # Before 6.2 what a task has not added yet, at most 64 pages, is missing from the guest's own view.
    lag = 0 if evidence.layout["RSS_STAT_IS_PERCPU"] else 64 * kib
    for mine_, theirs in FIELDS.items():
        assert abs(getattr(space.rss, mine_) * kib - status[theirs]) <= lag, theirs
    assert {name: space.counters[name] * kib for name in SIZES} == {
        name: status[SIZES[name]] for name in SIZES
    }
    assert space.counters["pgtables_bytes"] >> 10 == status["VmPTE"]


def test_mappings_are_those_of_smaps(seen):
    subject, evidence, said = seen
    vmas, here = evidence.vmas, mine(subject, evidence)
    rows = np.flatnonzero(vmas.space[:-1] == here)
    assert [int(vmas.start[row]) for row in rows] == [start for start, _ in said["smaps"]]
    told_by = {
        "rd": "VM_READ", "wr": "VM_WRITE", "ex": "VM_EXEC", "sh": "VM_SHARED", "lo": "VM_LOCKED",
        "ht": "VM_HUGETLB", "pf": "VM_PFNMAP", "mm": "VM_MIXEDMAP", "io": "VM_IO", "gd": "VM_GROWSDOWN",
    }  # fmt: skip
    for row, (_, fields) in zip(rows, said["smaps"], strict=True):
        flags = int(vmas.flags[row])
        told = {letter for letter, name in told_by.items() if flags & evidence.layout[name]}
        assert told == set(fields["VmFlags"].split()) & set(told_by), hex(int(vmas.start[row]))


def test_resident_pages_are_those_of_smaps(seen):
    subject, evidence, said = seen
    here = evidence.space == mine(subject, evidence)
    counted = here & evidence.normal & ~evidence.hugetlb
    kib = subject.page_size >> 10
    sums = np.bincount(evidence.vma[counted], evidence.base_pages[counted], len(evidence.vmas.start))
    rows = np.flatnonzero(evidence.vmas.space[:-1] == mine(subject, evidence))
    for row, (start, fields) in zip(rows, said["smaps"], strict=True):
        assert int(sums[row]) * kib == int(fields["Rss"]), hex(start)


def test_page_frames_are_those_of_kpagecount_and_kpageflags(cell, seen):
    subject, evidence, _ = seen
    rows = np.unique(evidence.frame[evidence.normal & ~evidence.hugetlb])
    pfns = evidence.frames.pfn[rows].tolist()
    counts, flags = (kernel_view(subject, name, pfns) for name in ("kpagecount", "kpageflags"))
    with cell.machine.stopped():
        pages = {page.pfn: page for page in cell.moment().linux.pages(pfns)}
    known = {name: bit for name, bit in KPF.items() if name in evidence.layout}
    for pfn, count, bits in zip(pfns, counts, flags, strict=True):
        page = pages[pfn]
        assert page.mapcount == count, page
        told = {name: bool(bits >> bit & 1) for name, bit in known.items() if name not in MOVING}
        # Of a tail 6.1 prints the flags of its own, which are not in use (fs/proc/page.c, stable_page_flags).
        assert page.tail or told == {name: page.has(name) for name in told}, page
        shape = (bool(bits >> ANON & 1), bool(bits >> HEAD & 1), bool(bits >> TAIL & 1))
        assert shape == (page.anon, page.compound and not page.tail, page.tail), page
