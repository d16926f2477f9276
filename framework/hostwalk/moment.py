"""One moment of a machine that is held still: its memory, and the kernel's objects in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hostwalk.errors import WalkError
from hostwalk.linux import Linux, Mm, Page
from hostwalk.memory import WritableMemory
from hostwalk.target import Arch

OWN_MEMBERS = ("_mapcount",)


@dataclass(frozen=True)
class Moment:
    """Valid while the machine is stopped; ``linux`` remembers translations, so take a new one each time."""

    arch: Arch
    memory: WritableMemory
    linux: Linux

    @property
    def layout(self):  # type: ignore[no-untyped-def]
        """The constants of the kernel's build."""
        return self.linux.layout

    @cached_property
    def zero_pfn(self) -> int:
        """The page frame of the shared zero page: zero_page_pfn (mm/mm_init.c, 7.x), before that zero_pfn."""
        name = "zero_page_pfn" if "zero_page_pfn" in self.linux.symbols else "zero_pfn"
        return self.linux.uint(self.linux.symbols[name])

    def mm(self, pid: int) -> Mm:
        """Return the address space of a process or thread; raise WalkError when it has none."""
        task = self.linux.task(pid)
        if task.mm is None:
            raise WalkError(f"{task} has no address space")
        return task.mm

    def field(self, address: int, type_: str, member: str) -> int:
        """Return the guest physical address of a member of the structure at a kernel address."""
        return self.linux.phys(address + self.layout.offsetof(type_, member))

    def page_field(self, page: Page, member: str) -> int:
        """Return the guest physical address of a member of struct page: the head's, but for what each page has."""
        array = self.linux.page_array()
        address = page.address if member in OWN_MEMBERS else array.address(page.head)
        return self.field(address, "struct page", member)
