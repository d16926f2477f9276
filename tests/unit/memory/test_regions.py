"""The RAM map that 'info mtree -f' shows."""

import pytest

from hostwalk.errors import MemoryReadError
from hostwalk.memory import Region, covers, ram_map
from hostwalk.memory.regions import pieces

Q35 = """FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): ram0
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000cafff (prio 0, rom): ram0 @00000000000c0000
  00000000000cb000-00000000000cdfff (prio 0, ram): ram0 @00000000000cb000
  00000000000e0000-00000000000fffff (prio 0, rom): pc.bios @0000000000020000
  0000000000100000-000000007fffffff (prio 0, ram): ram0 @0000000000100000
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000017fffffff (prio 0, ram): ram0 @0000000080000000 KVM

FlatView #2
 AS "cpu-smm-0", root: mem-container-smram
 Root memory region: mem-container-smram
  0000000000000000-000000000009ffff (prio 0, ram): ram0

"""
VIRT = """FlatView #0
 AS "memory", root: system
 Root memory region: system
  0000000000000000-0000000003ffffff (prio 0, romd): virt.flash0
  0000000040000000-000000005fffffff (prio 0, ram): /objects/ram0

"""


def test_q35_has_a_hole_and_a_second_part():
    assert ram_map(Q35, "ram0") == (
        Region(0, 0xA0000, 0, "ram0"),
        Region(0xC0000, 0xE000, 0xC0000, "ram0"),
        Region(0x100000, 0x7FF00000, 0x100000, "ram0"),
        Region(0x1_0000_0000, 0x8000_0000, 0x8000_0000, "ram0"),
    )


def test_without_a_backend_all_ram_counts():
    assert [region.name for region in ram_map(Q35)] == ["ram0", "ram0", "ram0", "vga.vram", "ram0"]


def test_a_backend_is_known_by_its_object_id():
    assert ram_map(VIRT, "ram0") == (Region(0x4000_0000, 0x2000_0000, 0, "/objects/ram0"),)


@pytest.mark.parametrize("text", ["", "Command not found", VIRT.replace('"memory"', '"other"')])
def test_no_ram(text):
    with pytest.raises(MemoryReadError, match="no RAM"):
        ram_map(text, "ram0")


def test_pieces_are_cut_at_borders():
    regions = (Region(0, 0x1000), Region(0x1000, 0x1000), Region(0x4000, 0x1000))
    assert [(at, size) for _, at, size in pieces(regions, 0xFF0, 0x20)] == [(0xFF0, 0x10), (0x1000, 0x10)]
    assert covers(regions, 0, 0x2000)
    assert not covers(regions, 0x1000, 0x1001)
    with pytest.raises(
        MemoryReadError, match=r"0x2000 is outside RAM \(RAM: 0x0-0xfff, 0x1000-0x1fff, 0x4000-0x4fff\)"
    ):
        list(pieces(regions, 0x1FF0, 0x20))
