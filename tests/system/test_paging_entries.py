"""Entries that are no plain pages: swap, migration, poison, markers, protection by userfaultfd, devices, keys."""

import struct
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from proofs import proven

from hostwalk.guest import SyscallFailed
from hostwalk.kernels import modules
from hostwalk.paging import End, scan, walk
from hostwalk.paging.format import number
from hostwalk.target import Arch

PRESENT, SWAPPED, UFFD_WP = 1 << 63, 1 << 62, 1 << 57
TYPE_BITS, PFN = 5, (1 << 55) - 1
DISK, DISK_KB = "/dev/ram0", 16 << 10
PAGES = 256
HOLES, HOLE, COMPACTIONS, STOPS, ENOUGH = 1024, 8, 8, 25, 8
# No RAM, and no driver's: /dev/mem refuses both. Nothing answers there, so it is mapped and not touched.
NOWHERE = {Arch.X86_64: 0xFED2_0000, Arch.ARM64: 0x0C00_0000}
PG_LOCKED = "PG_locked"


def walks(cell, subject, area):
    with cell.machine.stopped():
        mm = cell.linux.anew().task(subject.pid).mm
        return [walk(cell.memory, mm.space, address) for address in area]


@contextmanager
def swap_disk(cell, subject):
    """Swap to a RAM disk while the block runs."""
    there = modules.files(cell.prepared.kernel.modules) if cell.prepared.kernel.modules else {}
    if "brd" not in there:
        pytest.skip("the kernel has no RAM disk to swap to")
    with cell.agent.spawn() as root:
        name = root.load_module(modules.read(there["brd"]), f"rd_nr=1 rd_size={DISK_KB}")
        disk = root.open(DISK, "O_RDWR")
        pages = (DISK_KB << 10) // root.page_size
        header = bytearray(root.page_size)
        struct.pack_into("<III", header, 1024, 1, pages - 1, 0)
        header[-10:] = b"SWAPSPACE2"
        root.write(disk, bytes(header))
        root.close(disk)
        root.call("swapon", root.scratch, 0, payload=DISK.encode() + b"\0")
        yield
        root.call("swapoff", root.scratch, payload=DISK.encode() + b"\0")
        with suppress(SyscallFailed):
            root.unload_module(name)


def test_pages_that_were_swapped_out(cell, subject):
    area = subject.mmap(pages=PAGES).touch()
    with swap_disk(cell, subject):
        subject.madvise(area, "PAGEOUT")
        seen, said = walks(cell, subject, area), subject.pagemap(area)
        with cell.machine.stopped():
            swapped = cell.linux.anew().task(subject.pid).mm.rss.swap
        out = [number_ for number_, entry in enumerate(said) if entry & SWAPPED]
        wrong = [str(seen[i]) for i, entry in enumerate(said) if not agrees(seen[i], entry)]
        proven(cell, "swapped out, pagemap", len(said), len(wrong))
        assert not wrong, wrong[:3]
        assert len(out) > PAGES // 2
        assert swapped == len(out)
        assert {seen[i].leaf.swap.name for i in out} == {"swap"}
        area.load()
    assert all(found.end is End.MAPPED for found in walks(cell, subject, area))


def agrees(found, entry):
    """Whether a walk says what pagemap says: the type and offset of a swap entry, or the frame."""
    if entry & SWAPPED:
        swap = found.leaf.swap
        offset = swap.offset if swap.pfn is None else swap.pfn
        return (swap.type | offset << TYPE_BITS) & PFN == entry & PFN and swap.uffd_wp == bool(
            entry & UFFD_WP
        )
    return found.pfn == (entry & PFN if entry & PRESENT else None)


def forge(bits, number_, offset):
    """Return the entry of a swap type and offset, by the fields of the format."""
    field = bits.offset_field
    place = (offset << field.low if field.to == 0 else offset) & field.mask
    if bits.inverted:
        place ^= field.mask
    return number_ << bits.type_field.low | place


def test_special_entries_are_what_the_kernel_takes_them_for(cell, subject):
    """Each special type is put in a page table, and the kernel's pagemap and ours must read the same."""
    area = subject.mmap(pages=2).touch()
    where, other = walks(cell, subject, area)
    bits = where.space.linux.swap
    named = {name: number_ for number_, name in bits.names.items()}
    for name, number_ in named.items():
        pfn = 0 if name in ("marker", "swapin error") else other.pfn
        with page_locked(cell, other.pfn):
            cell.memory.write(where.entry_phys, forge(bits, number_, pfn).to_bytes(8, "little"))
            found, (said,) = walks(cell, subject, area)[0], subject.pagemap(area[:1])
            cell.memory.write(where.entry_phys, where.entry.to_bytes(8, "little"))
        assert found.leaf.swap.name == name, str(found)
        differs = not agrees(found, said)
        proven(cell, "special entries, pagemap", 1, int(differs))
        assert not differs, f"{name}: {said:#x}\n{found}"
        assert found.leaf.swap.pfn == (pfn or None)


def test_a_migration_is_caught_in_the_act(cell, subject):
    """Memory full of holes is compacted, and the machine stopped again and again meanwhile."""
    area = subject.mmap(pages=HOLES * HOLE).touch()
    caught = set()
    with cell.agent.spawn() as root:
        file = root.open("/proc/sys/vm/compact_memory", "O_WRONLY")
        for _ in range(COMPACTIONS):
            for hole in range(0, area.pages, 2 * HOLE):
                subject.madvise(area[hole : hole + HOLE], "DONTNEED")
            with root.start_syscall("write", file, root.scratch, 1, payload=b"1"):
                for _ in range(STOPS):
                    caught |= migrating(cell, subject, area)
            if len(caught) >= ENOUGH:
                break
            area.touch()
    for address, name, pfn in caught:
        (now,) = walks(cell, subject, [address])
        ended = now.end in (End.MAPPED, End.EMPTY)
        proven(cell, f"caught in the act: {name}, PG_locked", 1, int(not ended))
        assert ended, f"{address:#x} {pfn:#x}: {now}"
    if not caught:
        pytest.skip("no migration was caught in the act")


def migrating(cell, subject, area):
    """Return (address, kind, frame) of the pages under migration at this moment."""
    with cell.machine.stopped():
        linux = cell.linux.anew()
        leaves = scan(cell.memory, linux.task(subject.pid).mm.space, area.start, area.end, non_present=True)
        found = [leaf for leaf in leaves[~leaves.present] if leaf.swap and leaf.swap.migration]
        locked = linux.pages([leaf.swap.pfn for leaf in found]).has(PG_LOCKED) if found else []
    assert all(locked), "a page under migration is locked"
    return {(leaf.virt_addr, leaf.swap.name, leaf.swap.pfn) for leaf in found}


@contextmanager
def page_locked(cell, pfn):
    """Set PG_locked, which the kernel asserts of a page that a migration entry names."""
    with cell.machine.stopped():
        page = cell.linux.anew().page(pfn)
        place = cell.moment().page_field(page, "flags")
    bit = 1 << cell.linux.layout[PG_LOCKED]
    before = cell.memory.read(place, 8)
    cell.memory.write(place, (int.from_bytes(before, "little") | bit).to_bytes(8, "little"))
    try:
        yield
    finally:
        cell.memory.write(place, before)


def test_write_protection_by_userfaultfd(cell, subject):
    area = subject.mmap(pages=8).touch()
    file = subject.register_uffd_wp(area)
    if file is None:
        pytest.skip("this kernel cannot write-protect by userfaultfd")
    subject.uffd_write_protect(file, area[2:6])
    seen, said = walks(cell, subject, area), subject.pagemap(area)
    ours = [found.leaf.uffd_wp for found in seen]
    differ = sum(mine != bool(entry & UFFD_WP) for mine, entry in zip(ours, said, strict=True))
    proven(cell, "uffd-wp, pagemap", len(said), differ)
    assert ours == [False] * 2 + [True] * 4 + [False] * 2
    assert differ == 0
    assert not any(found.leaf.writable for found in seen[2:6])


def test_markers_of_write_protected_pages_that_are_not_there(cell, subject):
    area = subject.mmap(pages=4, shared=True, fd=subject.memfd(4)).touch()
    file = subject.register_uffd_wp(area)
    if file is None:
        pytest.skip("this kernel cannot write-protect by userfaultfd")
    subject.uffd_write_protect(file, area)
    subject.madvise(area, "DONTNEED")
    seen, said = walks(cell, subject, area), subject.pagemap(area)
    wrong = [str(found) for found in seen if not (found.leaf and found.leaf.swap and found.leaf.swap.marker)]
    proven(cell, "PTE markers, pagemap", len(said), len(wrong))
    assert not wrong, wrong[:2]
    assert all(entry & UFFD_WP for entry in said)
    assert {str(found.leaf.swap).split()[1] for found in seen} == {"uffd-wp"}


def test_a_device_is_mapped_as_a_device(cell, subject):
    place = NOWHERE[cell.target.arch]
    file = subject.open("/dev/mem", "O_RDWR|O_SYNC")
    try:
        area = subject.mmap(pages=1, fd=file, offset=place, shared=True)
    except SyscallFailed as failed:
        pytest.skip(f"/dev/mem refuses: {failed.errno}")
    (found,) = walks(cell, subject, area)
    proven(cell, "device mappings, address and type", 1, int(found.phys_addr != place))
    assert found.phys_addr == place
    assert found.leaf.special
    expected = (
        {"UC", "UC-"} if cell.target.arch is Arch.X86_64 else {"Device-nGnRnE", "Device-nGnRE", "Normal-NC"}
    )
    assert found.leaf.memory_type in expected


def test_protection_keys(cell, subject):
    try:
        key = subject.pkey_alloc()
    except SyscallFailed:
        pytest.skip("no protection keys on this processor or kernel")
    area = subject.mmap(pages=4).touch()
    subject.pkey_mprotect(area[1:3], "rw", key)
    seen = walks(cell, subject, area)
    keys = [number(value.fields, found.entry) for found in seen for value in found.space.format.values]
    proven(
        cell,
        "protection keys",
        len(keys),
        sum(mine != theirs for mine, theirs in zip(keys, (0, key, key, 0), strict=True)),
    )
    assert keys == [0, key, key, 0]


def test_entries_of_a_scan_are_those_of_walks(cell, subject):
    area = subject.mmap(pages=16).touch()
    subject.mprotect(area[4:8], "none")
    found = walks(cell, subject, area)
    with cell.machine.stopped():
        space = cell.linux.anew().task(subject.pid).mm.space
        leaves = scan(cell.memory, replace(space), area.start, area.end, non_present=True)
    assert list(leaves) == [each.leaf for each in found]
