"""A sabotage or more for each invariant: how to alter guest memory so that the audit must find it broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hostwalk.audit.entries import ACCESS, X86_DIRTY
from hostwalk.audit.evidence import Evidence, Ints
from hostwalk.linux import Node
from hostwalk.moment import Moment
from hostwalk.paging import walk
from hostwalk.paging.format import Mask, Match
from hostwalk.sabotage import SabotageError, Write

# An address bit that every format has, far above the RAM of a test machine.
FAR = 1 << 45
X86_ADDRESS = (1 << 52) - (1 << 12)


@dataclass(frozen=True)
class Scene:
    """What a sabotage has to work with; victims are looked for in the process ``pid``."""

    moment: Moment
    seen: Evidence
    pid: int

    def victim(self, mask: Mask) -> int:
        """Return the first marked leaf of the process; raises SabotageError when there is none."""
        mine = [i for i, space in enumerate(self.seen.spaces) if space.pid == self.pid]
        found = np.flatnonzero(mask & np.isin(self.seen.space, mine))
        if not len(found):
            raise SabotageError(f"process {self.pid} has no entry to do that to")
        return int(found[0])

    def entry(self, leaf: int, value: int) -> tuple[Write, ...]:
        """Return the write of an entry."""
        return (Write(int(self.seen.leaves.entry_phys[leaf]), value.to_bytes(8, "little")),)

    def made(self, leaf: int, match: Match) -> tuple[Write, ...]:
        """Return the write that has a leaf's entry match."""
        return self.entry(leaf, int(self.seen.leaves.entry[leaf]) & ~match.mask | match.value)

    def add(self, address: int, size: int, delta: int) -> tuple[Write, ...]:
        """Return the write that adds to a number at a guest physical address."""
        old = int.from_bytes(self.moment.memory.read(address, size), "little")
        return (Write(address, ((old + delta) % (1 << 8 * size)).to_bytes(size, "little")),)

    def member(self, address: int, type_: str, name: str, delta: int) -> tuple[Write, ...]:
        """Return the write that adds to a member of a structure at a kernel address."""
        size = min(self.seen.layout[f"sizeof({type_}.{name})"], 8)
        return self.add(self.moment.field(address, type_, name), size, delta)

    def page(self, leaf: int, name: str, delta: int, type_: str = "struct page") -> tuple[Write, ...]:
        """Return the write that adds to a member of a leaf's page, or of the folio that begins there."""
        frame = int(self.seen.leaves.pfn[leaf])
        return self.member(self.moment.linux.page_array().address(frame), type_, name, delta)

    def mm(self, name: str, delta: int) -> tuple[Write, ...]:
        """Return the write that adds to a member of the process's mm."""
        address = self.moment.mm(self.pid).address
        return self.member(address, "struct mm_struct", name, delta)

    @property
    def plain(self) -> Mask:
        """Which leaves map a small page that counts, present to the hardware."""
        seen = self.seen
        return seen.normal & ~seen.large & ~seen.hugetlb & seen.leaves.present & seen.mapped

    @property
    def bits(self):  # type: ignore[no-untyped-def]
        """How this build of Linux reads entries."""
        return self.seen.leaves.space.linux


Alter = Callable[[Scene], tuple[Write, ...]]
SABOTAGES: dict[str, list[Alter]] = {}


def breaks(*ids: str) -> Callable[[Alter], Alter]:
    """Register a sabotage of some invariants."""

    def register(alter: Alter) -> Alter:
        for each in ids:
            SABOTAGES.setdefault(each, []).append(alter)
        return alter

    return register


@breaks("0.tables")
def table_outside_ram(scene: Scene) -> tuple[Write, ...]:
    """Have the entry above a leaf lead out of RAM."""
    leaf = scene.victim(scene.plain)
    space = scene.moment.mm(scene.pid).space
    step = walk(scene.moment.memory, space, int(scene.seen.leaves.virt_addr[leaf])).levels[-2]
    return (Write(step.entry_phys, (step.entry ^ FAR).to_bytes(8, "little")),)


@breaks("1")
def writable_without_vm_write(scene: Scene) -> tuple[Write, ...]:
    """Make an entry of a read-only mapping writable."""
    return scene.made(scene.victim(scene.plain & ~scene.seen.vm("VM_WRITE")), scene.bits.writable)


@breaks("2")
def executable_without_vm_exec(scene: Scene) -> tuple[Write, ...]:
    """Make an entry of a mapping for data executable."""
    return scene.made(scene.victim(scene.plain & ~scene.seen.vm("VM_EXEC")), scene.bits.executable)


@breaks("3")
def user_without_access(scene: Scene) -> tuple[Write, ...]:
    """Give user space back what mprotect(PROT_NONE) took."""
    hidden = scene.seen.leaves.linux_present & scene.seen.mapped & ~scene.seen.vm(*ACCESS)
    return scene.made(scene.victim(hidden), scene.bits.user)


@breaks("4")
def not_exclusive(scene: Scene) -> tuple[Write, ...]:
    """Take PG_anon_exclusive from a page that is mapped writable."""
    seen = scene.seen
    private = scene.plain & seen.is_("writable") & seen.anon & seen.page_flag("PG_anon_exclusive")
    leaf = scene.victim(private & ~seen.vm("VM_SHARED"))
    return scene.page(leaf, "flags", -(1 << seen.layout["PG_anon_exclusive"]))


@breaks("5")
def plain_zero_page(scene: Scene) -> tuple[Write, ...]:
    """Take the special bit from an entry of the zero page."""
    zero = scene.seen.zero & ~scene.seen.large & scene.seen.is_("special")
    return scene.made(scene.victim(zero), Match(scene.bits.special.mask, 0))


@breaks("6")
def protected_and_writable(scene: Scene) -> tuple[Write, ...]:
    """Set uffd_wp in a writable entry."""
    return scene.made(scene.victim(scene.plain & scene.seen.is_("writable")), scene.bits.uffd_wp)


@breaks("7")
def dirty_and_not_writable(scene: Scene) -> tuple[Write, ...]:
    """Take the right to write from a dirty entry, and nothing else."""
    dirty = scene.seen.leaves.entry & np.uint64(X86_DIRTY) != 0
    leaf = scene.victim(scene.plain & dirty & scene.seen.is_("writable"))
    return scene.made(leaf, Match(scene.bits.writable.mask, 0))


@breaks("8")
def dirty_writable_and_read_only(scene: Scene) -> tuple[Write, ...]:
    """Set PTE_DIRTY, PTE_DBM and PTE_RDONLY at once."""
    bits = sum(scene.seen.layout[name] for name in ("PTE_DIRTY", "PTE_DBM", "PTE_RDONLY"))
    return scene.made(scene.victim(scene.plain & scene.seen.is_("writable")), Match(bits, bits))


@breaks("9")
def lone_contiguous_entry(scene: Scene) -> tuple[Write, ...]:
    """Set CONT in one entry."""
    cont = scene.seen.layout["PTE_CONT"]
    alone = scene.seen.leaves.entry & np.uint64(cont) == 0
    return scene.made(scene.victim(scene.plain & alone), Match(cont, cont))


@breaks("10")
def hidden_but_not_inverted(scene: Scene) -> tuple[Write, ...]:
    """Put the frame number of a hidden page as it is."""
    leaf = scene.victim(scene.seen.leaves.linux_present & ~scene.seen.leaves.present & ~scene.seen.large)
    return scene.entry(leaf, int(scene.seen.leaves.entry[leaf]) ^ X86_ADDRESS)


@breaks("11.vma")
def mapping_cut_short(scene: Scene) -> tuple[Write, ...]:
    """Let a mapping end a page earlier than its entries."""
    seen = scene.seen
    end = seen.leaves.virt_addr + seen.leaves.size
    leaf = scene.victim(scene.plain & (end == seen.vmas.end[seen.vma]))
    address = int(seen.vmas.address[seen.vma[leaf]])
    return scene.member(address, "struct vm_area_struct", "vm_end", -seen.leaves.space.format.page_size)


@breaks("11.end")
def file_cut_short(scene: Scene) -> tuple[Write, ...]:
    """Make a mapped file empty."""
    seen, linux = scene.seen, scene.moment.linux
    mapping = seen.vmas.mapping[seen.vma]
    cached = (mapping != 0) & (mapping == seen.frames.mapping[seen.frame]) & ~seen.page_flag("PG_swapbacked")
    host = linux.member(int(mapping[scene.victim(scene.plain & cached)]), "struct address_space", "host")
    return scene.member(host, "struct inode", "i_size", -linux.member(host, "struct inode", "i_size"))


@breaks("11.place")
def page_of_another_place(scene: Scene) -> tuple[Write, ...]:
    """Move a page in its file or anonymous memory."""
    name = "index" if scene.seen.layout.get("sizeof(struct page.index)") else "__folio_index"
    small = np.append(scene.seen.frames.folio[:-1] < 0, False)[scene.seen.frame]
    return scene.page(scene.victim(scene.plain & scene.seen.anon & small), name, 1)


@breaks("12.frame")
def entry_outside_ram(scene: Scene) -> tuple[Write, ...]:
    """Have an entry that is not special point far beyond RAM."""
    leaf = scene.victim(scene.plain)
    return scene.entry(leaf, int(scene.seen.leaves.entry[leaf]) ^ FAR)


@breaks("12.mapcount")
def one_mapping_more(scene: Scene) -> tuple[Write, ...]:
    """Count a mapping that there is not."""
    return scene.page(scene.victim(scene.plain & (_kind(scene) == 0)), "_mapcount", 1)


@breaks("12.mapcount", "13.rss")
def mapping_made_special(scene: Scene) -> tuple[Write, ...]:
    """Make an entry special whose page counts it."""
    return scene.made(scene.victim(scene.plain & (_kind(scene) == 0)), scene.bits.special)


@breaks("12.entire")
def one_whole_mapping_more(scene: Scene) -> tuple[Write, ...]:
    """Count a mapping of a whole huge page that there is not."""
    names = ("_entire_mapcount", "_total_mapcount")
    name = next(name for name in names if f"sizeof(struct folio.{name})" in scene.seen.layout)
    return scene.page(scene.victim(scene.seen.normal & scene.seen.large), name, 1, "struct folio")


@breaks("12.large")
def one_mapping_of_a_folio_more(scene: Scene) -> tuple[Write, ...]:
    """Count a mapping of some of a large folio that there is not."""
    leaf = scene.victim(scene.seen.normal & scene.seen.large)
    return scene.page(leaf, "_large_mapcount", 1, "struct folio")


@breaks("13.rss")
def one_resident_page_more(scene: Scene) -> tuple[Write, ...]:
    """Count an anonymous page that there is not."""
    layout, index = scene.seen.layout, scene.seen.layout["MM_ANONPAGES"]
    at = scene.moment.mm(scene.pid).address + layout["offsetof(struct mm_struct, rss_stat)"]
    if not layout["RSS_STAT_IS_PERCPU"]:
        at += layout["offsetof(struct mm_rss_stat, count)"] + 8 * index
        return scene.add(scene.moment.linux.phys(at), 8, 1)
    return scene.member(
        at + index * layout["sizeof(struct percpu_counter)"], "struct percpu_counter", "count", 1
    )


def _of_mm(name: str) -> Alter:
    def alter(scene: Scene) -> tuple[Write, ...]:
        return scene.mm(name, 1)

    alter.__name__, alter.__doc__ = f"one_more_in_{name}", f"Add one to {name}."
    return alter


for _id, _names in {
    "13.total_vm": ("total_vm", "data_vm", "exec_vm", "stack_vm"),
    "13.locked_vm": ("locked_vm",),
    "13.map_count": ("map_count",),
    "13.tables": ("pgtables_bytes",),
}.items():
    for _name in _names:
        breaks(_id)(_of_mm(_name))


@breaks("14.pins")
def released_more_than_acquired(scene: Scene) -> tuple[Write, ...]:
    """Count more pins released than acquired."""
    node = Node.first(scene.moment.linux)
    address = scene.moment.linux.phys(node.stat_address("NR_FOLL_PIN_RELEASED"))
    return scene.add(address, 8, scene.seen.held + 1)


@breaks("15.free")
def mapped_page_in_the_free_lists(scene: Scene) -> tuple[Write, ...]:
    """Give a mapped page the type of a free one."""
    layout = scene.seen.layout
    leaf = scene.victim(scene.plain & (_kind(scene) == 0) & (_maps(scene) == 1))
    free = layout["PGTY_buddy"] << 24 if layout["PAGE_TYPE_BYTE"] else 0xFFFFFFFF & ~layout["PG_buddy"]
    return scene.page(leaf, "_mapcount", free)


@breaks("15.references")
def fewer_references_than_mappings(scene: Scene) -> tuple[Write, ...]:
    """Take references from a page that is mapped more than once, but for one."""
    leaf = scene.victim(scene.plain & (_maps(scene) > 1) & (scene.seen.frames.folio[scene.seen.frame] < 0))
    return scene.page(leaf, "_refcount", 1 - int(scene.seen.frames.refcount[scene.seen.frame[leaf]]))


def _kind(scene: Scene) -> Ints:
    return scene.seen.frames.kind[scene.seen.frame].astype(np.int64)


def _maps(scene: Scene) -> Ints:
    return scene.seen.own_maps[scene.seen.frame]
