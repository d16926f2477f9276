"""vmf_insert_pfn, vmf_insert_pfn_prot and vmf_insert_mixed: page frames that a fault handler puts in."""

from __future__ import annotations

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit, entry_pfn, refcount
from hostwalk.target import Arch
from hostwalk.witness import NO_PFN, Witness

PFN = "vmf_insert_pfn(9)"
PROT = "vmf_insert_pfn_prot(9)"
MIXED = "vmf_insert_mixed(9)"


@claim(
    "insert_pfn.fault.1",
    PFN,
    "This function should only be called from a vm_ops->fault handler",
    reading="It makes an entry, and no page is counted.",
    sabotage=entry_bit("special", set=False, at=2),
)
def test_insert_pfn_in_a_fault(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    before, rss = witness.frames(pages.pfns), witness.mm(subject).rss_file
    area = subject.insert("vmf_insert_pfn", pages, when="fault", pfnmap=True).area
    assert witness.pages(area).pfns == NO_PFN
    area.load()
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.writable) == (pages.pfns, 1, 1)
    assert (mapped.refcounts, mapped.mapcounts) == (before.refcounts, before.mapcounts)
    assert witness.mm(subject).rss_file == rss


@claim(
    "insert_pfn.return.1",
    PFN,
    "in that case the handler should return the result of this function.",
    reading="VM_FAULT_NOPAGE, and the access goes on.",
    sabotage=entry_bit("dirty", set=False),
)
def test_the_access_goes_on(subject: Subject, witness: Witness) -> None:
    area = subject.insert(
        "vmf_insert_pfn", subject.alloc_pages("order0", nr=2), when="fault", pfnmap=True
    ).area.store(8)
    result = subject.insert_result()
    assert (result.runs, result.ret, result.num) == (1, subject.layout("VM_FAULT_NOPAGE"), 0)
    assert witness.pages(area).dirty == 1
    assert witness.contents(area[1])[0] == 8


@claim(
    "insert_pfn.busy.1",
    PFN,
    "As this is called only for pages that do not currently exist",
    reading="An entry that exists is left alone.",
    sabotage=entry_pfn(+1, at=2),
)
def test_an_entry_that_exists_is_left_alone(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vmf_insert_pfn", pages, map_pages=3, when="fault", pfnmap=True).area
    area[0].store()
    before = witness.pages(area)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        area[2].load()
    result = subject.insert_result()
    assert (result.runs, result.ret) == (2, subject.layout("VM_FAULT_NOPAGE"))
    assert witness.pages(area).entries == before.entries


@claim(
    "insert_pfn.range.1",
    PFN,
    "@addr: target user address of this page",
    reading="VM_FAULT_SIGBUS if it is not in the vma.",
    sabotage=entry_bit("present", set=True),
)
def test_an_address_outside_is_sigbus(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    for call, flags in (("vmf_insert_pfn", {"pfnmap": True}), ("vmf_insert_mixed", {"mixedmap": True})):
        for offset in (-subject.page_size, 2 * subject.page_size):
            area = subject.insert(call, pages, map_pages=2, when="fault", offset=offset, **flags).area
            with subject.faults("SIGBUS", "BUS_ADRERR"):
                area[0].load()
            assert subject.insert_result().ret == subject.layout("VM_FAULT_SIGBUS")
            assert witness.pages(area).pfns == NO_PFN


@claim(
    "insert_pfn.prot.1",
    PFN,
    "Similar to vm_insert_page [...] Same comments apply.",
    reading="The protection is the vma's. A read-only one cannot be written.",
    sabotage=entry_bit("writable", set=True),
)
def test_a_read_only_vma_gives_read_only_entries(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert("vmf_insert_pfn", pages, when="fault", pfnmap=True, prot="r").area.load()
    assert witness.pages(area).writable == 0
    with subject.faults("SIGSEGV", "SEGV_ACCERR"):
        area.store()


@claim(
    "insert_pfn.prot.2",
    PROT,
    "This is exactly like vmf_insert_pfn(), except that it allows drivers to override pgprot on a per-page basis.",
    sabotage=entry_bit("writable", set=True),
)
def test_the_protection_may_be_another(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert(
        "vmf_insert_pfn_prot", pages, when="fault", pfnmap=True, pgprot="readonly"
    ).area.load()
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.writable, mapped.special) == (pages.pfns, 0, 1)
    assert (mapped.refcounts, mapped.mapcounts) == (1, 0)


@claim(
    "insert_pfn.prot.3",
    PROT,
    "pgprot typically only differs from @vma->vm_page_prot when drivers set caching- and encryption bits different "
    "than those of @vma->vm_page_prot",
    sabotage=entry_bit("uncached", set=False),
)
def test_the_memory_type_may_be_another(subject: Subject, witness: Witness) -> None:
    if subject.arch is Arch.X86_64:
        not_applicable(
            "on x86-64 memory of the kernel's keeps the memory type that it is mapped with elsewhere"
        )
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert("vmf_insert_pfn_prot", pages, when="fault", pfnmap=True, pgprot="noncached").area
    area.load()
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.memory_types) == (pages.pfns, ("Device-nGnRnE",))


@claim(
    "insert_pfn.prot.4",
    PROT,
    "This is ensured by core vm only modifying these page table entries using functions that don't touch caching- or "
    "encryption bits, using pte_modify() if needed. (See for example mprotect()).",
    sabotage=entry_bit("uncached", set=False),
    departs=departure(
        "loses the memory type in mprotect() on arm64: pte_modify() takes it from vma->vm_page_prot",
        cites="PTE_ATTRINDX_MASK in pte_modify(), arch/arm64/include/asm/pgtable.h of 6.1, 6.12 and 7.3",
        shows="Normal.*Device-nGnRnE",
        kernels=">=6.1",
    ),
)
def test_mprotect_keeps_the_memory_type(subject: Subject, witness: Witness) -> None:
    if subject.arch is Arch.X86_64:
        not_applicable(
            "on x86-64 memory of the kernel's keeps the memory type that it is mapped with elsewhere"
        )
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert("vmf_insert_pfn_prot", pages, when="fault", pfnmap=True, pgprot="noncached").area
    area.load()
    subject.mprotect(area, "r")
    assert witness.pages(area).memory_types == ("Device-nGnRnE",)


@claim(
    "insert_pfn.prot.5",
    "arch/arm64/include/asm/pgtable.h",
    "pte_modify() takes the memory type from the new protection; a tagged one is a type too.",
    code="pte_modify()",
    sabotage=entry_bit("uncached", set=True, at=2),
)
def test_mprotect_sets_the_memory_type_of_the_vma(subject: Subject, witness: Witness) -> None:
    if subject.arch is Arch.X86_64:
        not_applicable(
            "on x86-64 memory of the kernel's keeps the memory type that it is mapped with elsewhere"
        )
    pages = subject.alloc_pages("order0", nr=1)
    area = subject.insert("vmf_insert_pfn_prot", pages, when="fault", pfnmap=True, pgprot="noncached").area
    area.load()
    assert witness.pages(area).memory_types == ("Device-nGnRnE",)
    subject.mprotect(area, "r")
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.memory_types) == (pages.pfns, 1, ("Normal",))


@claim(
    "insert_pfn.fork.1",
    PFN,
    "insert single pfn into user vma",
    reading="A pfn without a page: fork and munmap count nothing, the child has the entries at once.",
    sabotage=refcount(+1, at=1),
)
def test_fork_and_munmap_count_nothing(subject: Subject, witness: Witness) -> None:
    pages = subject.alloc_pages("order0", nr=2)
    area = subject.insert("vmf_insert_pfn", pages, when="fault", pfnmap=True).area.load()
    with subject.fork() as child:
        copied = witness.pages(area, of=child)
        assert (copied.pfns, copied.special, copied.refcounts) == (pages.pfns, 1, 1)
        child.munmap((area.start, area.length))
    subject.munmap(area)
    after = witness.frames(pages.pfns)
    assert (after.refcounts, after.mapcounts) == (1, 0)


@claim(
    "insert_pfn.gup.1",
    "mm/gup.c",
    "A mapping of page frames has no pages to hold: get_user_pages() is -EFAULT, and makes no entry.",
    code="check_vma_flags()",
    sabotage=entry_bit("present", set=True),
)
def test_get_user_pages_refuses(subject: Subject, witness: Witness) -> None:
    area = subject.insert(
        "vmf_insert_pfn", subject.alloc_pages("order0", nr=1), when="fault", pfnmap=True
    ).area
    with subject.refuses("EFAULT"):
        subject.get_user_pages(area)
    assert witness.pages(area).pfns == NO_PFN


def mixed(subject: Subject, kind: str = "order0", **options: bool) -> tuple[tuple[int, ...], Area]:
    """Map two pages by vmf_insert_mixed; return their page frames and the mapping, not yet filled."""
    pages = subject.alloc_pages(kind, nr=2)
    return pages.pfns, subject.insert("vmf_insert_mixed", pages, when="fault", **options).area


@claim(
    "insert_mixed.entry.1",
    "mm/memory.c",
    "If we don't have pte special, then we have to use the pfn_valid() based VM_MIXEDMAP scheme [...] "
    "and thus we *must* refcount the page",
    reading="Here is pte special, so the entry is special and uncounted.",
    sabotage=entry_bit("special", set=False),
)
def test_insert_mixed_counts_no_page(subject: Subject, witness: Witness) -> None:
    pfns, area = mixed(subject, mixedmap=True)
    rss = witness.mm(subject).rss_file
    area.load()
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.writable) == (pfns, 1, 1)
    assert (mapped.refcounts, mapped.mapcounts) == (1, 0)
    assert witness.mm(subject).rss_file == rss


@claim(
    "insert_mixed.cow.1",
    "mmap(2)",
    "MAP_PRIVATE Create a private copy-on-write mapping.",
    reading="A store copies what a mixed map shows, and leaves it.",
    sabotage=refcount(+1, at=2, page=0),
)
def test_a_store_to_a_private_mixed_map_copies(subject: Subject, witness: Witness) -> None:
    pfns, area = mixed(subject, mixedmap=True, shared=False)
    area.load()
    before = witness.pages(area)
    assert (before.pfns, before.special, before.writable) == (pfns, 1, 0)
    area[0].store(4)
    assert witness.frames(pfns).refcounts == 1
    after = witness.pages(area)
    assert (after.anon, after.special, after.pfns[1]) == ((1, 0), (0, 1), pfns[1])


@claim(
    "insert_mixed.misuse.1",
    "mm/memory.c",
    "these checks mirror the abort conditions in vm_normal_page",
    reading="Without VM_MIXEDMAP it is VM_FAULT_SIGBUS.",
    sabotage=entry_bit("present", set=True),
    kernels=">=6.11",
)
def test_insert_mixed_without_a_mixed_map_is_sigbus(subject: Subject, witness: Witness) -> None:
    _, area = mixed(subject)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        area.load()
    assert subject.insert_result().ret == subject.layout("VM_FAULT_SIGBUS")
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "insert_mixed.zero.1",
    "mm/memory.c",
    "Mappings that do not allow for writable PTEs are unproblematic.",
    reading="The zero page is VM_FAULT_SIGBUS where a user could write to it.",
    sabotage=entry_bit("present", set=True),
    kernels=">=6.11",
)
def test_the_zero_page_is_refused_where_it_could_be_written(subject: Subject, witness: Witness) -> None:
    _, area = mixed(subject, "zero", mixedmap=True)
    with subject.faults("SIGBUS", "BUS_ADRERR"):
        area.load()
    assert witness.pages(area).pfns == NO_PFN


@claim(
    "insert_mixed.zero.2",
    "mm/memory.c",
    "zeropages in COW mappings are common and unproblematic.",
    reading="The zero page may be in a private mixed map: special, never writable, not counted.",
    sabotage=entry_bit("writable", set=True),
)
def test_the_zero_page_may_be_in_a_private_mapping(subject: Subject, witness: Witness) -> None:
    pfns, area = mixed(subject, "zero", mixedmap=True, shared=False)
    before = witness.frames(pfns)
    area.load()
    mapped = witness.pages(area)
    assert (mapped.pfns, mapped.special, mapped.writable) == (witness.zero_pfn, 1, 0)
    assert (mapped.refcounts, mapped.mapcounts) == (before.refcounts, before.mapcounts)
    area[1].store(2)
    assert witness.pages(area).anon == (0, 1)
