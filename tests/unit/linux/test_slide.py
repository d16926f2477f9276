"""A kernel that KASLR has moved is found by its executable mappings."""

import pytest
from fake_kernel import INIT_TASK, ROOT, FakeKernel

from hostwalk.errors import WalkError
from hostwalk.linux import find_slide, slid
from hostwalk.linux.kernel import kernel_roots
from hostwalk.machine import Registers
from hostwalk.paging import arm64
from hostwalk.target import Arch

REGISTERS = Registers(Arch.X86_64, {"cr0": 1 << 31, "cr3": ROOT, "cr4": 0, "efer": 0xD00})
TEXT = 0xFFFF_8880_0000_0000
MOVED = 0x1234_0000_0000


@pytest.fixture
def kernel():
    made = FakeKernel()
    made.tasks((0, "swapper/0", 0, ()))
    return made


def find(kernel, symbols):
    return find_slide(kernel.memory, REGISTERS, symbols, kernel.layout)


def test_a_kernel_that_was_not_moved(kernel):
    assert find(kernel, {"init_task": INIT_TASK}) == 0


def test_a_kernel_that_was_moved(kernel):
    symbols = {"init_task": INIT_TASK - MOVED, "_stext": TEXT - MOVED, "cpu_number": 0x1000}
    assert find(kernel, symbols) == MOVED
    moved = slid(symbols, MOVED)
    assert (moved["init_task"], moved["cpu_number"], len(moved)) == (INIT_TASK, 0x1000, 3)


@pytest.mark.parametrize(
    "symbols", [{"init_task": INIT_TASK + 8}, {"init_task": INIT_TASK + 8, "_stext": TEXT}]
)
def test_another_kernel_is_told(kernel, symbols):
    with pytest.raises(WalkError, match="not the one that symbols and layout are of"):
        find(kernel, symbols)


def test_isolated_processors_have_another_root():
    kernel = FakeKernel().linux().kernel_space
    assert kernel_roots(kernel, {}) == (ROOT,) if not ROOT & 0x1000 else (ROOT, 0)
    values = {"tcr_el1": 16 | 16 << 16 | 2 << 30 | 5 << 32, "ttbr0_el1": 0, "ttbr1_el1": 0x4000, "mair_el1": 0xFF,
              "id_aa64mmfr0_el1": 0x1125, "id_aa64mmfr1_el1": 0, "id_aa64mmfr2_el1": 0, "sctlr_el1": 1}  # fmt: skip
    space = arm64.spaces(values).kernel
    assert kernel_roots(space, {}) == (0x4000,)
    assert kernel_roots(space, {"tramp_pg_dir": 0x1000, "swapper_pg_dir": 0x3000}) == (0x4000, 0x6000)
