"""Collect the evidence of one moment, in few passes: tasks, mappings, tables, frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hostwalk.audit.evidence import (
    KINDS,
    NOWHERE,
    Evidence,
    Folios,
    Frames,
    Ints,
    Space,
    Swaps,
    Vmas,
)
from hostwalk.errors import WalkError
from hostwalk.linux import Linux, Mm, Node, Task, maple
from hostwalk.linux.pages import Pages
from hostwalk.linux.task import TASKS_MAX
from hostwalk.moment import Moment
from hostwalk.paging import Leaves, scan
from hostwalk.paging.format import Mask, Words, number

COUNTERS = (
    "total_vm", "data_vm", "exec_vm", "stack_vm", "locked_vm", "map_count", "pgtables_bytes",
)  # fmt: skip
ANON_PGOFF = ("__vm_anon_pgoff_lo", "__vm_anon_pgoff_hi")
VMA_MEMBERS = ("vm_start", "vm_end", "vm_flags", "vm_pgoff", "vm_file")
NO_HUGE_ZERO = (1 << 64) - 1
FULL = (1 << 64) - 1
DOUBLE_MAP = "PG_workingset"


@dataclass(frozen=True)
class User:
    """A process with an address space of its own; ``tasks`` are the addresses of all that run in it."""

    pid: int
    comm: str
    mm: Mm


def collect(moment: Moment) -> Evidence:
    """Return the evidence about all processes; raises WalkError when the kernel's objects cannot be followed."""
    linux, found = moment.linux, users(moment.linux)
    scans = [scan(moment.memory, user.mm.space, non_present=True) for user in found]
    leaves = _joined(scans)
    space = np.repeat(np.arange(len(found)), [len(each) for each in scans])
    vmas = _vmas(linux, found)
    frames, folios, frame = _frames(moment, leaves)
    return Evidence(
        linux.layout, moment.memory.regions, leaves, space, _places(scans, vmas), frame,
        tuple(_space(user, each) for user, each in zip(found, scans, strict=True)), vmas, frames, folios,
        _swaps(leaves), moment.zero_pfn, _huge_zero_pfn(linux), _pins_held(linux), linux,
    )  # fmt: skip


def users(linux: Linux) -> tuple[User, ...]:
    """Return the processes that have an address space, each space once."""
    spaces: dict[int, list[Task]] = {}
    for leader in _leaders_with_mm(linux):
        for task in leader.threads():
            if task.mm is not None:
                spaces.setdefault(task.mm.address, []).append(task)
    return tuple(
        User(tasks[0].tgid, tasks[0].comm, Mm(linux, mm, tuple(task.address for task in tasks)))
        for mm, tasks in spaces.items()
    )


def _leaders_with_mm(linux: Linux) -> Iterator[Task]:
    """Yield the leaders of processes, kernel threads left out; the space of one that exits may live on in threads."""
    first, offset = linux.symbols["init_task"], linux.layout.offsetof("struct task_struct", "tasks")
    address = first
    for _ in range(TASKS_MAX):
        node, mm, state = linux.members(address, "struct task_struct", "tasks", "mm", "exit_state")
        if mm or state:
            yield Task(linux, address)
        address = (node & FULL) - offset
        if address == first:
            return
    raise WalkError(f"there are more than {TASKS_MAX} tasks")


def _space(user: User, leaves: Leaves) -> Space:
    counters = dict(
        zip(COUNTERS, user.mm.linux.members(user.mm.address, "struct mm_struct", *COUNTERS), strict=True)
    )
    found = (str(finding) for finding in leaves.findings)
    return Space(
        user.pid,
        user.comm,
        user.mm.address,
        user.mm.rss,
        counters,
        _table_bytes(user.mm, leaves),
        tuple(found),
    )


def _table_bytes(mm: Mm, leaves: Leaves) -> int:
    """Return the bytes of the tables that Linux accounts for: neither the root's nor those of the p4d level."""
    levels = mm.space.format.levels
    uncounted = 1
    if levels[1].name == "p4d":
        root = mm.linux.memory.gather(np.array([mm.space.root], dtype=np.uint64), levels[0].table_size)[0]
        used = mm.space.end >> levels[0].shift
        uncounted += int(np.count_nonzero(root[:used] & np.uint64(1)))
    return (leaves.tables - uncounted) * levels[-1].table_size


def _joined(scans: Sequence[Leaves]) -> Leaves:
    def words(name: str) -> Words:
        return np.concatenate([getattr(each, name) for each in scans])

    return replace(
        scans[0],
        virt_addr=words("virt_addr"),
        entry=words("entry"),
        entry_phys=words("entry_phys"),
        level=np.concatenate([each.level for each in scans]),
        upper=np.concatenate([each.upper for each in scans]),
    )


def _vmas(linux: Linux, found: Sequence[User]) -> Vmas:
    """Return the mappings of all spaces, in order, and a row of nothing at the end."""
    files = _Files(linux)
    rows = [
        (*_vma(linux, files, address), i)
        for i, user in enumerate(found)
        for address in _vma_addresses(user.mm)
    ]
    rows.append((0,) * 9)
    columns = np.array(rows, dtype=np.uint64).T
    address, start, end, flags, pgoff, mapping, pages, anon_pgoff, space = columns
    return Vmas(address, space.astype(np.int64), start, end, flags, pgoff, mapping, pages, anon_pgoff)


def _vma_addresses(mm: Mm) -> Iterator[int]:
    tree = mm.address + mm.linux.layout.offsetof("struct mm_struct", "mm_mt")
    return (entry.value for entry in maple.entries(mm.linux, tree))


def _vma(linux: Linux, files: _Files, address: int) -> tuple[int, ...]:
    start, end, flags, pgoff, file = linux.members(address, "struct vm_area_struct", *VMA_MEMBERS)
    return (address, start, end, flags, pgoff, *files.mapping(file), _anon_pgoff(linux, address, pgoff))


def _anon_pgoff(linux: Linux, address: int, pgoff: int) -> int:
    """Return vma_start_anon_pgoff() (include/linux/mm.h, 7.3); before, there was but one offset."""
    if not linux.layout.has_member("struct vm_area_struct", ANON_PGOFF[0]):
        return pgoff
    low, high = linux.members(address, "struct vm_area_struct", *ANON_PGOFF)
    return high << 32 | low


class _Files:
    """The page caches of files, looked up once."""

    def __init__(self, linux: Linux) -> None:
        self._linux = linux
        self._known = {0: (0, 0)}

    def mapping(self, file: int) -> tuple[int, int]:
        """Return a file's ``address_space *`` and its size in pages."""
        if file not in self._known:
            linux = self._linux
            mapping = linux.member(file, "struct file", "f_mapping")
            host = linux.member(mapping, "struct address_space", "host")
            size = linux.member(host, "struct inode", "i_size")
            self._known[file] = mapping, -(-size // linux.layout["PAGE_SIZE"])
        return self._known[file]


def _places(scans: Sequence[Leaves], vmas: Vmas) -> Ints:
    """Return the row of the mapping that holds each leaf, NOWHERE where none does."""
    columns, base = [], 0
    for i, leaves in enumerate(scans):
        rows = int(np.count_nonzero(vmas.space[:-1] == i))
        starts, ends = vmas.start[base : base + rows], vmas.end[base : base + rows]
        row = np.searchsorted(starts, leaves.virt_addr, side="right") - 1
        inside = (
            (row >= 0) & (leaves.virt_addr + (leaves.size - np.uint64(1)) < ends[row]) if rows else row >= 0
        )
        columns.append(np.where(inside, row + base, NOWHERE))
        base += rows
    return np.concatenate(columns)


def _frames(moment: Moment, leaves: Leaves) -> tuple[Frames, Folios, Ints]:
    """Return the frames that leaves point to, the large folios that they are of, and each leaf's frame."""
    here = np.flatnonzero(leaves.linux_present & leaves.inside(moment.memory.regions))
    pfns, row = np.unique(leaves.pfn[here], return_inverse=True)
    frame = np.full(len(leaves), NOWHERE)
    frame[here] = row
    pages = moment.linux.pages(pfns)
    large = np.flatnonzero(pages.order > 0)
    heads, folio_row = np.unique(pages.head[large], return_inverse=True)
    folios = _folios(pages, heads, large[np.unique(folio_row, return_index=True)[1]])
    folio = np.full(len(pfns), NOWHERE)
    folio[large] = folio_row
    return _with_nothing(pages, folio, folios), folios, frame


def _folios(pages: Pages, heads: Words, sample: NDArray[np.intp]) -> Folios:
    """Return the large folios; ``sample`` is a row of ``pages`` in each of them."""
    rows, layout = pages.array.folios(heads), pages.array.linux.layout
    counted = rows.has("_large_mapcount")
    whole = rows.column("_entire_mapcount" if rows.has("_entire_mapcount") else "_total_mapcount") + 1
    second = rows.column("_flags_1").view(np.uint64) >> np.uint64(layout[DOUBLE_MAP]) & np.uint64(1)
    return Folios(
        heads, pages.order[sample], rows.words[:, layout.offsetof("struct page", "flags") // 8], whole,
        rows.column("_large_mapcount") + 1 if counted else np.full(len(heads), -1),
        pages.pincount[sample], pages.refcount[sample],
        second.astype(bool) & (not rows.has("_entire_mapcount")),
    )  # fmt: skip


def _with_nothing(pages: Pages, folio: Ints, folios: Folios) -> Frames:
    """Return the columns of frames with a row of nothing at the end."""
    whole = np.append(folios.entire, 0)[folio]
    return Frames(
        np.append(pages.pfn, np.uint64(FULL)), np.append(pages.flags, np.uint64(0)), np.append(pages.refcount, 0),
        np.append(pages.mapcount - whole, 0), np.append(pages.head, np.uint64(FULL)),
        np.append(pages.mapping, np.uint64(0)), np.append(pages.index, np.uint64(0)),
        np.append(_kinds(pages), np.uint8(0)), np.append(folio, NOWHERE),
    )  # fmt: skip


def _kinds(pages: Pages) -> NDArray[np.uint8]:
    """Return what each frame is used for, as an index into KINDS; few pages have a type, so those one by one."""
    kinds = np.zeros(len(pages), dtype=np.uint8)
    slab = "PG_slab" in pages.array.linux.layout
    odd: Mask = (pages.page_type < -1) | (pages.has("PG_slab") if slab else np.zeros(len(pages), dtype=bool))
    for i in np.flatnonzero(odd):
        name = pages.array.type_name(int(pages.page_type[i]), int(pages.flags[i]))
        kinds[i] = KINDS.index(name) if name in KINDS else KINDS.index("other")
    return kinds


def _swaps(leaves: Leaves) -> Swaps:
    """Return the entries that are not present, by what they stand for."""
    where = np.flatnonzero(~leaves.linux_present)
    bits, entry = leaves.space.linux.swap, leaves.entry[where]
    if bits is None:
        raise WalkError("the layout does not say how a swap entry looks")
    kinds = number((bits.type_field,), entry)
    offset = number((bits.offset_field,), ~entry if bits.inverted else entry)
    migrations = [kind for kind, name in bits.names.items() if name.startswith(("migration", "device"))]
    pfn = offset & np.uint64((1 << bits.pfn_bits) - 1)
    return Swaps(where, ~np.isin(kinds, list(bits.names)), np.isin(kinds, migrations), pfn)


def _huge_zero_pfn(linux: Linux) -> int:
    return linux.uint(linux.symbols["huge_zero_pfn"]) if "huge_zero_pfn" in linux.symbols else NO_HUGE_ZERO


def _pins_held(linux: Linux) -> int:
    node = Node.first(linux)
    return node.stat("NR_FOLL_PIN_ACQUIRED") - node.stat("NR_FOLL_PIN_RELEASED")
