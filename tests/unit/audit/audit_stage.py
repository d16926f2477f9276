"""A process in a fake memory: page tables as the manuals have them, counts as a kernel keeps them."""

from dataclasses import replace

import numpy as np

from hostwalk.audit.collect import _places, _swaps
from hostwalk.audit.evidence import KINDS, Evidence, Folios, Frames, Space, Vmas
from hostwalk.linux import Rss
from hostwalk.memory import FakeMemory, Region
from hostwalk.paging import AddressSpace, arm64, scan, with_layout, x86_64

RAM = (Region(0, 1 << 30),)
ROOT, PUD, PMD, PTE = 0x1000, 0x2000, 0x3000, 0x4000
PAGE, HUGE = 1 << 12, 1 << 21
ZERO, HUGE_ZERO, FILE = 0x50, 0x800, 0xFFFF_8880_0000_1000
ANON, SHMEM = 0xFFFF_8880_0000_2001, 0xFFFF_8880_0000_3000
R, W, X, SHARED, GROWS, PFNMAP, LOCKED, HUGETLB = 1, 2, 4, 8, 0x100, 0x400, 0x2000, 0x40_0000
EXCLUSIVE, SWAPBACKED = 1 << 17, 1 << 19

COMMON = {
    "VM_READ": R, "VM_WRITE": W, "VM_EXEC": X, "VM_SHARED": SHARED, "VM_GROWSDOWN": GROWS, "VM_PFNMAP": PFNMAP,
    "VM_LOCKED": LOCKED, "VM_HUGETLB": HUGETLB, "VM_MIXEDMAP": 0x1000_0000, "PG_anon_exclusive": 17,
    "PG_swapbacked": 19, "PG_swapcache": 10, "PAGE_TYPE_BYTE": 1, "GUP_PIN_COUNTING_BIAS": 1024,
    "NR_FOLL_PIN_ACQUIRED": 40, "CONFIG_HAVE_ARCH_USERFAULTFD_WP": 1, "sizeof(struct folio._large_mapcount)": 4,
}  # fmt: skip
X86 = COMMON | {
    "_PAGE_BIT_PROTNONE": 8, "_PAGE_BIT_SPECIAL": 9, "_PAGE_UFFD_WP": 1 << 10, "_PAGE_BIT_SAVED_DIRTY": 58,
    "SWP_TYPE_BITS": 5, "SWP_OFFSET_FIRST_BIT": 9, "SWP_PFN_BITS": 34, "SWP_MIGRATION_WRITE": 30,
}  # fmt: skip
ARM = COMMON | {
    "PTE_WRITE": 1 << 51, "PTE_DBM": 1 << 51, "PTE_DIRTY": 1 << 55, "PTE_SPECIAL": 1 << 56, "PTE_RDONLY": 1 << 7,
    "PTE_UFFD_WP": 1 << 58, "PTE_PRESENT_INVALID": 1 << 11, "PTE_CONT": 1 << 52, "CONT_PTES": 16, "CONT_PMDS": 16,
    "__SWP_TYPE_SHIFT": 6, "__SWP_TYPE_BITS": 5, "__SWP_OFFSET_SHIFT": 12, "__SWP_OFFSET_BITS": 50,
    "SWP_PFN_BITS": 36, "SWP_MIGRATION_WRITE": 30,
}  # fmt: skip


class X86Entries:
    """x86-64's bits, for entries as Linux 6.12 makes them."""

    layout, format = X86, x86_64.make_format(4)
    nx, linux_bits = 1 << 63, staticmethod(x86_64.linux_bits)

    def __init__(self):
        self.bits = {"w": 1 << 1, "user": 1 << 2, "d": 1 << 6, "special": 1 << 9, "uffd": 1 << 10}

    def leaf(self, pfn, *, large=False, x=False):
        return pfn << 12 | 1 << 5 | 1 << 2 | 1 | (0 if x else self.nx) | (1 << 7 if large else 0)

    def hidden(self, pfn):
        return (pfn << 12 ^ (1 << 52) - (1 << 12)) | 1 << 8 | 1 << 5

    def swap(self, kind, offset):
        return kind << 59 | (~offset & (1 << 50) - 1) << 9


class ArmEntries:
    """arm64's."""

    layout, format = ARM, arm64.make_format(arm64.Half(12, 48))
    nx, linux_bits = 1 << 54, staticmethod(arm64.linux_bits)

    def __init__(self):
        self.bits = {"w": 1 << 51, "user": 1 << 6, "d": 1 << 55, "special": 1 << 56, "uffd": 1 << 58}

    def leaf(self, pfn, *, large=False, x=False):
        return pfn << 12 | (1 if large else 3) | 1 << 53 | 3 << 10 | 1 << 7 | 1 << 6 | (0 if x else self.nx)

    def hidden(self, pfn):
        return pfn << 12 | 1 << 54 | 1 << 53 | 3 << 10 | 1 << 7

    def swap(self, kind, offset):
        return kind << 6 | offset << 12


class Stage:
    """What tests change before they ask for the evidence."""

    def __init__(self, entries):
        self.made, self.layout = entries, dict(entries.layout)
        self.memory = FakeMemory(RAM)
        for place, below in ((ROOT, PUD), (PUD, PMD), (PMD, PTE)):
            self.memory.write_u64(place, below | (3 if isinstance(entries, ArmEntries) else 7))
        self.vmas, self.frames, self.folios = [], {}, []
        self.counters, self.rss, self.held, self.spare = {}, Rss(0, 0, 0, 0), 0, 0

    def vma(self, start, end, flags, mapping=0, pages=0):
        self.vmas.append([0xABC0, start, end, flags, start >> 12, mapping, pages, start >> 12, 0])

    def entry(self, virt, value):
        self.memory.write_u64(self.place(virt), value)

    def place(self, virt):
        return PMD + 8 * (virt >> 21) if virt >= HUGE else PTE + 8 * (virt >> 12)

    def bits(self, virt, on=0, off=0):
        old = int.from_bytes(self.memory.read(self.place(virt), 8), "little")
        self.entry(virt, old & ~off | on)

    def frame(self, pfn, **values):
        self.frames.setdefault(pfn, {}).update(values)

    def evidence(self):
        bits = self.made.linux_bits({})
        space = AddressSpace("fake", self.made.format, ROOT, 0, 1 << 47, bits)
        leaves = scan(self.memory, with_layout(space, self.layout), non_present=True)
        vmas = Vmas(*self._vma_columns())
        here = np.flatnonzero(leaves.linux_present & leaves.inside(RAM))
        pfns, row = np.unique(leaves.pfn[here], return_inverse=True)
        frame = np.full(len(leaves), -1)
        frame[here] = row
        counters = {"map_count": len(self.vmas)} | self.counters
        tables = (leaves.tables - 1) * 4096
        counters.setdefault("pgtables_bytes", tables + self.spare * 4096)
        oddities = tuple(map(str, leaves.findings))
        mm = Space(7, "fake", 0x9000, self.rss, counters, tables, oddities)
        return Evidence(
            self.layout, RAM, leaves, np.zeros(len(leaves), dtype=np.int64), _places([leaves], vmas), frame,
            (mm,), vmas, self._frame_columns(pfns), self._folio_columns(), _swaps(leaves), ZERO, HUGE_ZERO,
            self.held,
        )  # fmt: skip

    def _vma_columns(self):
        columns = np.array([*self.vmas, [0] * 9], dtype=np.uint64).T
        address, start, end, flags, pgoff, mapping, pages, anon_pgoff, space = columns
        return address, space.astype(np.int64), start, end, flags, pgoff, mapping, pages, anon_pgoff

    def _frame_columns(self, pfns):
        default = {
            "flags": 0,
            "refcount": 1,
            "maps": 1,
            "head": 0,
            "mapping": 0,
            "index": 0,
            "kind": "",
            "folio": -1,
        }
        rows = [default | {"head": pfn} | self.frames.get(pfn, {}) for pfn in pfns.tolist()]
        rows.append(default | {"refcount": 0, "maps": 0})
        words = {
            name: np.array([r[name] for r in rows], dtype=np.uint64)
            for name in ("flags", "head", "mapping", "index")
        }
        ints = {
            name: np.array([r[name] for r in rows], dtype=np.int64) for name in ("refcount", "maps", "folio")
        }
        kind = np.array([KINDS.index(r["kind"]) for r in rows], dtype=np.uint8)
        return Frames(pfn=np.append(pfns, np.uint64((1 << 64) - 1)), kind=kind, **words, **ints)

    def _folio_columns(self):
        names = ("head", "order", "flags", "entire", "total", "pins", "refcount", "doubled")
        kinds = (np.uint64, np.int64, np.uint64, np.int64, np.int64, np.int64, np.int64, bool)
        columns = zip(names, kinds, strict=True)
        return Folios(*(np.array([f[name] for f in self.folios], dtype=kind) for name, kind in columns))


def clean(entries):
    """Return a stage with a mapping of every kind, all of it as it must be."""
    stage, made = Stage(entries), entries
    stage.vma(0x10000, 0x14000, R | W)
    stage.entry(0x10000, made.leaf(0x100) | made.bits["w"])
    stage.frame(0x100, mapping=ANON, flags=EXCLUSIVE | SWAPBACKED, index=0x10)
    stage.entry(0x11000, made.leaf(ZERO) | made.bits["special"])
    stage.frame(ZERO, maps=0)
    stage.entry(0x12000, made.swap(1, 0x77))
    stage.vma(0x20000, 0x22000, R | X, mapping=FILE, pages=0x22)
    stage.entry(0x21000, made.leaf(0x110, x=True))
    stage.frame(0x110, mapping=FILE, index=0x21, refcount=2)
    stage.vma(0x30000, 0x31000, 0)
    stage.entry(0x30000, made.hidden(0x120))
    stage.frame(0x120, mapping=ANON, flags=EXCLUSIVE | SWAPBACKED, index=0x30)
    stage.vma(0x40000, 0x41000, R | W | SHARED | LOCKED, mapping=SHMEM, pages=0x41)
    stage.entry(0x40000, made.leaf(0x130) | made.bits["w"])
    stage.frame(0x130, mapping=SHMEM, index=0x40, refcount=2, flags=SWAPBACKED)
    stage.vma(0x50000, 0x51000, R | W | SHARED | PFNMAP)
    stage.entry(0x50000, made.leaf(0x3) | made.bits["special"])
    stage.frame(0x3, maps=0, refcount=0)
    stage.vma(0x60000, 0x61000, R | W | GROWS)
    stage.vma(2 * HUGE, 3 * HUGE, R | W)
    stage.entry(2 * HUGE, made.leaf(0x400, large=True) | made.bits["w"])
    stage.frame(0x400, maps=0, mapping=ANON, flags=EXCLUSIVE | SWAPBACKED, index=0x400, folio=0)
    stage.folios.append(_folio(0x400))
    stage.vma(4 * HUGE, 5 * HUGE, R | W | HUGETLB)
    stage.entry(4 * HUGE, made.leaf(0x600, large=True) | made.bits["w"])
    stage.frame(0x600, maps=0, kind="hugetlb", mapping=ANON, flags=EXCLUSIVE, folio=1)
    stage.folios.append(_folio(0x600, flags=EXCLUSIVE))
    stage.rss, stage.spare = Rss(file=1, anon=2 + 512, swap=1, shmem=1), 1
    sizes = {
        "total_vm": 4 + 2 + 1 + 1 + 1 + 1 + 1024,
        "data_vm": 4 + 1024,
        "exec_vm": 2,
        "stack_vm": 1,
        "locked_vm": 1,
    }
    stage.counters = sizes
    return stage


def _folio(head, **changes):
    plain = {"order": 9, "flags": 0, "entire": 1, "total": 1, "pins": 0, "refcount": 1, "doubled": False}
    return plain | {"head": head} | changes


def with_rss(stage, **changes):
    stage.rss = replace(stage.rss, **changes)
