"""Counters of a node, read from a fake kernel."""

from fake_kernel import CPUS, FakeKernel

from hostwalk.image.layout import Layout
from hostwalk.linux import Node

STAT, ITEMS = 0x100, 8
LAYOUT = {
    "offsetof(struct pglist_data, vm_stat)": STAT, "sizeof(struct pglist_data.vm_stat)": 8 * ITEMS,
    "offsetof(struct pglist_data, per_cpu_nodestats)": 8, "sizeof(struct pglist_data.per_cpu_nodestats)": 8,
    "offsetof(struct per_cpu_nodestat, vm_node_stat_diff)": 1,
    "sizeof(struct per_cpu_nodestat.vm_node_stat_diff)": ITEMS, "NR_FOLL_PIN_ACQUIRED": 3,
}  # fmt: skip


def make_node(kernel, value):
    address = kernel.place(0x200)
    kernel.symbols["contig_page_data"] = address
    kernel.put(address + STAT + 8 * 3, value)
    kernel.put(address + 8, kernel.place(0x100))
    return address


def test_a_counter_without_processors_of_its_own():
    table = {key: value for key, value in LAYOUT.items() if "per_cpu_nodestat," not in key}
    kernel = FakeKernel()
    kernel.layout = Layout(dict(kernel.layout) | table, "a fake")
    address = make_node(kernel, 41)
    node = Node.first(kernel.linux())
    assert (node.address, node.stat("NR_FOLL_PIN_ACQUIRED")) == (address, 41)


def test_what_processors_hold_back_is_counted():
    kernel = FakeKernel()
    kernel.layout = Layout(dict(kernel.layout) | LAYOUT, "a fake")
    address = make_node(kernel, 41)
    offsets, diffs = kernel.place(8 * CPUS), kernel.place(0x1000)
    kernel.symbols |= {"__per_cpu_offset": offsets, "nr_cpu_ids": kernel.place(8)}
    kernel.put(kernel.symbols["nr_cpu_ids"], CPUS, 4)
    kernel.put(address + 8, diffs)
    for cpu in range(CPUS):
        kernel.put(offsets + 8 * cpu, 0x40 * cpu)
        kernel.put(diffs + 0x40 * cpu + 1 + 3, -1, 1)
    assert Node.first(kernel.linux()).stat("NR_FOLL_PIN_ACQUIRED") == 41 - CPUS
