"""vm_iomap_memory: a range of physical memory over a vma, as far as the vma asks for it."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Pages, Subject
from hostwalk.sabotage import entry_bit, entry_pfn, refcount, vm_flag
from hostwalk.target import Arch
from hostwalk.witness import NO_PFN, Witness

PAGE = "vm_iomap_memory(9)"
REST = "The driver just needs to give us the physical memory range to be mapped, we'll figure out the rest from the vma"


def block(subject: Subject) -> Pages:
    """Allocate four pages in a row."""
    return subject.alloc_pages("split", order=2)


@claim("iomap.order.1", PAGE, REST, sabotage=entry_pfn(+1, at=2))
def test_the_mapping_starts_at_vm_pgoff(subject: Subject, witness: Witness) -> None:
    pages = block(subject)
    for pgoff, size in ((0, 4), (2, 2), (1, 2), (3, 1)):
        area = subject.insert("vm_iomap_memory", pages, map_pages=size, pgoff=pgoff).area
        mapped = witness.pages(area)
        assert mapped.pfns == pages.pfns[pgoff : pgoff + size]
        assert (mapped.special, mapped.refcounts, mapped.mapcounts) == (1, 1, 0)


@claim(
    "iomap.flags.1",
    PAGE,
    "This is a simplified io_remap_pfn_range() for common driver use.",
    reading="The vma is marked as remap_pfn_range() marks it.",
    sabotage=vm_flag("VM_IO"),
)
def test_the_vma_is_marked(subject: Subject, witness: Witness) -> None:
    area = subject.insert("vm_iomap_memory", block(subject)).area
    assert witness.vma(area).flags >= {"VM_IO", "VM_PFNMAP", "VM_DONTEXPAND", "VM_DONTDUMP"}


@claim(
    "iomap.range.1",
    "mm/memory.c",
    "Can we fit all of the mapping?",
    reading="-EINVAL, nothing mapped, if the vma asks for more than is left from vm_pgoff on.",
    sabotage=entry_bit("present", set=True),
)
def test_a_vma_that_is_too_large_is_einval(subject: Subject, witness: Witness) -> None:
    pages = block(subject)
    for pgoff, size in ((0, 5), (1, 4), (4, 1), (5, 1), (1 << 40, 1)):
        inserted = subject.insert("vm_iomap_memory", pages, map_pages=size, pgoff=pgoff, keep=True)
        assert inserted.errno == "EINVAL"
        assert witness.pages(inserted.area).pfns == NO_PFN
        assert "VM_PFNMAP" not in witness.vma(inserted.area).flags


@claim(
    "iomap.range.2",
    "mm/memory.c",
    "Check that the physical memory area passed in looks valid",
    reading="-EINVAL if it wraps around, nothing mapped.",
    sabotage=entry_bit("present", set=True),
)
def test_an_area_that_wraps_is_einval(subject: Subject, witness: Witness) -> None:
    pages, size = block(subject), subject.page_size
    last_page = -(pages.pfns[0] + 1) * size
    inserted = subject.insert("vm_iomap_memory", pages, nr=2, offset=last_page, map_pages=1, keep=True)
    assert inserted.errno == "EINVAL"
    assert witness.pages(inserted.area).pfns == NO_PFN


@claim(
    "iomap.align.1",
    "mm/memory.c",
    "You *really* shouldn't map things that aren't page-aligned, but we've historically allowed it",
    reading="A start within a page maps that page.",
    sabotage=entry_pfn(+1),
)
def test_a_start_within_a_page_maps_that_page(subject: Subject, witness: Witness) -> None:
    pages = block(subject)
    area = subject.insert("vm_iomap_memory", pages, nr=3, offset=subject.page_size // 2, map_pages=3).area
    assert witness.pages(area).pfns == pages.pfns[:3]


@claim(
    "iomap.prot.1",
    PAGE,
    "Some drivers might want to tweak vma->vm_page_prot first to get whatever write-combining details or similar.",
    sabotage=entry_bit("uncached", set=True),
)
def test_the_memory_type_is_the_vmas(subject: Subject, witness: Witness) -> None:
    if subject.arch is Arch.X86_64:
        not_applicable(
            "on x86-64 memory of the kernel's keeps the memory type that it is mapped with elsewhere"
        )
    area = subject.insert("vm_iomap_memory", block(subject), pgprot="writecombine").area
    assert set(witness.pages(area).memory_types) == {"Normal-NC"}


@claim(
    "iomap.private.1",
    PAGE,
    "we'll figure out the rest from the vma information.",
    reading="A private mapping is copied when it is written.",
    sabotage=refcount(+1, at=2),
)
def test_a_private_mapping_is_copied(subject: Subject, witness: Witness) -> None:
    pages = block(subject)
    area = subject.insert("vm_iomap_memory", pages, shared=False, map_pages=2, pgoff=1).area
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.writable) == (pages.pfns[1:3], 1, 0)
    area[1].store(1)
    assert witness.frames(pages.pfns).refcounts == 1
    assert witness.pages(area).anon == (0, 1)
