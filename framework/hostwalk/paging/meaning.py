"""What an entry means to Linux: pte_dirty(), pte_special(), is_swap_pte() and their family, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostwalk.paging.format import NEVER, PRESENT, Field, Match

MARKERS = ("uffd-wp", "poisoned", "guard")


def one_of(mask: int, absent: int = 0) -> Match:
    """Return the match for all of ``mask`` set and all of ``absent`` clear; a mask of 0 matches nothing."""
    return Match(mask | absent, mask) if mask else NEVER


def swap_names(layout: Mapping[str, int]) -> dict[int, str]:
    """Return the names of the special swap types of the build (include/linux/swap.h)."""
    known = {
        "SWP_HWPOISON": "hwpoison",
        "SWP_MIGRATION_READ": "migration read",
        "SWP_MIGRATION_READ_EXCLUSIVE": "migration read exclusive",
        "SWP_MIGRATION_WRITE": "migration write",
        "SWP_DEVICE_WRITE": "device write",
        "SWP_DEVICE_READ": "device read",
        "SWP_DEVICE_EXCLUSIVE_WRITE": "device exclusive write",
        "SWP_DEVICE_EXCLUSIVE_READ": "device exclusive read",
        "SWP_DEVICE_EXCLUSIVE": "device exclusive",
        "SWP_PTE_MARKER": "marker",
        "SWP_SWAPIN_ERROR": "swapin error",
    }
    return {layout[key]: name for key, name in known.items() if key in layout}


def pfn_bits(layout: Mapping[str, int], variant: str, otherwise: int) -> int:
    """Return how many bits of a swap offset are a pfn, which depends on the size of physical addresses."""
    return layout.get(f"SWP_PFN_BITS {variant}", layout.get("SWP_PFN_BITS", otherwise))


@dataclass(frozen=True)
class SwapBits:
    """Where a non-present entry keeps its swap type and offset."""

    type_field: Field
    offset_field: Field
    inverted: bool
    exclusive: Match
    uffd_wp: Match
    soft_dirty: Match
    names: Mapping[int, str] = field(hash=False)
    pfn_bits: int = 58

    def decode(self, entry: int) -> Swap:
        """Return what a swap entry says."""
        offset = self.offset_field.of(~entry & (1 << 64) - 1 if self.inverted else entry)
        number = self.type_field.of(entry)
        return Swap(
            type=number,
            name=self.names.get(number, "swap"),
            offset=offset,
            pfn=offset & ((1 << self.pfn_bits) - 1) if self._has_pfn(number) else None,
            exclusive=self.exclusive.holds(entry),
            uffd_wp=self.uffd_wp.holds(entry),
            soft_dirty=self.soft_dirty.holds(entry),
        )

    def _has_pfn(self, number: int) -> bool:
        return number in self.names and self.names[number] not in ("marker", "swapin error")


@dataclass(frozen=True)
class Swap:
    """A swap entry. ``pfn`` is set for the types that stand for a page: migration, device, hwpoison."""

    type: int
    name: str
    offset: int
    pfn: int | None
    exclusive: bool
    uffd_wp: bool
    soft_dirty: bool

    @property
    def migration(self) -> bool:
        """Whether it stands for a page that is being migrated."""
        return self.name.startswith("migration")

    @property
    def marker(self) -> bool:
        """Whether it is a PTE marker."""
        return self.name == "marker"

    def __str__(self) -> str:
        what = f"{self.name} type {self.type} offset {self.offset:#x}"
        if self.pfn is not None:
            what = f"{self.name} pfn {self.pfn:#x}"
        if self.marker:
            what = "marker " + ("+".join(n for i, n in enumerate(MARKERS) if self.offset >> i & 1) or "0")
        on = [name for name in ("exclusive", "uffd_wp", "soft_dirty") if getattr(self, name)]
        return " ".join([what, *on])


@dataclass(frozen=True)
class LinuxBits:
    """How one build of Linux reads leaf entries. ``present`` and ``dirty``: any of the matches holds."""

    present: tuple[Match, ...]
    prot_none: Match
    inverted: bool
    writable: Match
    dirty: tuple[Match, ...]
    young: Match
    user: Match
    executable: Match
    special: Match
    soft_dirty: Match
    uffd_wp: Match
    saved_dirty: Match
    devmap: Match
    shadow_stack: Match
    swap: SwapBits | None

    def decode(self, entry: int) -> Meaning:
        """Return what a leaf entry, present or not, means to Linux."""
        present = any(match.holds(entry) for match in self.present)
        swap = self.swap.decode(entry) if self.swap and entry and not present else None
        names = {name for name in NAMES if present and getattr(self, name).holds(entry)}
        if present and any(match.holds(entry) for match in self.dirty):
            names.add("dirty")
        # x86 leaves NX clear in PAGE_NONE; nobody may execute there all the same.
        names -= {"executable"} if "prot_none" in names else set()
        return Meaning(present=present, swap=swap, names=frozenset(names))

    def plain(self, entry: int) -> int:
        """Return the entry with its address as the hardware would see it, were it present."""
        return entry ^ (1 << 64) - 1 if self.inverted and entry and not PRESENT.holds(entry) else entry


NAMES = (
    "writable", "young", "user", "executable", "special", "soft_dirty", "uffd_wp", "saved_dirty", "devmap",
    "shadow_stack", "prot_none",
)  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    """What a leaf entry means to Linux. ``present`` is pte_present(): true for PROT_NONE too."""

    present: bool
    swap: Swap | None
    names: frozenset[str]

    @property
    def writable(self) -> bool:
        """pte_write(): the software's idea, whatever the hardware's is at this moment."""
        return "writable" in self.names

    @property
    def dirty(self) -> bool:
        """pte_dirty()."""
        return "dirty" in self.names

    @property
    def young(self) -> bool:
        """pte_young()."""
        return "young" in self.names

    @property
    def user(self) -> bool:
        """Whether the entry lets user space read."""
        return "user" in self.names

    @property
    def executable(self) -> bool:
        """Whether the entry lets user space execute: NX or UXN clear, and not PROT_NONE."""
        return "executable" in self.names

    @property
    def special(self) -> bool:
        """pte_special(): no struct page is to be used."""
        return "special" in self.names

    @property
    def soft_dirty(self) -> bool:
        """pte_soft_dirty()."""
        return "soft_dirty" in self.names

    @property
    def uffd_wp(self) -> bool:
        """pte_uffd_wp()."""
        return "uffd_wp" in self.names

    @property
    def saved_dirty(self) -> bool:
        """x86: dirty, kept out of the hardware's dirty bit."""
        return "saved_dirty" in self.names

    @property
    def devmap(self) -> bool:
        """pte_devmap()."""
        return "devmap" in self.names

    @property
    def shadow_stack(self) -> bool:
        """x86: a shadow stack page."""
        return "shadow_stack" in self.names

    @property
    def prot_none(self) -> bool:
        """A populated entry that no access is allowed to: mprotect(PROT_NONE), or a NUMA hint."""
        return "prot_none" in self.names

    def __str__(self) -> str:
        if self.swap is not None:
            return str(self.swap)
        return " ".join(name for name in (*NAMES, "dirty") if name in self.names)
