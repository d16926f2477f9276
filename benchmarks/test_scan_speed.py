"""Scanning is bound by memory, not by Python: no QEMU needed to see it."""

import os
import time

import numpy as np
import pytest

from hostwalk.memory import Region, SharedMap
from hostwalk.paging import AddressSpace, scan, x86_64

RAM, TABLES, PER_TABLE = 64 << 20, 512, 512
AIM = 10_000_000


@pytest.fixture
def memory():
    """Return a shared map of sparse RAM."""
    fd = os.memfd_create("benchmark")
    os.ftruncate(fd, RAM)
    with SharedMap(fd, (Region(0, RAM),)) as shared:
        yield shared
    os.close(fd)


def build(memory):
    """Map 1 GiB by small pages, the tables scattered over RAM; return the space."""
    random = np.random.default_rng(1)
    places = random.permutation(np.arange(1, RAM >> 12, dtype=np.uint64))[: TABLES + 3] << np.uint64(12)
    root, pud, pmd, *tables = places.tolist()
    for place, entries in ((root, [pud | 7]), (pud, [pmd | 7]), (pmd, [table | 7 for table in tables])):
        memory.write(place, np.array(entries, dtype="<u8").tobytes())
    for table in tables:
        frames = random.integers(0, RAM >> 12, PER_TABLE, dtype=np.uint64) << np.uint64(12)
        memory.write(table, (frames | np.uint64(0x8000_0000_0000_0067)).tobytes())
    return AddressSpace("benchmark", x86_64.make_format(4), root, 0, 1 << 47, x86_64.linux_bits({}))


def test_ten_million_leaves_a_second(memory):
    """Physical addresses and rights included."""
    space = build(memory)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        leaves = scan(memory, space)
        _ = leaves.phys_addr, leaves.rights
        times.append(time.perf_counter() - begin)
    rate = len(leaves) / min(times)
    print(f"{len(leaves)} leaves in {min(times) * 1e3:.2f} ms: {rate / 1e6:.0f} million a second")
    assert len(leaves) == TABLES * PER_TABLE
    assert rate > AIM
