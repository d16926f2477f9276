"""remap_pfn_range: entries without a page behind them, as the kernel counts."""

from __future__ import annotations

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mm_counter, refcount, vm_flag, vm_pgoff
from hostwalk.target import Arch
from hostwalk.witness import NO_PFN, Witness

PAGE = "remap_pfn_range(9)"
# Since 6.19 remap_pfn_range_prepare_vma() refuses part of a private mapping before anything is touched.
ZAPS = ">=6.1.111, <6.2 | >=6.6.52, <6.7 | >=6.10.11, <6.19"


@claim(
    "remap.entry.1",
    PAGE,
    "remap kernel memory to userspace",
    reading="The entries are linear in pfn and special, and no struct page takes part.",
    sabotage=refcount(+1, at=2),
)
def test_entries_are_special_and_pages_uncounted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=2)
    before, rss = witness.frames(pages.pfns), witness.mm(subject)
    area = subject.insert("remap_pfn_range", pages, prot="rw", shared=True).area
    mapped, after = witness.pages(area), witness.mm(subject)
    assert mapped.pfns == range(pages.pfns[0], pages.pfns[0] + 4)
    assert (mapped.special, mapped.dirty, mapped.user) == (1, 0, 1)
    assert (mapped.refcounts, mapped.mapcounts) == (before.refcounts, before.mapcounts)
    assert (after.rss_file, after.rss_anon, after.rss_shmem) == (rss.rss_file, rss.rss_anon, rss.rss_shmem)


@claim(
    "remap.entry.2",
    PAGE,
    "@pfn: page frame number of kernel physical memory address",
    reading="Of a page that has no reference, too.",
    sabotage=entry_bit("special", set=False),
)
def test_pages_need_no_reference(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("unsplit", order=2)
    area = subject.insert("remap_pfn_range", pages, first=1, nr=3).area
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special) == (pages.pfns[1:], 1)
    assert (mapped.refcounts, mapped.mapcounts) == (0, 0)


@claim(
    "remap.entry.3",
    PAGE,
    "remap kernel memory to userspace",
    reading="Memory of kmalloc() too.",
    sabotage=entry_pfn(+1),
)
def test_memory_of_the_slab_allocator_may_be_remapped(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("slab", nr=1)
    before = witness.frames(pages.pfns)
    area = subject.insert("remap_pfn_range", pages).area.store(0x42)
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.dirty) == (pages.pfns, 1, 1)
    assert witness.frames(pages.pfns).refcounts == before.refcounts
    assert witness.contents(area)[0] == 0x42


@claim(
    "remap.prot.1",
    PAGE,
    "@prot: page protection flags for this mapping",
    reading="They are those of the call, whatever the vma's are.",
    sabotage=entry_bit("writable", set=True, at=2),
)
def test_the_protection_is_the_calls(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    own = witness.pages(subject.insert("remap_pfn_range", pages, prot="rw").area)
    given = witness.pages(subject.insert("remap_pfn_range", pages, prot="rw", pgprot="readonly").area)
    assert (own.writable, given.writable) == (1, 0)
    assert (own.special, given.special) == (1, 1)


@claim(
    "remap.prot.2",
    PAGE,
    "@prot: page protection flags for this mapping",
    reading="The memory type comes with them.",
    sabotage=entry_bit("uncached", set=False),
)
def test_the_memory_type_is_the_calls(subject: Subject, witness: Witness) -> None:
    if subject.arch is Arch.X86_64:
        not_applicable(
            "on x86-64 memory of the kernel's keeps the memory type that it is mapped with elsewhere"
        )
    pages = subject.alloc_pages("order0", nr=1)
    uncached = witness.pages(subject.insert("remap_pfn_range", pages, pgprot="noncached").area)
    combined = witness.pages(subject.insert("remap_pfn_range", pages, pgprot="writecombine").area)
    assert uncached.memory_types == ("Device-nGnRnE",)
    assert combined.memory_types == ("Normal-NC",)


@claim(
    "remap.prot.3",
    "arch/x86/mm/pat/memtype.c",
    "For RAM pages, we use page flags to mark the pages with appropriate type.",
    reading="RAM is mapped with the type that it has elsewhere, whatever the call asks for.",
    sabotage=entry_bit("uncached", set=True),
)
def test_memory_keeps_its_type_on_x86(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.X86_64:
        not_applicable("only x86-64 keeps track of memory types (PAT)")
    pages = subject.alloc_pages("split", order=1)
    for pgprot in ("noncached", "writecombine"):
        whole = witness.pages(subject.insert("remap_pfn_range", pages, pgprot=pgprot).area)
        part = witness.pages(subject.insert("remap_pfn_range", pages, nr=1, map_pages=2, pgprot=pgprot).area)
        assert whole.memory_types == ("WB", "WB")
        assert part.memory_types == ("WB", "")


@claim(
    "remap.flags.1",
    "mm/memory.c",
    "Physically remapped pages are special. Tell the rest of the world about it: VM_IO [...] "
    "VM_PFNMAP [...] VM_DONTEXPAND [...] VM_DONTDUMP",
    sabotage=vm_flag("VM_PFNMAP"),
)
def test_the_vma_is_marked(subject: Subject, witness: Witness) -> None:
    inserted = subject.insert("remap_pfn_range", subject.alloc_pages("order0", nr=1), prot="rw", shared=True)
    flags = witness.vma(inserted.area).flags
    assert flags >= {"VM_IO", "VM_PFNMAP", "VM_DONTEXPAND", "VM_DONTDUMP"}
    assert "VM_MIXEDMAP" not in flags


@claim(
    "remap.flags.2",
    "arch/x86/mm/pat/memtype.c",
    "A vma that is remapped as a whole gets VM_PAT, a part of one does not.",
    code="track_pfn_remap()",
    sabotage=vm_flag("VM_PAT"),
    kernels="<6.16",
)
def test_x86_reserves_the_type_of_a_whole_vma(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.X86_64:
        not_applicable("only x86-64 keeps track of memory types (PAT)")
    pages = subject.alloc_pages("split", order=1)
    whole = subject.insert("remap_pfn_range", pages).area
    part = subject.insert("remap_pfn_range", pages, nr=1, map_pages=2).area
    assert "VM_PAT" in witness.vma(whole).flags
    assert "VM_PAT" not in witness.vma(part).flags


@claim(
    "remap.tables.1",
    PAGE,
    "@size: size of mapping area",
    reading="Over the end of a page table too, pfn by pfn; the tables are accounted.",
    sabotage=mm_counter("pgtables_bytes", +1, at=2),
)
def test_the_area_may_cross_page_tables(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("compound", order=3)
    start = subject.astride_tables(8)
    empty, before = witness.pages(subject.area(start, 8)), witness.mm(subject).pgtables_bytes
    area = subject.insert("remap_pfn_range", pages, fixed_at=start).area
    mapped = witness.pages(area)
    grown = len(mapped.tables - empty.tables)
    assert (mapped.pfns, mapped.special) == (pages.pfns, 1)
    assert grown >= 2
    assert witness.mm(subject).pgtables_bytes == before + grown * subject.page_size
    subject.munmap(area)
    assert witness.mm(subject).pgtables_bytes == before


@claim(
    "remap.part.1",
    PAGE,
    "@addr: target page aligned user address to start at",
    reading="In the middle of a shared mapping, whose rest stays empty.",
    sabotage=entry_bit("present", set=True, page=3),
)
def test_a_part_of_a_shared_mapping_may_be_remapped(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=1)
    inserted = subject.insert("remap_pfn_range", pages, map_pages=4, offset=subject.page_size)
    assert inserted.ret == 0
    assert witness.pages(inserted.area).pfns == (NO_PFN, *pages.pfns, NO_PFN)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        inserted.area[3].load()


@claim(
    "remap.cow.1",
    PAGE,
    "negative error code otherwise",
    reading="In a copy-on-write mapping only the whole vma can be remapped, a part is -EINVAL.",
    sabotage=entry_bit("present", set=True),
)
def test_a_part_of_a_private_mapping_is_einval(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=1)
    for offset in (0, subject.page_size):
        inserted = subject.insert(
            "remap_pfn_range", pages, nr=1, map_pages=2, offset=offset, keep=True, shared=False
        )
        assert inserted.errno == "EINVAL"
        assert witness.pages(inserted.area).pfns == NO_PFN
        assert not witness.vma(inserted.area).flags & {"VM_PFNMAP", "VM_IO", "VM_PAT"}


@claim(
    "remap.cow.2",
    "mm/memory.c",
    'We mark the "original" un-COW\'ed pages by matching them up with "vma->vm_pgoff".',
    reading="A private mapping's vm_pgoff is its first pfn.",
    sabotage=vm_pgoff(+1),
)
def test_a_private_mapping_keeps_its_first_pfn(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=1)
    area = subject.insert("remap_pfn_range", pages, shared=False).area
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.writable) == (pages.pfns, 1, 0)
    assert witness.vma(area).pgoff == pages.pfns[0]


@claim(
    "remap.align.1",
    PAGE,
    "@addr: target page aligned user address to start at",
    reading="Any other is -EINVAL, with a warning, and nothing is mapped.",
    sabotage=entry_bit("present", set=True),
    warns="remap_pfn_range",
    departs=departure(
        "marks the mapping as one of pfns before it looks at the address",
        cites="mm/memory.c, remap_pfn_range_prepare_vma(), since 6.19",
        shows="the mapping was marked",
        kernels=">=6.19",
    ),
)
def test_an_unaligned_address_is_einval(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    inserted = subject.insert("remap_pfn_range", pages, map_pages=2, offset=1, keep=True)
    assert inserted.errno == "EINVAL"
    assert witness.pages(inserted.area).pfns == NO_PFN
    assert "VM_PFNMAP" not in witness.vma(inserted.area).flags, "the mapping was marked"


@claim(
    "remap.refused.1",
    PAGE,
    "negative error code otherwise",
    reading="A call that is refused leaves the mapping as it was.",
    sabotage=entry_pfn(+1, at=2),
    departs=departure(
        "zaps the area that it was asked to remap, whatever had been mapped there",
        cites='79a61cc3fc04 ("mm: avoid leaving partial pfn mappings around in error case"), 6.11, 6.10.11, 6.6.52 '
        "and 6.1.111",
        shows="the area was zapped",
        kernels=ZAPS,
    ),
)
def test_a_refused_call_leaves_the_mapping(subject: Subject, witness: Witness) -> None:
    before, after = refused_over_an_inserted_page(subject, witness)
    assert after.pfns != (NO_PFN, NO_PFN, before.pfns[2]), "the area was zapped"
    assert after.pfns == before.pfns


@claim(
    "remap.refused.2",
    "mm/memory.c",
    "A partial pfn range mapping is dangerous [...] So zap it early.",
    reading="What was mapped in the range before is given back as well.",
    sabotage=refcount(+1, at=3, page=0),
    kernels=ZAPS,
)
def test_a_refused_call_zaps_its_area(subject: Subject, witness: Witness) -> None:
    before, after = refused_over_an_inserted_page(subject, witness)
    assert after.pfns == (NO_PFN, NO_PFN, before.pfns[2])
    assert witness.frames(before.pfns).refcounts == (1, 1, 2)


def refused_over_an_inserted_page(subject: Subject, witness: Witness):  # type: ignore[no-untyped-def]
    """Have two of three inserted pages of a private mapping remapped, which is refused; return it before and after."""
    area = subject.insert("vm_insert_page", subject.alloc_pages("order0", nr=3), shared=False).area
    pages = subject.alloc_pages("split", order=1)
    before = witness.pages(area)
    refused = subject.insert("remap_pfn_range", pages, when="now", at=area)
    assert refused.errno == "EINVAL"
    return before, witness.pages(area)
