"""A kernel in a fake memory: x86-64, direct map of 1 GiB, structures laid out by a layout of our own."""

from itertools import pairwise

from hostwalk.image.layout import Layout
from hostwalk.linux import Linux
from hostwalk.memory import FakeMemory, Region
from hostwalk.paging import AddressSpace, x86_64

DIRECT = 0xFFFF_8880_0000_0000
VMEMMAP = 0xFFFF_EA00_0000_0000
ROOT = 0x1000
INIT_TASK = DIRECT + 0x10_0000
CPUS = 3

MEMBERS = {
    "struct task_struct": {
        "tasks": (0x10, 16), "thread_node": (0x20, 16), "signal": (0x30, 8), "pid": (0x38, 4),
        "tgid": (0x3C, 4), "comm": (0x40, 16), "mm": (0x50, 8), "rss_stat": (0x58, 20),
    },
    "struct task_rss_stat": {"count": (4, 16)},
    "struct signal_struct": {"thread_head": (8, 16)},
    "struct mm_struct": {
        "pgd": (0x8, 8), "mm_mt": (0x10, 16), "map_count": (0x20, 4), "total_vm": (0x28, 8),
        "locked_vm": (0x30, 8), "pinned_vm": (0x38, 8), "flags": (0x40, 8), "def_flags": (0x48, 8),
        "pgtables_bytes": (0x50, 8),
        "write_protect_seq": (0x58, 4), "rss_stat": (0x60, 160),
    },
    "seqcount_t": {"sequence": (0, 4)},
    "struct mm_rss_stat": {"count": (0, 32)},
    "struct percpu_counter": {"count": (8, 8), "counters": (32, 8)},
    "struct vm_area_struct": {
        "vm_start": (0, 8), "vm_end": (8, 8), "vm_page_prot": (24, 8), "vm_flags": (32, 8),
        "vm_pgoff": (120, 8), "vm_file": (128, 8),
    },
    "struct file": {"f_path": (0x40, 16)},
    "struct path": {"dentry": (8, 8)},
    "struct dentry": {"d_parent": (0x18, 8), "d_name": (0x20, 16)},
    "struct qstr": {"name": (8, 8)},
    "struct maple_tree": {"ma_root": (8, 8)},
    "struct maple_range_64": {"pivot": (8, 120), "slot": (128, 128)},
    "struct maple_arange_64": {"pivot": (8, 72), "slot": (80, 80)},
    "struct page": {
        "flags": (0, 8), "compound_head": (8, 8), "mapping": (24, 8), "index": (32, 8), "_mapcount": (48, 4),
        "_refcount": (52, 4),
    },
    "struct folio": {"_flags_1": (64, 8), "_entire_mapcount": (84, 4), "_pincount": (92, 4)},
}  # fmt: skip
SIZES = {
    "struct maple_node": 256, "struct page": 64, "struct folio": 256, "struct percpu_counter": 40,
}  # fmt: skip
CONSTANTS = {
    "PAGE_SHIFT": 12, "RSS_STAT_IS_PERCPU": 1, "MM_FILEPAGES": 0, "MM_ANONPAGES": 1, "MM_SWAPENTS": 2,
    "MM_SHMEMPAGES": 3, "MAPLE_NODE_MASK": 255, "MAPLE_NODE_TYPE_SHIFT": 3, "MAPLE_NODE_TYPE_MASK": 15,
    "MAPLE_RESERVED_RANGE": 4096, "MAPLE_HEIGHT_MAX": 31, "MAPLE_RANGE64_SLOTS": 16,
    "MAPLE_ARANGE64_SLOTS": 10, "maple_dense": 0, "maple_leaf_64": 1, "maple_range_64": 2, "maple_arange_64": 3,
    "MMF_HAS_PINNED": 27,
    "VM_READ": 1, "VM_WRITE": 2, "VM_EXEC": 4, "VM_SHARED": 8, "VM_MAYSHARE": 0x80, "VM_LOCKED": 0x2000,
    "VM_ACCESS_FLAGS": 7, "VM_NONE": 0, "VM_FAULT_OOM": 1, "PG_locked": 0, "PG_uptodate": 2, "PG_dirty": 3,
    "PG_head": 6, "PG_anon_exclusive": 17, "PG_mappedtodisk": 17, "PAGE_TYPE_BYTE": 1, "PGTY_buddy": 0xF0,
    "PGTY_hugetlb": 0xF4, "PGTY_slab": 0xF5, "ZONES_PGSHIFT": 62, "ZONES_MASK": 3, "NODES_PGSHIFT": 54,
    "NODES_MASK": 0xFF, "GUP_PIN_COUNTING_BIAS": 1024, "COMPOUND_INFO_HAS_MASK": 0,
}  # fmt: skip


def layout(without=(), **changes):
    table = dict(CONSTANTS)
    for type_, members in MEMBERS.items():
        for name, (offset, size) in members.items():
            table[f"offsetof({type_}, {name})"] = offset
            table[f"sizeof({type_}.{name})"] = size
    table |= {f"sizeof({type_})": size for type_, size in SIZES.items()}
    return Layout({key: value for key, value in (table | changes).items() if key not in without}, "a fake")


class FakeKernel:
    """Fills memory; ``linux()`` reads it back."""

    def __init__(self, **changes):
        self.layout = layout(**changes)
        self.memory = FakeMemory((Region(0, 1 << 30),))
        self.free = DIRECT + 0x20_0000
        self.symbols = {"init_task": INIT_TASK, "vmemmap_base": self.place(8)}
        self.put(self.symbols["vmemmap_base"], VMEMMAP)
        for index, below in ((0x111, 0x2000), (0x1D4, 0x3000)):
            self.memory.write_u64(ROOT + 8 * index, below | 0x63)
        self.memory.write_u64(0x2000, 0x1E3)
        self.memory.write_u64(0x3000, 0x4063)
        self.memory.write_u64(0x4000, 0x3E0_0000 | 0x1E3)

    def linux(self):
        format_, bits = x86_64.make_format(4), x86_64.linux_bits({})
        kernel = AddressSpace("kernel", format_, ROOT, (1 << 64) - (1 << 47), 1 << 64, bits)
        user = AddressSpace("user", format_, ROOT, 0, 1 << 47, bits)
        return Linux(self.memory, kernel, self.symbols, self.layout, user)

    def place(self, size, align=256):
        self.free = -(-self.free // align) * align
        self.free += size
        return self.free - size

    def put(self, virt, value, size=8):
        low = 0x3E0_0000 - VMEMMAP if virt >= VMEMMAP else -DIRECT
        self.memory.write(virt + low, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def put_text(self, virt, text):
        self.memory.write(virt - DIRECT, text.encode() + b"\0")

    def set(self, address, type_, **members):
        for name, value in members.items():
            offset, size = MEMBERS[type_][name]
            self.put(address + offset, value, min(size, 8))
        return address

    def tasks(self, *tasks):
        """Make tasks of (pid, comm, mm, thread pids), in a list that begins at init_task."""
        places = [INIT_TASK, *(self.place(0x100) for _ in tasks[1:])]
        for i, (place, (pid, comm, mm, threads)) in enumerate(zip(places, tasks, strict=True)):
            signal, following = self.place(0x40), places[(i + 1) % len(places)]
            self.set(
                place, "struct task_struct", tasks=following + 0x10, signal=signal, pid=pid, tgid=pid, mm=mm
            )
            self.put_text(place + 0x40, comm)
            others = [place]
            for thread in threads:
                others.append(self.place(0x100))
                self.set(others[-1], "struct task_struct", signal=signal, pid=thread, tgid=pid, mm=mm)
            nodes = [signal + 8, *(other + 0x20 for other in others), signal + 8]
            for node, after in pairwise(nodes):
                self.put(node, after)
        return places

    def vma(self, start, end, flags=0, file=0):
        address = self.place(0x100)
        members = {
            "vm_start": start,
            "vm_end": end,
            "vm_flags": flags,
            "vm_file": file,
            "vm_pgoff": start >> 12,
        }
        return self.set(address, "struct vm_area_struct", **members)

    def file(self, path):
        root = self.place(0x100)
        self.set(root, "struct dentry", d_parent=root)
        names, dentry = [(root, "/")], root
        for part in path.strip("/").split("/"):
            parent, dentry = dentry, self.place(0x100)
            self.set(dentry, "struct dentry", d_parent=parent)
            names.append((dentry, part))
        for place, text in names:
            at = self.place(64)
            self.put_text(at, text)
            self.put(place + 0x20 + 8, at)
        file = self.place(0x100)
        self.put(file + 0x40 + 8, dentry)
        return file

    def node(self, kind, entries):
        """Make a maple node of (last index, value); return it encoded."""
        type_ = "struct maple_arange_64" if kind == 3 else "struct maple_range_64"
        count = {3: 10}.get(kind, 16)
        node = self.place(256)
        for i, (last, value) in enumerate(entries):
            if i < count - 1:
                self.put(node + MEMBERS[type_]["pivot"][0] + 8 * i, last)
            self.put(node + MEMBERS[type_]["slot"][0] + 8 * i, value)
        return node | kind << 3 | 4

    def mm(self, root=0, **members):
        address = self.place(0x200)
        self.set(address, "struct mm_struct", **members)
        self.put(address + 0x10 + 8, root)
        return address

    def page(self, pfn, **members):
        return self.set(VMEMMAP + 64 * pfn, "struct page", **{"_mapcount": -1, "_refcount": 1} | members)
