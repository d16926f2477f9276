"""Where a guest has code, in a fake kernel."""

import numpy as np
import pytest
from fake_kernel import ROOT, FakeKernel

from hostwalk.linux.code import code_blocks

NX, LEAF, TABLE, USER = 1 << 63, 0x1E3, 0x63, 4
BLOCK = 4096


@pytest.fixture
def kernel():
    """A kernel whose direct map and vmemmap are data."""
    fake = FakeKernel()
    fake.memory.write_u64(0x2000, LEAF | NX)
    fake.memory.write_u64(0x4000, 0x3E0_0000 | LEAF | NX)
    fake.tasks((0, "swapper/0", 0, ()), (1, "init", 0, ()))
    return fake


def blocks(kernel):
    return np.flatnonzero(code_blocks(kernel.linux(), BLOCK)).tolist()


def test_a_kernel_of_data_has_none(kernel):
    assert blocks(kernel) == []


def test_an_executable_leaf_is_code_all_of_it(kernel):
    kernel.memory.write_u64(ROOT + 8 * 0x1FF, 0x5000 | TABLE)
    kernel.memory.write_u64(0x5000 + 8 * 0x1FE, 0x6000 | TABLE)
    kernel.memory.write_u64(0x6000 + 8 * 8, 0x80_0000 | LEAF)
    assert blocks(kernel) == list(range(0x800, 0xA00))


@pytest.mark.parametrize(("forbidden", "found"), [(0, [0x123]), (NX, [])])
def test_a_process_s_pages_count_where_it_may_execute_them(kernel, forbidden, found):
    mm, root = kernel.place(0x100), 0x7000
    kernel.tasks((0, "swapper/0", 0, ()), (1, "init", mm, ()))
    kernel.set(mm, "struct mm_struct", pgd=0xFFFF_8880_0000_0000 + root)
    for table, below in ((root, 0x8000), (0x8000, 0x9000), (0x9000, 0xA000)):
        kernel.memory.write_u64(table, below | TABLE | USER)
    kernel.memory.write_u64(0xA000 + 8 * 0x10, 0x12_3000 | TABLE | USER | forbidden)
    assert blocks(kernel) == found
