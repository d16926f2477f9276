"""What the host reads of a running guest, against QEMU's own walker and the guest's views of itself."""

import random
import re
import struct
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import pytest
from proofs import proven

from hostwalk.cell import boot
from hostwalk.guest import Area, SubjectDied
from hostwalk.linux import Linux
from hostwalk.machine.command import RAM
from hostwalk.memory import ProcessVm, QmpReader, XpReader, hmp, host_ranges, open_memory, ram_map
from hostwalk.paging import End, Rights, addresses_of, diff, scan, spaces, walk
from hostwalk.target import Arch

PRESENT, SWAPPED, PFN = 1 << 63, 1 << 62, (1 << 55) - 1
KPF = {"dirty": 4, "lru": 5, "buddy": 10, "anon": 12, "head": 15, "tail": 16}
ADDRESSES = 2000
INIT_SIZE = 512 << 10  # there is at least as much of /init
SPIN, TRIES, LARGE = 3000, 100, 4096


@dataclass(frozen=True)
class Busy:
    """A subject with mappings of many kinds, and what the guest says about them."""

    linux: Linux
    maps: tuple[tuple[int, int, str], ...]
    pagemap: dict[int, int]


def fill(subject):
    """Give a subject anonymous, zero, hidden, shared, executable and file pages, some of them huge."""
    area = subject.mmap(pages=64).touch()
    subject.mprotect(area[8:16], "none")
    subject.mprotect(area[16:24], "r")
    subject.mmap(pages=16).load()
    subject.mmap(pages=8, shared=True).touch()
    subject.mmap(pages=4, prot="rwx").touch()
    file = subject.open("/init", "O_RDONLY")
    subject.mmap(pages=min(16, INIT_SIZE // subject.page_size), prot="r", fd=file).load()
    fill_huge(subject)


def fill_huge(subject):
    """Add a page of the pool and a transparent one, as far as the guest has them."""
    set_to(subject, "/proc/sys/vm/nr_hugepages", b"1")
    set_to(subject, "/sys/kernel/mm/transparent_hugepage/enabled", b"madvise")
    found = re.search(r"Hugepagesize:\s+(\d+) kB", subject.read_file("/proc/meminfo").decode())
    size = int(found[1]) << 10
    if subject.read_file("/proc/sys/vm/nr_hugepages").strip() == b"1":
        subject.mmap(pages=size // subject.page_size, hugetlb=True)[0].touch()
    area = subject.mmap(pages=size // subject.page_size, aligned=size)
    subject.madvise(area, "HUGEPAGE")
    area[0].touch()


def set_to(subject, path, text):
    file = subject.open(path, "O_WRONLY")
    subject.write(file, text)
    subject.close(file)


def maps_of(subject):
    lines = subject.read_file("/proc/self/maps").decode().splitlines()
    found = (re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line) for line in lines)
    parts = ((int(m[1], 16), int(m[2], 16), m[3]) for m in found)
    return tuple(part for part in parts if part[0] < 1 << 63)


@pytest.fixture
def busy(cell, subject):
    fill(subject)
    maps = maps_of(subject)
    pagemap = {}
    for start, end, _ in maps:
        area = Area(subject, start, (end - start) // subject.page_size, subject.page_size)
        for first in range(0, area.pages, 4096):
            part = area[first : first + 4096]
            pagemap |= dict(zip(part, subject.pagemap(part), strict=False))
    return Busy(cell.linux.anew(), maps, pagemap)


def mm_of(busy, subject):
    return busy.linux.anew().task(subject.pid).mm


def test_every_page_is_where_pagemap_says(cell, subject, busy):
    with cell.machine.stopped():
        mm = mm_of(busy, subject)
        walks = {address: walk(cell.memory, mm.space, address) for address in busy.pagemap}
    wrong = [
        (hex(address), hex(said), str(walks[address]))
        for address, said in busy.pagemap.items()
        if (said & PRESENT and walks[address].pfn != said & PFN)
        or (said & SWAPPED and not (walks[address].leaf and walks[address].leaf.swap))
    ]
    proven(cell, "every page, pagemap", len(busy.pagemap), len(wrong))
    assert not wrong, wrong[:3]
    assert sum(said & PRESENT != 0 for said in busy.pagemap.values()) > 100


def test_scan_finds_what_pagemap_and_walks_find(cell, subject, busy):
    with cell.machine.stopped():
        space = mm_of(busy, subject).space
        leaves = scan(cell.memory, space, non_present=True)
        assert [walk(cell.memory, space, leaf.virt_addr).leaf for leaf in leaves] == list(leaves)
    size = space.format.page_size
    pages = {
        leaf.virt_addr + i * size: leaf.pfn + i
        for leaf in leaves
        if leaf.pfn is not None
        for i in range(leaf.size // size)
    }
    said = {address: entry & PFN for address, entry in busy.pagemap.items() if entry & PRESENT}
    assert {address: pfn for address, pfn in pages.items() if address in said} == said
    assert len(pages) - len(said) <= 4, "only special pages of the vdso are missing from pagemap"
    assert not leaves.findings


def test_large_pages_are_seen(cell, subject, busy):
    with cell.machine.stopped():
        leaves = scan(cell.memory, mm_of(busy, subject).space)
    large = leaves[leaves.size > subject.page_size]
    differ = sum(busy.pagemap[leaf.virt_addr] & PFN != leaf.pfn for leaf in large)
    proven(cell, "large pages, pagemap", len(large), differ)
    assert len(large) >= 1
    assert differ == 0


def test_a_poisoned_page_leaves_an_entry_that_names_it(cell, subject):
    if not cell.prepared.image.layout["CONFIG_MEMORY_FAILURE"]:
        pytest.skip("the kernel has no CONFIG_MEMORY_FAILURE")
    area = subject.mmap(pages=1).touch()
    with cell.machine.stopped():
        before = cell.linux.anew().task(subject.pid).mm.walk(area.start)
    # Whoever poisons a page of its own may be killed, so a child does it to the page that it shares.
    with suppress(SubjectDied), subject.fork() as child:
        child.madvise((area.start, area.length), "HWPOISON")
    with cell.machine.stopped():
        after = cell.linux.anew().task(subject.pid).mm.walk(area.start)
    assert (after.end, after.pfn) == (End.NOT_PRESENT, None)
    assert (after.leaf.swap.name, after.leaf.swap.pfn) == ("hwpoison", before.pfn)
    proven(cell, "poisoned page", 1)


def addresses(cell, busy, halves):
    """Return boundary and random addresses of both halves, and of neither."""
    chosen = random.Random(3)
    page = halves.kernel.format.page_size
    kernel = scan(cell.memory, halves.kernel)
    found = [at for start, end, _ in busy.maps for at in (start - 1, start, end - 1, end)]
    for _ in range(ADDRESSES // 2):
        start, end, _ = chosen.choice(busy.maps)
        found.append(chosen.randrange(max(0, start - page), end + page))
        leaf = kernel[chosen.randrange(len(kernel))]
        found.append(leaf.virt_addr + chosen.randrange(leaf.size))
    found += [chosen.randrange(1 << 64) for _ in range(ADDRESSES // 8)]
    edges = (0, halves.user.end, halves.kernel.start, 1 << 64)
    return [at for at in (*found, *edges, *(edge - 1 for edge in edges)) if 0 <= at < 1 << 64]


def ours(cell, halves, address, *, el0):
    """Return where our walk leads; at EL0 QEMU refuses what EL0 may not read."""
    half = halves.of(address)
    seen = walk(cell.memory, half, address) if half else None
    if seen is None or (el0 and seen.leaf and not seen.leaf.rights & Rights.USER_READ):
        return None
    return seen.phys_addr


def theirs(cell, address, cpu):
    line = {"command-line": f"gva2gpa {address:#x}", "cpu-index": cpu}
    found = re.search(r"gpa: (0x[0-9a-f]+)", cell.machine.qmp.execute("human-monitor-command", line))
    return int(found[1], 16) if found else None


def compare(cell, halves, which, *, cpu=0, el0):
    tally = Counter()
    for address in which:
        mine, other = ours(cell, halves, address, el0=el0), theirs(cell, address, cpu)
        proven(cell, "both halves, QEMU's gva2gpa", 1, int(mine != other))
        assert mine == other, f"{address:#x}: {halves.of(address)}"
        tally["mapped" if other is not None else "not mapped"] += 1
    return tally


@contextmanager
def caught_in_user_mode(cell, subject):
    """Hold the machine while the subject runs in user mode; yield its processor's registers."""
    with subject.spin(SPIN):
        for _ in range(TRIES):
            with cell.machine.stopped():
                root = cell.linux.anew().task(subject.pid).mm.space.root
                every = [cell.machine.registers(cpu) for cpu in range(cell.target.cpus)]
                found = [one for one in every if in_user_mode(one) and spaces(one).user.root == root]
                if found:
                    yield found[0]
                    return
        pytest.fail("the subject was not caught in user mode")


def in_user_mode(registers):
    return registers["cpl"] == 3 if registers.arch is Arch.X86_64 else registers["cpsr"] & 0xC == 0


def test_walks_lead_where_qemu_says(cell, subject, busy):
    with caught_in_user_mode(cell, subject) as registers:
        halves = spaces(registers)
        tally = compare(
            cell, halves, addresses(cell, busy, halves), cpu=registers.cpu, el0=cell.target.arch is Arch.ARM64
        )
    assert tally["mapped"] > ADDRESSES // 4
    assert tally["not mapped"] > ADDRESSES // 16


def test_kernel_addresses_lead_where_qemu_says(cell, subject, busy):
    """The guest is idle, so its processor is in the kernel and may read all kernel addresses."""
    with cell.machine.stopped():
        halves = spaces(cell.machine.registers())
        kernel = [at for at in addresses(cell, busy, halves) if at in halves.kernel]
        assert compare(cell, halves, kernel, el0=False)["mapped"] >= ADDRESSES // 2


def test_readers_give_identical_bytes(cell):
    with cell.machine.stopped():
        compare_readers(cell)


def test_readers_give_identical_bytes_around_a_hole(cell):
    """More than 3 GiB: on q35 the RAM continues above 4 GiB."""
    if cell.target.arch is not Arch.X86_64:
        pytest.skip("the RAM of this board is in one piece")
    large = boot(replace(cell.prepared, target=replace(cell.target, memory=LARGE)))
    try:
        with large.machine.stopped():
            regions = compare_readers(large)
        assert max(region.end for region in regions) > 4 << 30
        assert large.linux.task(1).comm
    finally:
        large.close()


def compare_readers(cell):
    """Read at random and at each region's borders by every reader; return the regions."""
    machine, chosen = cell.machine, random.Random(4)
    regions = ram_map(hmp(machine.qmp, "info mtree -f"), RAM)
    process = ProcessVm(machine.pid, host_ranges(machine.qmp, regions))
    places = [at for region in regions for at in ((region.start, 64), (region.end - 64, 64))]
    for _ in range(50):
        region, size = chosen.choice(regions), chosen.randrange(1, 6000)
        places.append((chosen.randrange(region.start, max(region.start + 1, region.end - size)), size))
    with QmpReader(machine.qmp, regions) as saved:
        for address, most in places:
            size = min(most, next(region for region in regions if address in region).end - address)
            data = cell.memory.read(address, size)
            for reader in (saved, process, XpReader(machine.qmp, regions)):
                proven(cell, f"bytes read, {reader.name}", size)
                assert reader.read(address, size) == data, (reader.name, hex(address), size)
    return regions


def test_the_fastest_reader_is_chosen(cell):
    machine = cell.machine
    shared = [({"ram_fd": machine.ram_fd, "pid": machine.pid}, "shared map")] if machine.ram_fd >= 0 else []
    ways = (*shared, ({"pid": machine.pid}, "process_vm_readv"), ({}, "pmemsave"))
    with machine.stopped():
        for how, name in ways:
            with open_memory(machine.qmp, backend=RAM, **how) as chosen:
                assert chosen.memory.name == name, chosen.reason
                space = cell.linux.kernel_space
                assert list(scan(chosen.memory, space).entry[:99]) == list(
                    scan(cell.memory, space).entry[:99]
                )


def test_scans_tell_what_an_operation_did(cell, subject):
    area = subject.mmap(pages=4).touch()

    def look():
        with cell.machine.stopped():
            space = cell.linux.anew().task(subject.pid).mm.space
            return scan(cell.memory, space, area.start, area.end, non_present=True)

    first = look()
    subject.mprotect(area[1:3], "r")
    changed = diff(first, look())
    assert [change.after.virt_addr for change in changed.changed] == [area.address(1), area.address(2)]
    assert all(
        "writable" in change.before.linux.names - change.after.linux.names for change in changed.changed
    )
    subject.munmap(area[:1])
    assert diff(first, look()).vanished.virt_addr.tolist() == [area.start]


def test_a_shared_page_is_found_in_both_its_processes(cell, subject):
    area = subject.mmap(pages=1).touch()
    with subject.fork() as child, cell.machine.stopped():
        linux = cell.linux.anew()
        mms = [linux.task(each.pid).mm for each in (subject, child)]
        phys = mms[0].walk(area.start).phys_addr
        assert mms[0].space.root != mms[1].space.root
        for mm in mms:
            assert addresses_of(scan(cell.memory, mm.space), phys + 5) == [area.start + 5]
        assert linux.page(phys // subject.page_size).mapcount == 2


def test_mappings_are_those_of_proc_maps(cell, subject, busy):
    with cell.machine.stopped():
        mm = mm_of(busy, subject)
        vmas, count = mm.vmas(), mm.map_count
    assert tuple((vma.start, vma.end, access(vma)) for vma in vmas) == busy.maps
    assert len(vmas) == count
    assert "/init" in {vma.file for vma in vmas}


def access(vma):
    letters = (("VM_READ", "r"), ("VM_WRITE", "w"), ("VM_EXEC", "x"))
    rights = "".join(letter if vma.has(name) else "-" for name, letter in letters)
    return rights + ("s" if vma.has("VM_MAYSHARE") else "p")


def test_counters_are_what_a_scan_adds_up(cell, subject, busy):
    with cell.machine.stopped():
        mm = mm_of(busy, subject)
        rss, total = mm.rss, mm.total_vm
        leaves = scan(cell.memory, mm.space, non_present=True)
        counted = leaves.linux_present & ~leaves.linux("special")
        for vma in mm.vmas():
            if vma.has("VM_HUGETLB"):
                counted &= (leaves.virt_addr < vma.start) | (leaves.virt_addr >= vma.end)
        pages = leaves[counted]
        anon = busy.linux.anew().pages(pages.pfn).anon
    sizes = pages.size // subject.page_size
    assert rss.anon == int(sizes[anon].sum())
    assert rss.file + rss.shmem == int(sizes[~anon].sum())
    assert total == sum(end - start for start, end, _ in busy.maps) // subject.page_size


def test_page_frames_are_as_the_guest_says(cell, subject, busy):
    pfns = sorted({said & PFN for said in busy.pagemap.values() if said & PRESENT})
    counts, flags = (kernel_view(subject, name, pfns) for name in ("kpagecount", "kpageflags"))
    with cell.machine.stopped():
        pages = list(busy.linux.anew().pages(pfns))
    assert [page.mapcount for page in pages] == counts
    for page, bits in zip(pages, flags, strict=True):
        mine = {"anon": page.anon, "head": page.compound and not page.tail, "tail": page.tail}
        assert {name: bool(bits >> KPF[name] & 1) for name in mine} == mine, page


def kernel_view(subject, name, pfns):
    fd = subject.open(f"/proc/{name}", "O_RDONLY")
    found = [struct.unpack("<Q", subject.read(fd, 8, 8 * pfn))[0] for pfn in pfns]
    subject.close(fd)
    return found
