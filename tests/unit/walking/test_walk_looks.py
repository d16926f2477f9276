"""What is asked of a machine, and how the answers print, on a machine made of bytes."""

import json
from contextlib import nullcontext

import pytest

from hostwalk.errors import UsageError, WalkError
from hostwalk.machine import Registers
from hostwalk.memory import FakeMemory, Region
from hostwalk.target import Arch
from hostwalk.walking import Build, Guest, Wanted, lines, look, plain, watch

CR3 = {"cr0": 1 << 31, "cr3": 0x1000, "cr4": 0, "efer": 0xD00}
PTE = 0x4000
KERNEL = (1 << 64) - (1 << 47)


def machine(entries, build=Build()):  # noqa: B008
    memory = FakeMemory((Region(0, 1 << 30),))
    for place, entry in ((0x1000, 0x2067), (0x2000, 0x3067), (0x3000, PTE | 0x67), (0x1800, 0x2063)):
        memory.write_u64(place, entry)
    for index, entry in entries.items():
        memory.write_u64(PTE + 8 * index, entry)
    return Guest(
        "a machine", memory, "by hand", nullcontext, lambda cpu: Registers(Arch.X86_64, CR3, cpu), build
    )


GUEST = machine({0: 0x8067, 1: 0x9067, 2: 0xC067, 5: 0xD025 | 1 << 63, 6: 0x8065})


def text(wanted, guest=GUEST, style="table"):
    return list(lines(look(guest, wanted, tree=style == "tree"), style))


def test_an_address_is_walked_level_by_level():
    seen = text(Wanted(addresses=("1234", "7000", "8000000000000000")))
    assert [line.split()[0] for line in seen[1:5]] == ["pgd", "pud", "pmd", "pte"]
    assert seen[5].startswith("  = 0x9234, 4K page, user rwx kernel rwx, WB")
    assert [line for line in seen if line.startswith("  = ")][1:] == [
        "  = empty entry",
        "  = address outside the space",
    ]


def test_a_table_has_runs_of_like_pages():
    heading, header, *rows = text(Wanted(half="user"))
    assert heading.startswith("processor 0, user half: x86-64 4-level, root 0x1000")
    assert heading.endswith("5 pages, 20K, 4 tables")
    assert header.split()[:5] == ["start", "end", "size", "of", "to"]
    assert [row.split()[:5] for row in rows] == [
        ["0x0000000000000000", "0x0000000000002fff", "12K", "4K", "scattered"],
        ["0x0000000000005000", "0x0000000000005fff", "4K", "4K", "0xd000"],
        ["0x0000000000006000", "0x0000000000006fff", "4K", "4K", "0x8000"],
    ]
    assert rows[1].split()[5:] == ["r--", "r--", "WB", "P", "US", "A", "NX;", "young", "user"]


def test_each_leaf_can_be_seen():
    assert len(text(Wanted(half="user"), style="leaves")) == 2 + 5


def test_a_tree_shows_each_table_once():
    seen = text(Wanted(half="user"), style="tree")
    assert [line.split()[1] for line in seen[1:4]] == ["pgd", "pud", "pmd"]
    assert len(seen) == 1 + 3 + 3


def test_a_tree_of_nothing():
    assert len(text(Wanted(half="user"), machine({}), "tree")) == 1


@pytest.mark.parametrize(
    ("only", "found"),
    [(("writable",), 3), (("executable",), 4), (("user",), 5), (("writable", "special"), 0), (("large",), 0),
     (("dirty",), 4), (("absent",), 0)],
)  # fmt: skip
def test_filters_must_all_hold(only, found):
    outcome = look(GUEST, Wanted(half="user", only=only))
    assert len(outcome.tables[0].leaves) == found


def test_ranges_bound_what_is_seen():
    outcome = look(GUEST, Wanted(ranges=((0x1000, 0x3000), (0x5800, 0x5900))))
    assert [table.leaves.virt_addr.tolist() for table in outcome.tables] == [[0x1000, 0x2000], [0x5000]]


def test_both_halves_unless_one_is_asked_for():
    assert len(look(GUEST, Wanted()).tables) == 2
    outcome = look(GUEST, Wanted(half="kernel"))
    assert outcome.tables[0].leaves.virt_addr[0] == KERNEL


def test_another_root():
    outcome = look(GUEST, Wanted(root=0x10000, half="user"))
    assert (outcome.tables[0].space.root, len(outcome.tables[0].leaves)) == (0x10000, 0)


def test_who_maps_a_page():
    seen = text(Wanted(find=0x8010, half="user"))
    assert seen[0] == "physical address 0x8010"
    assert [line.split()[0] for line in seen[1:3]] == ["0x0000000000000010", "0x0000000000006010"]
    assert seen[3] == "  mapped 2 times in 1 address space"


def test_what_a_pause_changed():
    guest = machine({0: 0x8067, 1: 0x9067})

    def pause():
        guest.memory.write_u64(PTE, 0x8065)
        guest.memory.write_u64(PTE + 8, 0)
        guest.memory.write_u64(PTE + 16, 0xA067)

    heading, *changes = lines(watch(guest, Wanted(half="user"), pause))
    assert heading.endswith("1 appeared, 1 vanished, 1 changed")
    assert [line.split()[:2] for line in changes] == [
        ["+", "0x0000000000002000"], ["-", "0x0000000000001000"], ["~", "0x0000000000000000"],
    ]  # fmt: skip
    assert changes[2].endswith("-RW -writable")
    assert next(iter(lines(watch(GUEST, Wanted(half="user"), lambda: None)))).endswith("no change")


def test_swap_entries_show_as_absent_with_their_layout_known():
    assert "absent" in text(Wanted(half="user"), machine({3: 0x7FFF_FFFF_FFFF_F200}))[2]


@pytest.mark.parametrize(
    "wanted",
    [Wanted(half="user"), Wanted(addresses=("0",)), Wanted(find=0x8000), Wanted(addresses=("9000",))],
)  # fmt: skip
def test_json_holds_what_the_text_says(wanted):
    answer = json.loads(json.dumps(plain(GUEST, look(GUEST, wanted))))
    assert (answer["machine"], answer["reader"]) == ("a machine", "by hand")
    assert {"walks", "spaces", "mapped_at"} & set(answer)


def test_json_of_changes_and_of_runs():
    answer = plain(GUEST, watch(GUEST, Wanted(half="user"), lambda: None))
    assert answer["changes"][0]["changed"] == []
    runs = plain(GUEST, look(GUEST, Wanted(half="user")))["spaces"][0]["runs"]
    assert next((run["virt_addr"], run["size"], run["count"]) for run in runs) == ("0x0", 0x3000, 3)


def test_tasks_need_a_known_kernel():
    with pytest.raises(UsageError, match="symbols must be known"):
        look(GUEST, Wanted(tasks=("1",)))
    with pytest.raises(UsageError, match="symbols must be known"):
        look(GUEST, Wanted(addresses=("init_task",)))


def test_a_processor_without_paging_is_told():
    def registers(cpu):
        return Registers(Arch.X86_64, CR3 | {"efer": 0}, cpu)

    guest = Guest("a machine", FakeMemory(), "by hand", nullcontext, registers)
    with pytest.raises(WalkError, match="64-bit mode"):
        look(guest, Wanted())
