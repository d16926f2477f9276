"""``pg_data_t``: what the kernel counts for each node of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostwalk.linux.kernel import Linux

NODE_STATS = (
    "NR_ANON_MAPPED", "NR_FILE_MAPPED", "NR_FILE_PAGES", "NR_FILE_DIRTY", "NR_SHMEM", "NR_ANON_THPS",
    "NR_FOLL_PIN_ACQUIRED", "NR_FOLL_PIN_RELEASED", "NR_PAGETABLE",
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """``struct pglist_data *`` at ``address``."""

    linux: Linux
    address: int

    @classmethod
    def first(cls, linux: Linux) -> Node:
        """Return node 0: node_data[0], or contig_page_data where there is but one."""
        if "node_data" in linux.symbols:
            return cls(linux, linux.uint(linux.symbols["node_data"]))
        return cls(linux, linux.symbols["contig_page_data"])

    def stat(self, name: str) -> int:
        """Return a counter of enum node_stat_item, with what each processor has not added yet."""
        index = self.linux.layout[name]
        return self.linux.sint(self.stat_address(name)) + sum(self._held_back(index))

    def stat_address(self, name: str) -> int:
        """Return the kernel address of a counter, an atomic_long_t."""
        layout = self.linux.layout
        return self.address + layout.offsetof("struct pglist_data", "vm_stat") + 8 * layout[name]

    def _held_back(self, index: int) -> list[int]:
        layout, kind = self.linux.layout, "struct per_cpu_nodestat"
        if not layout.has_member(kind, "vm_node_stat_diff"):
            return []
        base = self.linux.member(self.address, "struct pglist_data", "per_cpu_nodestats")
        base += layout.offsetof(kind, "vm_node_stat_diff") + index
        return [self.linux.sint(self.linux.per_cpu(base, cpu), 1) for cpu in self.linux.cpus()]
