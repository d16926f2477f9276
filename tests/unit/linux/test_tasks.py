"""Tasks and address spaces, read from a fake kernel."""

import pytest
from fake_kernel import CPUS, DIRECT, INIT_TASK, FakeKernel

from hostwalk.errors import LayoutError, WalkError
from hostwalk.linux import Rss

LAST = (1 << 64) - 1


@pytest.fixture
def kernel():
    return FakeKernel()


def test_reading_by_virtual_address(kernel):
    kernel.memory.write(0x30_0FFE, b"abcdef\0")
    linux = kernel.linux()
    assert linux.read_virt(DIRECT + 0x30_0FFE, 6) == b"abcdef"
    assert linux.string(DIRECT + 0x30_0FFE) == "abcdef"
    assert linux.string(DIRECT + 0x30_0FFE, 3) == "abc"
    assert linux.uint(DIRECT + 0x30_0FFE, 2) == 0x6261


def test_an_unmapped_address_is_named_with_its_walk(kernel):
    with pytest.raises(WalkError, match=r"0xffff900000000000 is not mapped: empty entry"):
        kernel.linux().read_virt(0xFFFF_9000_0000_0000, 8)


def test_translations_are_kept_for_a_moment_only(kernel):
    linux = kernel.linux()
    assert linux.phys(DIRECT + 0x1234) == 0x1234
    kernel.memory.write_u64(0x2000, 0)
    assert linux.phys(DIRECT + 0x1678) == 0x1678
    with pytest.raises(WalkError):
        linux.anew().phys(DIRECT + 0x1678)


def test_tasks_and_threads(kernel):
    kernel.tasks((0, "swapper/0", 0, ()), (1, "init", 0, ()), (7, "subject", 0, (8, 9)))
    linux = kernel.linux()
    assert [(task.pid, task.comm) for task in linux.tasks()] == [
        (0, "swapper/0"),
        (1, "init"),
        (7, "subject"),
    ]
    assert [thread.pid for thread in linux.task(7).threads()] == [7, 8, 9]
    assert (linux.task(9).pid, linux.task(9).tgid) == (9, 7)
    assert linux.task(1).mm is None
    assert linux.recognised()
    with pytest.raises(WalkError, match="no task with pid 10"):
        linux.task(10)


def test_a_list_that_never_comes_back(kernel):
    kernel.tasks((0, "swapper/0", 0, ()))
    loop = kernel.place(16)
    kernel.put(loop, loop)
    kernel.put(INIT_TASK + 0x10, loop)
    with pytest.raises(WalkError, match="more than 65536"):
        list(kernel.linux().tasks())


def test_the_wrong_symbols_are_noticed(kernel):
    assert not kernel.linux().recognised()
    kernel.symbols["init_task"] = 0xFFFF_9000_0000_0000
    assert not kernel.linux().recognised()


def mm_of(kernel, address):
    kernel.tasks((0, "swapper/0", 0, ()), (1, "init", address, (2,)))
    return kernel.linux().task(1).mm


def test_members_of_an_mm(kernel):
    address = kernel.mm(
        pgd=DIRECT + 0x7000, map_count=3, total_vm=100, locked_vm=5, pinned_vm=6, flags=1 << 27,
        pgtables_bytes=8192, write_protect_seq=4, def_flags=0x2000,
    )  # fmt: skip
    mm = mm_of(kernel, address)
    assert (mm.map_count, mm.total_vm, mm.locked_vm, mm.pinned_vm) == (3, 100, 5, 6)
    assert (mm.has_pinned, mm.pgtables_bytes, mm.write_protect_seq, mm.def_flags) == (True, 8192, 4, 0x2000)
    assert (mm.pgd_phys, mm.space.root, mm.space.start) == (0x7000, 0x7000, 0)


def test_isolated_page_tables_have_a_second_root(kernel):
    kernel.memory.write_u64(0x7000 + 8 * 3, 1 << 63 | 0x8067)
    mm = mm_of(kernel, kernel.mm(pgd=DIRECT + 0x7000))
    assert (mm.pgd_phys, mm.space.root) == (0x7000, 0x8000)


def test_counters_add_what_each_cpu_keeps(kernel):
    address = kernel.mm()
    offsets, parts, mask = kernel.place(8 * CPUS), kernel.place(0x100), kernel.place(8)
    kernel.symbols |= {
        "__per_cpu_offset": offsets,
        "nr_cpu_ids": kernel.place(4),
        "__cpu_possible_mask": mask,
    }
    kernel.put(kernel.symbols["nr_cpu_ids"], CPUS, 4)
    kernel.put(mask, 0b101)
    for cpu in range(CPUS):
        kernel.put(offsets + 8 * cpu, 0x40 * cpu)
    for index, (total, each) in enumerate(
        ((10, (1, 50, -3)), (20, (-5, 50, 0)), (0, (0, 50, 0)), (7, (0, 50, 1)))
    ):
        counter = address + 0x60 + 40 * index
        kernel.set(counter, "struct percpu_counter", count=total, counters=parts + 4 * index)
        for cpu in range(CPUS):
            kernel.put(parts + 4 * index + 0x40 * cpu, each[cpu], 4)
    assert mm_of(kernel, address).rss == Rss(file=8, anon=15, swap=0, shmem=8)


def test_counters_add_what_each_task_keeps():
    kernel = FakeKernel(RSS_STAT_IS_PERCPU=0)
    address = kernel.mm()
    for index, total in enumerate((10, 20, -1, 3)):
        kernel.put(address + 0x60 + 8 * index, total)
    places = kernel.tasks((0, "swapper/0", 0, ()), (1, "init", address, ()), (2, "other", 0, ()))
    for index, cached in enumerate((1, -2, 1, 0)):
        kernel.put(places[1] + 0x58 + 4 + 4 * index, cached, 4)
        kernel.put(places[2] + 0x58 + 4 + 4 * index, 99, 4)
    assert kernel.linux().task(1).mm.rss == Rss(file=11, anon=18, swap=0, shmem=3)


def test_mappings_of_a_deep_tree(kernel):
    file = kernel.file("/usr/bin/true")
    vmas = [
        kernel.vma(0x1000, 0x3000, 1, file),
        kernel.vma(0x5000, 0x6000, 0x2083),
        kernel.vma(0x9000, 0xA000, 8),
    ]
    left = kernel.node(1, [(0xFFF, 0), (0x2FFF, vmas[0]), (0x4FFF, 0), (0x5FFF, vmas[1])])
    right = kernel.node(1, [(0x8FFF, 0), (0x9FFF, vmas[2]), (LAST, 0)])
    root = kernel.node(3, [(0x5FFF, left), (LAST, right)])
    mm = mm_of(kernel, kernel.mm(root=root & ~4 | 2))
    assert [(vma.start, vma.end) for vma in mm.vmas()] == [
        (0x1000, 0x3000),
        (0x5000, 0x6000),
        (0x9000, 0xA000),
    ]
    first, second, _ = mm.vmas()
    assert (first.file, second.file) == ("/usr/bin/true", None)
    assert second.names == {"VM_READ", "VM_WRITE", "VM_MAYSHARE", "VM_LOCKED"}
    assert second.has("VM_READ", "VM_LOCKED")
    assert str(second) == "000000005000-000000006000 rw-s  VM_LOCKED"
    assert mm.vma(0x5FFF) == second
    assert mm.vma(0x3000) is None


def test_a_full_leaf_node_uses_its_last_slot(kernel):
    vmas = [kernel.vma(0x1000 * i, 0x1000 * (i + 1)) for i in range(16)]
    entries = [(0x1000 * (i + 1) - 1, vma) for i, vma in enumerate(vmas)]
    root = kernel.node(1, entries)
    found = mm_of(kernel, kernel.mm(root=root & ~4 | 2)).vmas()
    assert [vma.start for vma in found] == [0x1000 * i for i in range(16)]


def test_no_mappings(kernel):
    assert mm_of(kernel, kernel.mm()).vmas() == ()


def test_a_tree_below_itself(kernel):
    root = kernel.node(2, [(LAST, 0)])
    node = root & ~0xFF
    kernel.put(node + 128, root)
    kernel.put(node + 8, LAST)
    with pytest.raises(WalkError, match="deeper than"):
        mm_of(kernel, kernel.mm(root=root & ~4 | 2)).vmas()


def test_a_node_of_no_known_type(kernel):
    root = kernel.node(2, []) | 9 << 3
    with pytest.raises(WalkError, match="node of type"):
        mm_of(kernel, kernel.mm(root=root & ~4 | 2)).vmas()


def test_a_missing_member_is_named(kernel):
    kernel.layout = FakeKernel(without=("offsetof(struct mm_struct, total_vm)",)).layout
    with pytest.raises(LayoutError, match="total_vm"):
        _ = mm_of(kernel, kernel.mm()).total_vm


def linked(kernel, *places):
    """Give a list of tasks its way back."""
    for i, place in enumerate(places):
        kernel.put(place + 0x18, places[i - 1] + 0x10)


def test_a_process_is_found_again_only_where_it_still_is(kernel):
    places = kernel.tasks((0, "swapper/0", 0, ()), (1, "init", 0, ()), (7, "subject", 0, ()))
    linked(kernel, *places)
    linux = kernel.linux()
    assert linux.task(7).address == places[2]
    assert linux.anew().task(7).address == places[2]
    moved = kernel.place(0x100)
    kernel.set(moved, "struct task_struct", tasks=INIT_TASK + 0x10, pid=7, tgid=7)
    kernel.put(places[1] + 0x10, moved + 0x10)
    linked(kernel, INIT_TASK, places[1], moved)
    kernel.put(places[2] + 0x18, 0xDEAD_0000_0000_0122)
    assert linux.anew().task(7).address == moved


def test_a_number_that_another_process_has_now_is_looked_up(kernel):
    places = kernel.tasks((0, "swapper/0", 0, ()), (1, "init", 0, ()), (7, "subject", 0, ()))
    linked(kernel, *places)
    linux = kernel.linux()
    assert linux.task(7).comm == "subject"
    kernel.set(places[2], "struct task_struct", pid=8, tgid=8)
    assert linux.anew().task(8).address == places[2]
    with pytest.raises(WalkError, match="no task with pid 7"):
        linux.anew().task(7)
