"""remap_pfn_range and vmf_insert_pfn: entries without a page behind them, as the kernel counts."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "remap_pfn_range(9)"


@claim(
    "remap.entry.1",
    PAGE,
    "Remap kernel memory to userspace: linear in pfn, and no struct page takes part.",
    sabotage=refcount(+1, at=2),
)
def test_entries_are_special_and_pages_uncounted(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=2)
    before, rss = witness.frames(pages.pfns), witness.mm(subject).rss_file
    area = subject.insert("remap_pfn_range", pages, prot="rw", shared=True).area
    mapped = witness.pages(area)
    assert mapped.pfns == range(pages.pfns[0], pages.pfns[0] + 4)
    assert mapped.special == 1
    assert (mapped.refcounts, mapped.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.mm(subject).rss_file == rss


@claim(
    "remap.flags.1",
    PAGE,
    "The vma becomes VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP.",
    sabotage=vm_flag("VM_PFNMAP"),
)
def test_the_vma_is_marked(subject: Subject, witness: Witness) -> None:
    inserted = subject.insert("remap_pfn_range", subject.alloc_pages("order0", nr=1), prot="rw", shared=True)
    assert witness.vma(inserted.area).flags >= {"VM_IO", "VM_PFNMAP", "VM_DONTEXPAND", "VM_DONTDUMP"}


@claim(
    "remap.cow.1",
    PAGE,
    "In a copy-on-write mapping only the whole vma can be remapped: -EINVAL otherwise.",
    sabotage=entry_bit("present", set=True),
)
def test_a_part_of_a_private_mapping_is_einval(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("split", order=1)
    inserted = subject.insert("remap_pfn_range", pages, nr=1, map_pages=2, keep=True, prot="rw", shared=False)
    assert inserted.errno == "EINVAL"
    assert witness.pages(inserted.area).pfns == NO_PFN


@claim(
    "remap.munmap.1",
    PAGE,
    "munmap removes the entries and frees no page.",
    sabotage=entry_pfn(+1, at=1),
)
def test_munmap_frees_no_page(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert("remap_pfn_range", pages, prot="rw", shared=True).area
    assert witness.pages(area).pfns == pages.pfns
    subject.munmap(area)
    assert witness.pages(area).pfns == NO_PFN
    assert witness.frames(pages.pfns).refcounts == 1


@claim(
    "insert_pfn.fault.1",
    "vmf_insert_pfn(9)",
    "From a fault handler: the entry is special and no page is counted.",
    sabotage=entry_bit("special", set=False),
)
def test_insert_pfn_in_a_fault(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    before = witness.frames(pages.pfns)
    inserted = subject.insert("vmf_insert_pfn", pages, when="fault", pfnmap=True, prot="rw", shared=True)
    inserted.area.load()
    mapped = witness.pages(inserted.area)
    assert mapped.pfns == pages.pfns
    assert mapped.special == 1
    assert mapped.refcounts == before.refcounts
