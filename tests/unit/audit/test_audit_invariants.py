"""Each invariant on a process in a fake memory: clean, and broken in its own way, on both architectures."""

import pytest
from audit_stage import ANON, EXCLUSIVE, HUGE, PMD, PTE, ArmEntries, Stage, X86Entries, clean, with_rss

from hostwalk.audit import INVARIANTS, judge
from hostwalk.audit.sabotages import SABOTAGES

ANON_PAGE, ZERO_PAGE, SWAPPED, CODE, HIDDEN, SHARED, DEVICE = (
    0x10000, 0x11000, 0x12000, 0x21000, 0x30000, 0x40000, 0x50000,
)  # fmt: skip
THP, POOL = 2 * HUGE, 4 * HUGE
FAR = 1 << 45


def breaks(*ids, only=""):
    return lambda change: CASES.append((change, ids, only)) or change


CASES = []


@breaks("0.tables", "13.rss")
def table_outside_ram(stage):
    stage.memory.write_u64(PMD, PTE | FAR | (3 if isinstance(stage.made, ArmEntries) else 7))
    stage.counters["pgtables_bytes"] = 3 * 4096


@breaks("1")
def writable_code(stage):
    stage.bits(CODE, on=stage.made.bits["w"])
    stage.vmas[1][3] |= 8


@breaks("2")
def executable_data(stage):
    stage.bits(SHARED, off=stage.made.nx)


@breaks("3")
def hidden_but_user(stage):
    stage.bits(HIDDEN, on=stage.made.bits["user"])


@breaks("4")
def writable_but_not_exclusive(stage):
    stage.frame(0x100, flags=0)


@breaks("4", "13.rss")
def writable_but_not_anonymous(stage):
    stage.frame(0x100, mapping=0)


@breaks("4")
def pool_page_not_exclusive(stage):
    stage.folios[1]["flags"] = 0


@breaks("4")
def huge_page_not_exclusive(stage):
    stage.frame(0x400, flags=0)


@breaks("5", "12.mapcount", "13.rss")
def zero_page_not_special(stage):
    stage.bits(ZERO_PAGE, off=stage.made.bits["special"])


@breaks("4", "5")
def zero_page_writable(stage):
    stage.bits(ZERO_PAGE, on=stage.made.bits["w"])


@breaks("6")
def protected_and_writable(stage):
    stage.bits(ANON_PAGE, on=stage.made.bits["uffd"])


@breaks("7", only="x86")
def dirty_and_read_only(stage):
    stage.bits(CODE, on=stage.made.bits["d"])


@breaks("8", only="arm")
def dirty_writable_read_only(stage):
    stage.bits(ANON_PAGE, on=stage.made.bits["d"])


@breaks("9", only="arm")
def one_contiguous(stage):
    stage.bits(ANON_PAGE, on=1 << 52)


@breaks("9", only="arm")
def contiguous_and_hidden(stage):
    stage.bits(HIDDEN, on=1 << 52)


@breaks("10", "12.frame", "13.rss", only="x86")
def hidden_as_it_is(stage):
    stage.bits(HIDDEN, on=0x120 << 12, off=(1 << 52) - (1 << 12) - (0x120 << 12))


@breaks("11.vma", "13.total_vm")
def entry_outside(stage):
    stage.vmas[1][2] -= 0x1000


@breaks("11.vma", "13.total_vm", "13.rss", "13.tables")
def pool_mapping_gone(stage):
    del stage.vmas[-1]
    stage.frame(0x600, kind="")


@breaks("11.end")
def beyond_the_file(stage):
    stage.vmas[1][6] = 0x21


@breaks("11.place")
def another_offset(stage):
    stage.frame(0x110, index=0x20)


@breaks("11.place")
def another_place_of_a_huge_page(stage):
    stage.frame(0x400, index=0)


@breaks("11.place")
def a_copy_at_another_offset(stage):
    stage.vmas[0][7] += 1


@breaks("12.frame", "13.rss")
def no_ram_there(stage):
    stage.bits(CODE, on=FAR)


@breaks("12.mapcount")
def one_map_more(stage):
    stage.frame(0x110, maps=2)


@breaks("12.entire")
def one_whole_map_more(stage):
    stage.folios[0]["entire"] = 2


@breaks("12.large")
def one_large_map_more(stage):
    stage.folios[1]["total"] = 2


@breaks("12.mapcount")
def counted_though_special(stage):
    stage.frame(0x3, maps=1, refcount=2)


@breaks("13.rss")
def rss_of_files(stage):
    with_rss(stage, file=2)


@breaks("13.rss")
def rss_of_swap(stage):
    with_rss(stage, swap=0)


@breaks("13.rss")
def pool_in_rss(stage):
    with_rss(stage, anon=2 + 1024)


@breaks("13.total_vm")
def data_vm(stage):
    stage.counters["data_vm"] += 1


@breaks("13.locked_vm")
def locked_vm(stage):
    stage.counters["locked_vm"] = 0


@breaks("13.map_count")
def map_count(stage):
    stage.counters["map_count"] = 9


@breaks("13.tables")
def no_table_put_by(stage):
    stage.spare = 0


@breaks("14.pins")
def released_too_many(stage):
    stage.held = -1


@breaks("14.pins")
def looks_pinned(stage):
    stage.frame(0x100, refcount=1 + 1024)


@breaks("14.pins", "15.references")
def huge_page_pinned(stage):
    stage.folios[0]["pins"] = 3


@breaks("15.free")
def in_the_free_lists(stage):
    stage.frame(0x130, kind="buddy")


@breaks("15.free")
def device_page_in_the_free_lists(stage):
    stage.frame(0x3, kind="buddy")


@breaks("15.free")
def a_page_table(stage):
    stage.frame(0x130, kind="table")


@breaks("15.free", "15.references")
def no_references(stage):
    stage.frame(0x100, refcount=0)


@breaks("15.references")
def cache_without_reference(stage):
    stage.frame(0x110, refcount=1)


ENTRIES = pytest.mark.parametrize("entries", [X86Entries(), ArmEntries()], ids=["x86", "arm"])


@ENTRIES
def test_a_clean_process_has_no_findings(entries):
    audit = judge(clean(entries).evidence())
    assert audit, str(audit)
    assert (audit.processes, audit.leaves, audit.frames) == (1, 9, 8)


@pytest.mark.parametrize(("change", "ids", "only"), CASES, ids=[case[0].__name__ for case in CASES])
@ENTRIES
def test_a_breach_is_found(entries, change, ids, only):
    if only and not type(entries).__name__.lower().startswith(only):
        pytest.skip(f"{only} only")
    stage = clean(entries)
    change(stage)
    audit = judge(stage.evidence())
    assert audit.broken == set(ids), str(audit)


def test_each_invariant_has_its_breach_here():
    assert {each for _, ids, _ in CASES for each in ids} == set(INVARIANTS)


def test_no_invariant_without_a_sabotage():
    assert set(SABOTAGES) == set(INVARIANTS)
    assert len({alter.__name__ for many in SABOTAGES.values() for alter in many}) >= len(INVARIANTS)


def test_invariants_about_what_a_build_lacks_do_not_apply():
    seen = clean(X86Entries()).evidence()
    assert {each.id for each in INVARIANTS.values() if not each.applies(seen)} == {"8", "9"}
    seen = clean(ArmEntries()).evidence()
    assert {each.id for each in INVARIANTS.values() if not each.applies(seen)} == {"7", "10"}


@ENTRIES
def test_anonymous_pages_do_not_count_from_the_place_in_the_file(entries):
    stage = clean(entries)
    stage.vmas[0][4] = 5
    assert judge(stage.evidence())


@ENTRIES
def test_a_page_under_migration_stays_in_rss(entries):
    stage = clean(entries)
    stage.entry(SWAPPED, entries.swap(30, 0x140))
    with_rss(stage, swap=0, anon=3 + 512)
    assert judge(stage.evidence())


def test_contiguous_runs():
    stage = Stage(made := ArmEntries())
    stage.vma(0x20000, 0x40000, 1)
    for i in range(16):
        stage.entry(0x20000 + 0x1000 * i, made.leaf(0x220 + i) | 1 << 52)
        stage.frame(0x220 + i, mapping=ANON, index=0x20 + i, flags=EXCLUSIVE)
    stage.rss = type(stage.rss)(0, 16, 0, 0)
    stage.counters = {"total_vm": 32, "data_vm": 0, "exec_vm": 0, "stack_vm": 0, "locked_vm": 0}
    assert judge(stage.evidence())
    stage.entry(0x23000, made.leaf(0x2F3) | 1 << 52)
    stage.frame(0x2F3, mapping=ANON, index=0x23)
    assert judge(stage.evidence()).broken == {"9"}


def test_a_finding_says_where_and_why():
    stage = clean(X86Entries())
    stage.bits(CODE, on=2)
    said = str(judge(stage.evidence()))
    assert said.startswith("audit of 9 entries and 8 page frames of 1 processes, 24 invariants: 2 findings")
    assert (
        "invariant 1: A writable entry lies in a mapping with VM_WRITE (mm/memory.c, maybe_mkwrite)" in said
    )
    assert "fake (pid 7) at 0x21000: writable, but no VM_WRITE" in said
    assert "entry   0x0000000000021000 -> 0x110000 pte 0x0000000000110027" in said
    assert "mapping 000000020000-000000022000 flags 0x5" in said


def test_only_what_both_looks_find_is_kept():
    stage = clean(X86Entries())
    clear = judge(stage.evidence())
    stage.held = -1
    first = judge(stage.evidence())
    assert first.confirmed_by(clear)
    assert first.confirmed_by(first).broken == {"14.pins"}
    assert judge(stage.evidence(), frozenset({8}))
