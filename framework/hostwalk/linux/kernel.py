"""The kernel of a guest at one moment: its memory by virtual address, its structures, its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from hostwalk.errors import WalkError
from hostwalk.image.layout import Layout
from hostwalk.linux.pages import Page, PageArray, Pages, Pfns
from hostwalk.linux.task import Task, leads, tasks
from hostwalk.linux.translate import Run, Translator
from hostwalk.memory.physical import PhysicalMemory
from hostwalk.paging import AddressSpace, Registers, spaces, with_layout, with_root
from hostwalk.target import Arch

STRING_MAX = 4096
ISOLATION_BIT = 1 << 12
# x86-64's; on arm64 TTBR1 is init_mm's root at all times.
INIT_ROOT = "init_top_pgt"


class Linux:
    """A guest's kernel, read through its own page tables.

    Valid while the guest is stopped: translations are kept. After the guest has run, go on with ``anew()``, which
    looks at each translation again before it is used. Structure members are named as in the kernel, and their
    places come from the layout.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        kernel_space: AddressSpace,
        symbols: Mapping[str, int],
        layout: Layout,
        user_space: AddressSpace | None = None,
        *,
        remembered: dict[int, Run] | None = None,
        leaders: dict[int, int] | None = None,
    ) -> None:
        self.memory = memory
        self.kernel_space = kernel_space
        self.user_space = user_space
        self.symbols = symbols
        self.layout = layout
        self._page = kernel_space.format.page_size
        self._translator = Translator(memory, kernel_space, remembered)
        self._leaders: dict[int, int] = {} if leaders is None else leaders

    @classmethod
    def of(
        cls, memory: PhysicalMemory, registers: Registers, symbols: Mapping[str, int], layout: Layout
    ) -> Linux:
        """Return the kernel that a processor is running, found through its registers.

        Raises WalkError when what is found there is not the kernel of these symbols and this layout.
        """
        halves = spaces(registers)
        if halves.kernel is None:
            raise WalkError("the processor translates no kernel addresses")
        user = with_layout(halves.user, layout) if halves.user else None
        for root in kernel_roots(halves.kernel, symbols):
            kernel = with_layout(with_root(halves.kernel, root), layout)
            linux = cls(memory, kernel, symbols, layout, user)
            if linux.recognised():
                return linux.at_init_root()
        raise WalkError(
            "the kernel in the guest is not the one that symbols and layout are of",
            remedy="boot with nokaslr, and take kernel, symbols and exerciser from one build",
        )

    def at_init_root(self) -> Linux:
        """Return the kernel by way of init_mm's root, where it has a name: that of a process ends with it."""
        if INIT_ROOT not in self.symbols:
            return self
        space = with_root(self.kernel_space, self.phys(self.symbols[INIT_ROOT]), name="init_mm")
        return Linux(self.memory, space, self.symbols, self.layout, self.user_space)

    def recognised(self) -> bool:
        """Return whether init_task is where the symbols say, and is called swapper."""
        try:
            return Task(self, self.symbols["init_task"]).comm.startswith("swapper")
        except WalkError:
            return False

    def anew(self, memory: PhysicalMemory | None = None) -> Linux:
        """Return the same kernel at another moment, or in other ``memory`` of the same kernel."""
        return Linux(
            memory or self.memory, self.kernel_space, self.symbols, self.layout, self.user_space,
            remembered=self._translator.remembered, leaders=self._leaders,
        )  # fmt: skip

    def phys(self, virt_addr: int) -> int:
        """Return the guest physical address of a kernel address; raise WalkError when it is not mapped."""
        run = self._translator.run(virt_addr)
        return run.phys_addr + virt_addr - run.virt_addr

    def run(self, virt_addr: int) -> Run:
        """Return what one leaf maps around a kernel address; raise WalkError when it is not mapped."""
        return self._translator.run(virt_addr)

    def read_virt(self, virt_addr: int, size: int) -> bytes:
        """Return ``size`` bytes at a kernel address.

        Raises WalkError when some of it is not mapped, MemoryReadError when it is not RAM.
        """
        if virt_addr % self._page + size <= self._page:
            return self.memory.read(self.phys(virt_addr), size)
        parts = []
        while size > 0:
            take = min(size, self._page - virt_addr % self._page)
            parts.append(self.memory.read(self.phys(virt_addr), take))
            virt_addr, size = virt_addr + take, size - take
        return b"".join(parts)

    def uint(self, virt_addr: int, size: int = 8) -> int:
        """Return an unsigned integer at a kernel address."""
        return int.from_bytes(self.read_virt(virt_addr, size), "little")

    def sint(self, virt_addr: int, size: int = 8) -> int:
        """Return a signed integer at a kernel address."""
        return int.from_bytes(self.read_virt(virt_addr, size), "little", signed=True)

    def string(self, virt_addr: int, limit: int = STRING_MAX) -> str:
        """Return the text at a kernel address, up to its NUL or ``limit`` bytes."""
        parts = []
        while limit > 0:
            take = min(limit, self._page - virt_addr % self._page)
            part = self.read_virt(virt_addr, take)
            parts.append(part.partition(b"\0")[0])
            if b"\0" in part:
                break
            virt_addr, limit = virt_addr + take, limit - take
        return b"".join(parts).decode("utf-8", "backslashreplace")

    def member(self, address: int, type_: str, name: str, *, signed: bool = False) -> int:
        """Return the integer or pointer member ``name`` of the ``type_`` at a kernel address."""
        size = self.layout.member_size(type_, name)
        data = self.read_virt(address + self.layout.offsetof(type_, name), size)
        return int.from_bytes(data, "little", signed=signed)

    def members(self, address: int, type_: str, *names: str) -> tuple[int, ...]:
        """Return several unsigned members of one structure, read at once."""
        places = [(self.layout.offsetof(type_, n), self.layout.member_size(type_, n)) for n in names]
        low = min(offset for offset, _ in places)
        data = self.read_virt(address + low, max(offset + size for offset, size in places) - low)
        return tuple(int.from_bytes(data[o - low : o - low + size], "little") for o, size in places)

    @cached_property
    def vm_flags(self) -> dict[str, int]:
        """The flags of a vma by name, those of one bit."""
        named = {name: self.layout[name] for name in self.layout if name.startswith("VM_")}
        plain = {k: v for k, v in named.items() if v.bit_count() == 1 and not k.startswith("VM_FAULT")}
        return {name: mask for name, mask in plain.items() if name != "VM_PKEY_SHIFT"}

    def cpus(self) -> Iterator[int]:
        """Yield the numbers of the possible processors."""
        count = self.uint(self.symbols["nr_cpu_ids"], 4) if "nr_cpu_ids" in self.symbols else 1
        mask = -1
        if "__cpu_possible_mask" in self.symbols:
            mask = self.uint(self.symbols["__cpu_possible_mask"], (count + 63) // 64 * 8)
        return (cpu for cpu in range(count) if mask >> cpu & 1)

    def per_cpu(self, address: int, cpu: int) -> int:
        """Return the address of a processor's copy of per-CPU data."""
        offset = self.uint(self.symbols["__per_cpu_offset"] + 8 * cpu)
        return (address + offset) & (1 << 64) - 1

    def tasks(self) -> Iterator[Task]:
        """Yield every process (thread group leader), from init_task on."""
        return tasks(self)

    def task(self, pid: int) -> Task:
        """Return the process or thread with this pid (in the initial namespace); raise WalkError."""
        known = self._leaders.get(pid)
        if known is not None and leads(self, known, pid):
            return Task(self, known)
        for leader in self.tasks():
            if leader.pid == pid:
                self._leaders[pid] = leader.address
                return leader
        for leader in self.tasks():
            for thread in leader.threads():
                if thread.pid == pid:
                    return thread
        raise WalkError(f"the guest has no task with pid {pid}")

    def page_array(self) -> PageArray:
        """Return the array of all struct page, vmemmap."""
        return PageArray(self)

    def page(self, pfn: int) -> Page:
        """Return what the kernel keeps about a page frame; raise WalkError when it has no struct page."""
        return self.pages([pfn])[0]

    def pages(self, pfns: Pfns) -> Pages:
        """Return what the kernel keeps about page frames, as columns in the order of ``pfns``."""
        return self.page_array().pages(pfns)


def kernel_roots(kernel: AddressSpace, symbols: Mapping[str, int]) -> tuple[int, ...]:
    """Return the roots at which all of the kernel may be found, by the one that a processor has.

    With page-table isolation a processor in user mode has one that leads to the entry code only: on x86-64 the
    page after, on arm64 tramp_pg_dir, which the linker has put at a fixed distance.
    """
    if kernel.format.arch is Arch.X86_64:
        return tuple(dict.fromkeys((kernel.root, kernel.root & ~ISOLATION_BIT)))
    if "tramp_pg_dir" not in symbols or "swapper_pg_dir" not in symbols:
        return (kernel.root,)
    return (kernel.root, kernel.root + symbols["swapper_pg_dir"] - symbols["tramp_pg_dir"])
