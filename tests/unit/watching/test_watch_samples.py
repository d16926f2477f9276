"""Samples: what counts as a change, and how it reads, on page tables made of bytes."""

from __future__ import annotations

import json
from types import SimpleNamespace

from hostwalk.linux.mm import Vma
from hostwalk.memory import FakeMemory, Region
from hostwalk.paging import AddressSpace, Leaves, diff, scan, x86_64
from hostwalk.watching import Call, Sample, lines, plain
from hostwalk.watching.sample import FORKED, Sight, changes, look

SPACE = AddressSpace("test", x86_64.make_format(4), 0x1000, 0, 1 << 47, x86_64.linux_bits({}))
PTE = 0x4000
RW, RO, DIRTY = 0x67, 0x25, 0x40


def leaves(entries: dict[int, int]) -> Leaves:
    memory = FakeMemory((Region(0, 1 << 30),))
    for place, entry in ((0x1000, 0x2067), (0x2000, 0x3067), (0x3000, PTE | 0x67)):
        memory.write_u64(place, entry)
    for index, entry in entries.items():
        memory.write_u64(PTE + 8 * index, entry)
    return scan(memory, SPACE, non_present=True)


def vma(start: int, end: int, *names: str, file: str | None = None) -> Vma:
    return Vma(0xFFFF0000, start, end, sum(map(len, names)), 0, 0, file, frozenset(names))


def sample(old: dict[int, int], new: dict[int, int], occasion: str = "meanwhile", **more: object) -> Sample:
    given = {"before": (), "after": (), **more}
    difference = diff(leaves(old), leaves(new))
    return Sample(0, 85, "prog", 0.25, occasion, difference, **given)  # type: ignore[arg-type]


PAGES = {1: 0x8000 | RW, 2: 0x9000 | RW, 3: 0xA000 | RW}


def test_neighbours_to_which_the_same_happened_are_one_line() -> None:
    area = vma(0x1000, 0x4000, "VM_READ")
    after = {1: 0x8000 | RO, 2: 0x9000 | RO, 3: 0xA000 | RW}
    seen = sample(PAGES, after, "mprotect(0x1000, 0x2000, PROT_READ) = 0", before=(area,), after=(area,))
    assert list(lines(seen)) == [
        "prog[85] mprotect(0x1000, 0x2000, PROT_READ) = 0",
        "  ~ 0x1000-0x3000 2 x 4K -RW -D -dirty -writable  in anonymous memory",
    ]


def test_what_appeared_and_vanished_is_named_with_its_mapping() -> None:
    was, now = vma(0x1000, 0x4000, "VM_READ", file="/root/prog"), vma(0x5000, 0x6000, "VM_WRITE")
    seen = sample(PAGES, {5: 0xB000 | RW}, before=(was,), after=(now,))
    assert list(lines(seen, timed=True)) == [
        "   250.0 ms  prog[85] meanwhile",
        "  vma - 000000001000-000000004000 r--p /root/prog",
        "  vma + 000000005000-000000006000 -w-p",
        "  - 0x1000-0x4000 3 x 4K rwx P RW US A D  in /root/prog",
        "  + 0x5000-0x6000 1 x 4K rwx P RW US A D  in anonymous memory",
    ]


def test_another_page_is_told_and_age_alone_is_summed_up() -> None:
    copied = {1: 0xC000 | RW, 2: 0x9000 | RW & ~DIRTY, 3: 0xA000 | RW & ~DIRTY}
    assert list(lines(sample(PAGES, copied)))[1:] == [
        "  ~ 0x1000-0x2000 1 x 4K another page",
        "  ~ 2 entries -D -dirty",
    ]


def test_a_list_that_is_long_says_how_long() -> None:
    scattered = dict.fromkeys(range(1, 60, 2), 0x8000 | RW)
    told = list(lines(sample({}, scattered)))
    assert len(told) == 14
    assert told[-1] == "  and 18 more"


def test_nothing_is_said_to_be_nothing() -> None:
    seen = sample(PAGES, PAGES, "brk(0) = 0x4000")
    assert not seen
    assert list(lines(seen)) == ["prog[85] brk(0) = 0x4000: no change"]


def test_a_new_address_space_appears_as_a_whole() -> None:
    old, new = Sight("sh", 1, leaves(PAGES), ()), Sight("prog", 2, leaves(PAGES), ())
    assert len(changes(old, new).appeared) == 3
    assert not changes(old, Sight("sh", 1, leaves(PAGES), ()))
    forked = sample({}, PAGES, FORKED, after=(vma(0x1000, 0x4000),))
    assert list(lines(forked))[1:] == ["  1 mappings, 3 entries, as its parent's"]


def test_json_has_each_entry_and_the_call() -> None:
    call = Call("munmap", (0x3000, 0x1000), is_call=True, result=0)
    was = vma(0x1000, 0x4000, "VM_READ")
    seen = sample(PAGES, {1: 0x8000 | RO, 2: 0x9000 | RW}, "munmap", before=(was,), after=(), call=call)
    told = json.loads(json.dumps(plain(seen)))
    assert told["call"] == {"name": "munmap", "arguments": ["0x3000", "0x1000"], "result": 0}
    assert [leaf["virt_addr"] for leaf in told["vanished"]] == ["0x3000"]
    assert told["changed"][0]["bits"] == "0x42"
    assert told["unmapped"][0]["end"] == "0x4000"
    assert not told["appeared"]


def test_a_process_whose_first_thread_has_exited_has_the_address_space_of_the_others() -> None:
    memory = FakeMemory((Region(0, 1 << 30),))
    mm = SimpleNamespace(address=0x77, space=SPACE, vmas=lambda: ())
    other = SimpleNamespace(mm=mm)
    leader = SimpleNamespace(comm="prog", mm=None, threads=lambda: iter([leader, other]))
    seen = look(SimpleNamespace(memory=memory), leader)  # type: ignore[arg-type]
    assert seen is not None
    assert seen.mm == 0x77
    other.mm = None
    assert look(SimpleNamespace(memory=memory), leader) is None  # type: ignore[arg-type]
