"""Guest physical memory, read from the host. Readers have one interface and give identical bytes."""

from hostwalk.memory.choose import Chosen, open_memory, peer_pid
from hostwalk.memory.fake import FakeMemory
from hostwalk.memory.held import HeldMemory
from hostwalk.memory.monitor import Monitor, QmpReader, XpReader, hmp
from hostwalk.memory.physical import PhysicalMemory, WritableMemory
from hostwalk.memory.process import HostRange, ProcessVm, file_ranges, host_ranges
from hostwalk.memory.regions import Region, Regions, covers, ram_map
from hostwalk.memory.shared import SharedMap

__all__ = [
    "Chosen",
    "FakeMemory",
    "HeldMemory",
    "HostRange",
    "Monitor",
    "PhysicalMemory",
    "ProcessVm",
    "QmpReader",
    "Region",
    "Regions",
    "SharedMap",
    "WritableMemory",
    "XpReader",
    "covers",
    "file_ranges",
    "hmp",
    "host_ranges",
    "open_memory",
    "peer_pid",
    "ram_map",
]
