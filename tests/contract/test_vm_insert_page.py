"""vm_insert_page: a page that a driver has allocated becomes one of a user mapping."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Subject
from hostwalk.sabotage import (
    entry_bit,
    entry_pfn,
    mapcount,
    mm_counter,
    node_counter,
    page_flag,
    refcount,
    vm_flag,
)
from hostwalk.witness import NO_PFN, Witness

PAGE = "vm_insert_page(9)"
BEYOND_48_BITS = 1 << 50
PM_PRESENT, PM_FILE, PM_PFN = 1 << 63, 1 << 61, (1 << 55) - 1


@claim(
    "insert.page.1",
    PAGE,
    "This allows drivers to insert individual pages they've allocated into a user vma.",
    sabotage=mapcount(-1, at=2),
)
def test_an_inserted_page_is_mapped_and_counted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    before = witness.frames(pages.pfns)
    rss = witness.mm(subject)
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    mapped, after = witness.pages(area), witness.mm(subject)
    assert mapped.pfns == pages.pfns
    assert mapped.refcounts == before.refcounts + 1
    assert mapped.mapcounts == before.mapcounts + 1
    assert (after.rss_file, after.rss_shmem, after.rss_anon) == (
        rss.rss_file + 4,
        rss.rss_shmem,
        rss.rss_anon,
    )


@claim(
    "insert.page.2",
    PAGE,
    "insert individual pages",
    reading="Only the address that was asked for is mapped, its neighbours stay empty.",
    sabotage=entry_bit("present", set=True),
)
def test_only_the_address_asked_for_is_mapped(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    inserted = subject.insert("vm_insert_page", pages, map_pages=3, offset=subject.page_size)
    assert witness.pages(inserted.area).pfns == (NO_PFN, *pages.pfns, NO_PFN)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        inserted.area[0].load()


@claim(
    "insert.page.3",
    PAGE,
    "insert individual pages",
    reading="At any address of the vma, its last page too, in any order.",
    sabotage=entry_pfn(-1, page=3),
)
def test_pages_go_where_they_are_put(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    area = subject.mmap(4, "rw", shared=True, fd=subject.exerciser)
    for page, place in enumerate((3, 0, 2, 1)):
        offset = place * subject.page_size
        assert (
            subject.insert("vm_insert_page", pages, first=page, nr=1, when="now", at=area, offset=offset).ret
            == 0
        )
    order = [pages.pfns[page] for page in (1, 3, 2, 0)]
    assert witness.pages(area).pfns == order


@claim(
    "insert.twice.1",
    "mm/memory.c",
    "A page may be inserted more than once: each place holds a reference of its own and shows the "
    "same memory.",
    code="insert_page_into_pte_locked(): folio_get()",
    sabotage=refcount(-1),
)
def test_a_page_may_be_in_two_places(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert("vm_insert_page", pages, map_pages=2).area
    subject.insert("vm_insert_page", pages, when="now", at=area, offset=subject.page_size)
    mapped = witness.pages(area)
    assert mapped.pfns == pages.pfns * 2
    assert (mapped.refcounts, mapped.mapcounts) == (3, 2)
    area[0].store(0x5A)
    assert subject.peek(area.address(1), 1) == b"\x5a"


@claim(
    "insert.data.1",
    PAGE,
    "This allows drivers to insert individual pages they've allocated into a user vma.",
    reading="What a user stores is in the driver's page, and the entry is dirty then.",
    sabotage=entry_bit("dirty", set=False, at=2, page=1),
)
def test_what_a_user_stores_is_in_the_page(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=2)).area
    before = witness.pages(area)
    area[1].store(0xA5)
    after = witness.pages(area)
    assert (before.dirty, after.dirty) == (0, (0, 1))
    assert after.pfns == before.pfns
    assert [witness.contents(page)[0] for page in (area[0], area[1])] == [0, 0xA5]


@claim(
    "insert.reserved.1",
    PAGE,
    "The page does not need to be reserved.",
    sabotage=page_flag("PG_reserved", set=True),
)
def test_the_page_is_not_reserved(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=1)).area
    assert witness.pages(area).flag("PG_reserved") == 0
    area.load()


@claim(
    "insert.reference.1",
    "mm/memory.c",
    "The mapping has a reference of its own: the driver may drop its own while the page is mapped.",
    code="insert_page_into_pte_locked(): folio_get()",
    sabotage=refcount(-1),
)
def test_the_driver_may_drop_its_reference(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vm_insert_page", pages).area.store(0x77)
    subject.free_pages(pages)
    mapped = witness.pages(area)
    assert mapped.pfns == pages.pfns
    assert (mapped.refcounts, mapped.mapcounts) == (1, 1)
    assert [witness.contents(page)[0] for page in (area[0], area[1])] == [0x77, 0x77]


@claim(
    "insert.entry.1",
    PAGE,
    "Your vma protection will have to be set up correctly, which means that if you want a shared writable mapping, "
    "you'd better ask for a shared writable mapping!",
    sabotage=entry_bit("special", set=True),
)
def test_the_entry_is_a_normal_one_with_the_vmas_protection(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    shared = witness.pages(subject.insert("vm_insert_page", pages, prot="rw", shared=True).area)
    private = witness.pages(subject.insert("vm_insert_page", pages, prot="rw", shared=False).area)
    assert (shared.writable, private.writable) == (1, 0)
    for mapped in (shared, private):
        assert (mapped.special, mapped.dirty, mapped.executable) == (0, 0, 0)
        assert (mapped.user, mapped.young) == (1, 1)


@claim(
    "insert.entry.2",
    PAGE,
    "This doesn't allow that. Your vma protection will have to be set up correctly",
    reading="In a read-only vma the page cannot be written.",
    sabotage=entry_bit("writable", set=True),
)
def test_a_read_only_vma_gives_read_only_entries(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=2), prot="r", shared=True).area
    mapped = witness.pages(area)
    assert (mapped.writable, mapped.user) == (0, 1)
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area.store()


@claim(
    "insert.entry.3",
    PAGE,
    "This doesn't allow that. Your vma protection will have to be set up correctly",
    reading="In an executable vma the page can be executed.",
    sabotage=entry_bit("executable", set=False),
)
def test_an_executable_vma_gives_executable_entries(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=1), prot="rx", shared=True).area
    mapped = witness.pages(area)
    assert (mapped.executable, mapped.writable) == (1, 0)


@claim(
    "insert.entry.4",
    PAGE,
    "Your vma protection will have to be set up correctly",
    reading="The memory type comes from vma->vm_page_prot too.",
    sabotage=entry_bit("uncached", set=False, at=2),
)
def test_the_memory_type_is_the_vmas(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    cached = witness.pages(subject.insert("vm_insert_page", pages).area)
    uncached = witness.pages(subject.insert("vm_insert_page", pages, pgprot="noncached").area)
    assert set(cached.memory_types) <= {"WB", "Normal"}
    assert set(uncached.memory_types) <= {"UC-", "UC", "Device-nGnRnE"}
    assert uncached.pfns == pages.pfns


@claim(
    "insert.vmflag.1",
    PAGE,
    "Usually this function is called from f_op->mmap() handler under mm->mmap_lock write-lock, so it can change "
    "vma->vm_flags.",
    sabotage=vm_flag("VM_MIXEDMAP", at=1),
)
def test_the_mapping_becomes_a_mixed_map(subject: Subject, witness: Witness) -> None:
    inserted = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=1), prot="rw", shared=True)
    flags = witness.vma(inserted.area).flags
    assert "VM_MIXEDMAP" in flags
    assert not flags & {"VM_PFNMAP", "VM_IO", "VM_DONTEXPAND"}


@claim(
    "insert.fault.1",
    PAGE,
    "Caller must set VM_MIXEDMAP on vma if it wants to call this function from other places, for example from "
    "page-fault handler.",
    sabotage=refcount(-1, at=2),
)
def test_pages_may_be_inserted_by_a_fault_handler(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vm_insert_page", pages, when="fault", mixedmap=True).area
    assert witness.pages(area).pfns == NO_PFN
    area[1].store(3)
    mapped = witness.pages(area)
    assert subject.insert_result().runs == 1
    assert mapped.pfns == pages.pfns
    assert (mapped.refcounts, mapped.mapcounts, mapped.dirty) == (2, 1, (0, 1))


@claim(
    "insert.compound.1",
    PAGE,
    "If you allocate a compound page, you need to have marked it as such (__GFP_COMP)",
    reading="Any part of it may be inserted.",
    sabotage=refcount(-1, at=3),
)
def test_parts_of_a_compound_page_may_be_inserted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("compound", order=2)
    before = witness.frames(pages.pfns[:1])
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    assert witness.pages(area).pfns == pages.pfns
    assert witness.frames(pages.pfns[:1]).refcounts == before.refcounts + 4


@claim(
    "insert.compound.2",
    PAGE,
    "a compound page, you need to have marked it as such",
    reading="A tail that is inserted is mapped itself, and it is the head that is referenced.",
    sabotage=mapcount(+1, at=1, page=0),
)
def test_a_tail_is_mapped_and_its_head_referenced(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("compound", order=2)
    area = subject.insert("vm_insert_page", pages, first=2, nr=2).area
    frames = witness.frames(pages.pfns)
    assert frames.mapcounts == (0, 0, 1, 1)
    assert (frames.heads, frames.refcounts, frames.orders) == (pages.pfns[0], 3, 2)
    subject.munmap(area)
    after = witness.frames(pages.pfns)
    assert (after.mapcounts, after.refcounts) == (0, 1)


@claim(
    "insert.split.1",
    PAGE,
    "or manually just split the page up yourself (see split_page()).",
    sabotage=refcount(-1, at=1),
)
def test_parts_of_a_split_block_may_be_inserted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=2)
    area = subject.insert("vm_insert_page", pages, prot="rw", shared=True).area
    mapped = witness.pages(area)
    assert mapped.pfns == pages.pfns
    assert mapped.refcounts == 2


@claim(
    "insert.tables.1",
    "mm/memory.c",
    "Page tables are made as they are needed, across the end of one too; they are accounted, and "
    "freed by munmap.",
    code="insert_page(): get_locked_pte()",
    sabotage=mm_counter("pgtables_bytes", +1, at=2),
)
def test_tables_come_and_go(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=4)
    start = subject.astride_tables(4)
    empty, before = witness.pages(subject.area(start, 4)), witness.mm(subject).pgtables_bytes
    area = subject.insert("vm_insert_page", pages, fixed_at=start).area
    mapped = witness.pages(area)
    grown = len(mapped.tables - empty.tables)
    assert (area.start, mapped.pfns) == (start, pages.pfns)
    assert grown >= 2
    assert witness.mm(subject).pgtables_bytes == before + grown * subject.page_size
    subject.munmap(area)
    assert witness.mm(subject).pgtables_bytes == before


@claim(
    "insert.high.1",
    PAGE,
    "into a user vma",
    reading="Wherever user space may have one, beyond 48 bits of address too.",
    sabotage=entry_pfn(+1),
)
def test_pages_may_be_inserted_at_high_addresses(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    inserted = subject.insert("vm_insert_page", pages, fixed_at=BEYOND_48_BITS)
    if inserted.mapping is None:
        not_applicable("user addresses have no more than 48 bits here")
    mapped = witness.pages(inserted.area)
    assert (inserted.area.start, mapped.pfns, mapped.refcounts) == (BEYOND_48_BITS, pages.pfns, 2)


@claim(
    "insert.rss.1",
    "mm/memory.c",
    "A page of a shared-memory file is counted as one: MM_SHMEMPAGES.",
    code="mm_counter_file()",
    sabotage=mapcount(-1, at=2),
)
def test_swap_backed_pages_count_as_shared_memory(subject: Subject, witness: Witness) -> None:
    fd = subject.memfd(1)
    original = subject.mmap(1, "rw", shared=True, fd=fd).touch()
    pages = subject.alloc_pages("mapped", addr=original.start)
    before, frames = witness.mm(subject), witness.frames(pages.pfns)
    area = subject.insert("vm_insert_page", pages).area
    mapped, after = witness.pages(area), witness.mm(subject)
    assert (mapped.pfns, mapped.mapcounts) == (pages.pfns, frames.mapcounts + 1)
    assert (after.rss_shmem, after.rss_file) == (before.rss_shmem + 1, before.rss_file)
    subject.munmap(area)
    assert witness.mm(subject).rss_shmem == before.rss_shmem


@claim(
    "insert.counters.1",
    "mm/memory.c",
    "An inserted page counts as a mapped one of its node, once, however often it is mapped.",
    code="folio_add_file_rmap_pte()",
    sabotage=node_counter("NR_FILE_MAPPED", +1, at=2),
)
def test_inserted_pages_are_mapped_ones_of_the_node(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=3)
    subject.munmap(subject.insert("vm_insert_page", pages).area)
    before = witness.counters()["NR_FILE_MAPPED"]
    first = subject.insert("vm_insert_page", pages).area
    second = subject.insert("vm_insert_page", pages).area
    assert witness.counters()["NR_FILE_MAPPED"] == before + 3
    subject.munmap(first)
    assert witness.counters()["NR_FILE_MAPPED"] == before + 3
    subject.munmap(second)
    assert witness.counters()["NR_FILE_MAPPED"] == before


@claim(
    "insert.pagemap.1",
    "Documentation/admin-guide/mm/pagemap.rst",
    "Bits 0-54 page frame number (PFN) if present [...] Bit 61 page is file-page or shared-anon [...] "
    "Bit 63 page present",
    reading="The guest's own view of inserted pages is the witness's.",
    sabotage=entry_pfn(+1),
)
def test_the_guests_own_view_is_the_witnesss(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=3)).area
    seen = subject.pagemap(area)
    assert all(entry & PM_PRESENT and entry & PM_FILE for entry in seen)
    assert witness.pages(area).pfns == [entry & PM_PFN for entry in seen]
