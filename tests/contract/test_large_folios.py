"""Large folios that page tables map: all their pages at once, and parts of them (contiguous entries on arm64)."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.guest import Area, Subject, SyscallFailed
from hostwalk.needs import huge_page, soft_dirty
from hostwalk.sabotage import entry_bit, entry_pfn, mapcount, page_flag, refcount
from hostwalk.target import Arch
from hostwalk.witness import NO_PFN, Pages, Witness

SIZE = 64 << 10
SWITCH = "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled"
KERNELS = ">=6.9"
COW = "Under Linux, fork() is implemented using copy-on-write pages."
RANGE = (
    "mprotect() changes the access protections for the calling process's memory pages containing any part of the "
    "address range in the interval [addr, addr+len-1]."
)
ARM64_CONT = 1 << 52


def large(subject: Subject, witness: Witness, byte: int = 1) -> tuple[Area, Pages]:
    """Return two large folios side by side that one store each has brought; ends the claim where none come."""
    pages = SIZE // subject.page_size
    with subject.agent.spawn() as root:
        try:
            fd = root.open(SWITCH, "O_WRONLY")
        except SyscallFailed:
            not_applicable("this kernel has no huge pages of 64 KiB")
            raise
        root.write(fd, b"madvise")
        root.close(fd)
    area = subject.mmap(pages=2 * pages, aligned=SIZE)
    subject.madvise(area, "HUGEPAGE")
    for first in (0, pages):
        area[first : first + 1].store(byte)
    seen = witness.pages(area)
    if seen.present != 1 or len(set(seen.heads)) != 2:
        not_applicable("the kernel gave no folio of 64 KiB")
    return area, seen


@claim(
    "folio.fault.1",
    "mm/memory.c",
    "A store maps all pages of a large folio: side by side, each with a reference and a map count, writable and dirty.",
    code="do_anonymous_page()",
    kernels=KERNELS,
    sabotage=refcount(+1),
)
def test_a_store_maps_a_large_folio(subject: Subject, witness: Witness) -> None:
    rss = witness.mm(subject).rss_anon
    area, pages = large(subject, witness)
    half = area.pages // 2
    for first in (0, half):
        folio = range(pages.pfns[first], pages.pfns[first] + half)
        assert list(pages.pfns[first : first + half]) == list(folio)
        assert pages.heads[first : first + half] == pages.pfns[first]
    assert (pages.refcounts, pages.mapcounts) == (half, 1)
    assert (pages.writable, pages.dirty, pages.exclusive) == (1, 1, 1)
    assert witness.mm(subject).rss_anon == rss + area.pages


@claim(
    "folio.cont.1",
    "arch/arm64/mm/contpte.c",
    "The entries of a folio of 16 aligned pages have the contiguous bit, until one of them is to differ: then none of "
    "that folio's has, and the others' stay.",
    code="contpte_try_unfold(), contpte_convert()",
    kernels=KERNELS,
    sabotage=entry_bit("present", set=False, at=1, page=3),
)
def test_contiguous_entries_are_unfolded_as_a_whole(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.ARM64:
        not_applicable("only arm64 has contiguous entries in page tables")
    if not witness.layout["CONFIG_ARM64_CONTPTE"]:
        not_applicable("this kernel has no CONFIG_ARM64_CONTPTE")
    area, before = large(subject, witness)
    half = area.pages // 2
    if half != witness.layout["CONT_PTES"]:
        not_applicable("64 KiB are no contiguous run of this page size")
    assert before.contiguous == [True] * area.pages
    subject.mprotect(area[5:6], "r")
    after = witness.pages(area)
    assert after.contiguous == [False] * half + [True] * half
    assert (after.pfns, after.writable) == (before.pfns, [page != 5 for page in range(area.pages)])
    assert (after.dirty, after.mapcounts, after.refcounts) == (1, 1, before.refcounts)


@claim(
    "folio.cont.2",
    "arch/arm64/mm/contpte.c",
    "What one of a run of contiguous entries has noted of stores and accesses is noted in all of them when the run "
    "ends.",
    code="contpte_convert(): pte_mkdirty(), pte_mkyoung()",
    kernels=KERNELS,
    sabotage=entry_bit("young", set=False, at=3, page=5),
)
def test_a_run_that_ends_forgets_nothing(subject: Subject, witness: Witness) -> None:
    if subject.arch is not Arch.ARM64 or not witness.layout["CONFIG_ARM64_CONTPTE"]:
        not_applicable("only arm64 has contiguous entries in page tables, with CONFIG_ARM64_CONTPTE")
    area, _ = large(subject, witness)
    half = area[: area.pages // 2]
    subject.madvise(area, "FREE")
    half[5:6].store()
    noted = witness.pages(half)
    if not all(noted.contiguous):
        not_applicable("64 KiB are no contiguous run of this page size")
    assert (noted.young[5], noted.dirty[5]) == (1, 1)
    subject.mprotect(half[9:10], "r")
    after = witness.pages(half)
    assert after.contiguous == [False] * half.pages
    assert (after.young, after.dirty, after.pfns) == (1, 1, noted.pfns)


@claim(
    "folio.mprotect.1",
    "mprotect(2)",
    RANGE,
    reading="From the middle of a large folio to the middle of the next: just these pages.",
    kernels=KERNELS,
    sabotage=entry_bit("writable", set=True, at=2, page=3),
)
def test_mprotect_of_parts_of_two_folios(subject: Subject, witness: Witness) -> None:
    area, before = large(subject, witness)
    half = area.pages // 2
    inside = range(max(1, half // 4 - 1), area.pages - max(1, half // 3))
    subject.mprotect(area[inside.start : inside.stop], "r")
    after = witness.pages(area)
    assert (after.pfns, after.writable) == (before.pfns, [page not in inside for page in range(area.pages)])
    assert (after.dirty, after.refcounts, after.mapcounts) == (before.dirty, before.refcounts, 1)
    subject.mprotect(area, "none")
    assert witness.pages(area).prot_none == 1
    subject.mprotect(area, "rw")
    again = witness.pages(area)
    assert (again.pfns, again.dirty, again.mapcounts) == (before.pfns, before.dirty, 1)
    for page in (2, half + 1):
        area[page : page + 1].store(7)
    assert witness.pages(area).pfns == before.pfns


@claim(
    "folio.fork.1",
    "fork(2)",
    COW,
    reading="A large folio: each page is shared and counted, and a write copies no other.",
    kernels=KERNELS,
    sabotage=mapcount(-1, at=2, page=7),
)
def test_a_large_folio_is_shared(subject: Subject, witness: Witness) -> None:
    area, before = large(subject, witness, byte=0x35)
    half = area.pages // 2
    with subject.fork() as child:
        ours, theirs = witness.pages(area), witness.pages(area, of=child)
        assert (ours.pfns, theirs.pfns) == (before.pfns, before.pfns)
        assert (ours.writable, theirs.writable, ours.exclusive) == (0, 0, 0)
        assert (ours.mapcounts, ours.refcounts) == (2, 2 * half)
        area[2:3].store(0x36)
        mine, childs = witness.pages(area), witness.pages(area, of=child)
        assert mine.pfns.differing(before.pfns) == (2,)
        assert (childs.pfns, childs.mapcounts[2], childs.mapcounts[3]) == (before.pfns, 1, 2)
        assert (mine.writable[2], mine.refcounts[2], childs.refcounts[2]) == (1, 1, 2 * half - 1)
    after = witness.frames(before.pfns)
    assert after.refcounts == [half - 1] * half + [half] * half


@claim(
    "folio.munmap.1",
    "munmap(2)",
    "All pages containing a part of the indicated range are unmapped",
    reading="From the middle of a large folio to the middle of the next: just these pages, each once.",
    kernels=KERNELS,
    sabotage=refcount(+1, at=2),
)
def test_munmap_of_parts_of_two_folios(subject: Subject, witness: Witness) -> None:
    area, before = large(subject, witness)
    half = area.pages // 2
    rss = witness.mm(subject).rss_anon
    subject.munmap(area[half - 2 : half + 3])
    frames = witness.frames(before.pfns)
    gone = [half - 2 <= page < half + 3 for page in range(area.pages)]
    assert frames.mapcounts == [not out for out in gone]
    assert frames.refcounts == [half - 2] * half + [half - 3] * half
    after = witness.pages(area)
    assert after.pfns == [NO_PFN if out else pfn for pfn, out in zip(before.pfns, gone, strict=True)]
    assert witness.mm(subject).rss_anon == rss - 5


@claim(
    "folio.gup.1",
    "__get_user_pages(9)",
    "takes a reference to each struct page that each user address corresponds to",
    reading="Pages of two large folios side by side: the references are on the heads, one for each page.",
    kernels=KERNELS,
    sabotage=entry_pfn(+1, at=2, page=3),
)
def test_get_user_pages_of_large_folios(subject: Subject, witness: Witness) -> None:
    area, before = large(subject, witness)
    half = area.pages // 2
    part = area[half - 3 : half + 2]
    for call in (subject.get_user_pages, subject.get_user_pages_fast):
        with call(part, write=True) as pins:
            held = witness.pages(part)
            assert held.pfns == pins.pfns
            assert held.refcounts == [half + 3] * 3 + [half + 2] * 2
    with subject.pin_user_pages(part, write=True) as pins:
        held = witness.pages(part)
        assert (held.pfns, held.pincounts) == (pins.pfns, (3, 3, 3, 2, 2))
    after = witness.pages(area)
    assert (after.refcounts, after.pincounts) == (before.refcounts, 0)


@claim(
    "folio.reuse.1",
    "mm/memory.c",
    "Of a large folio that one process alone maps, a page that was read-only for a while is written where it is.",
    code="do_wp_page(): PageAnonExclusive()",
    kernels=KERNELS,
    sabotage=entry_pfn(+1, at=2, page=6),
)
def test_an_exclusive_page_of_a_folio_is_written_in_place(subject: Subject, witness: Witness) -> None:
    area, before = large(subject, witness)
    subject.mprotect(area[6:7], "r")
    subject.mprotect(area[6:7], "rw")
    area.store(9)
    after = witness.pages(area)
    assert (after.pfns, after.refcounts, after.mapcounts) == (before.pfns, before.refcounts, 1)
    assert (after.writable, after.exclusive) == (1, 1)


@claim(
    "folio.mlock.1",
    "mlock(2)",
    "mlock() locks pages in the address range starting at addr and continuing for len bytes.",
    reading="A large folio that is locked as a whole is marked so, and no more when it is unlocked.",
    kernels=KERNELS,
    sabotage=page_flag("PG_mlocked", set=False, at=3),
)
def test_a_large_folio_is_locked(subject: Subject, witness: Witness) -> None:
    area, _ = large(subject, witness)
    half = area.pages // 2
    subject.mlock(area[:half])
    locked = witness.frames(witness.pages(area).heads)
    assert locked.flag("PG_mlocked") == [True] * half + [False] * half
    subject.munlock(area[:half])
    free = witness.frames(witness.pages(area).heads)
    assert (free.flag("PG_mlocked"), free.flag("PG_unevictable")) == (0, 0)
    assert witness.mm(subject).locked_vm == 0


@claim(
    "folio.mprotect.2",
    "mm/mprotect.c",
    "Of a large folio's pages those become writable again that are exclusive, and no others: each page is asked.",
    code="commit_anon_folio_batch()",
    kernels=">=6.15",
    sabotage=entry_bit("writable", set=True, at=4, page=2),
)
def test_only_exclusive_pages_of_a_folio_become_writable(subject: Subject, witness: Witness) -> None:
    area, before = large(subject, witness)
    half = area[: area.pages // 2]
    with subject.fork():
        pass
    own = [page for page in (3, 4, 8) if page < half.pages]
    for page in own:
        with subject.pin_user_pages(half[page : page + 1]):
            pass
    mixed = witness.pages(half)
    if mixed.pfns != before.pfns[: half.pages]:
        not_applicable("this kernel copies a page of a large folio rather than reuse it")
    exclusive = [page in own for page in range(half.pages)]
    assert (mixed.exclusive, mixed.writable) == (exclusive, 0)
    subject.mprotect(half, "r")
    assert witness.pages(half).writable == 0
    subject.mprotect(half, "rw")
    after = witness.pages(half)
    assert (after.pfns, after.writable) == (mixed.pfns, exclusive)


@claim(
    "folio.fork.2",
    "mm/memory.c",
    "Of a large folio too fork() copies page by page which ones were written: each is as soft-dirty as the parent's.",
    code="copy_present_ptes()",
    kernels=KERNELS,
    sabotage=entry_bit("soft_dirty", set=True, at=3, page=9),
)
def test_fork_copies_soft_dirty_page_by_page(subject: Subject, witness: Witness) -> None:
    soft_dirty(subject)
    area, _ = large(subject, witness)
    subject.clear_soft_dirty()
    for page in (2, 3, 7):
        area[page : page + 1].store()
    written = [page in (2, 3, 7) for page in range(area.pages)]
    assert witness.pages(area).soft_dirty == written
    with subject.fork() as child:
        assert witness.pages(area, of=child).soft_dirty == written
        assert witness.pages(area).soft_dirty == written


@claim(
    "folio.mremap.1",
    "mremap(2)",
    "mremap() expands (or shrinks) an existing memory mapping, potentially moving it at the same time.",
    reading="Pages of a huge page that page tables map, to where they no longer lie as they do in memory.",
    sabotage=entry_pfn(+1, at=3, page=40),
)
def test_pages_move_to_where_they_are_not_aligned(subject: Subject, witness: Witness) -> None:
    huge = huge_page(subject, witness)
    with subject.get_user_pages(huge[:1], split_pmd=True):
        pass
    area, room = huge[:64], subject.mmap(pages=128, prot="none", aligned=SIZE)
    before = witness.pages(area)
    moved = subject.mremap(area, area.pages, fixed_at=room.address(1))
    after = witness.pages(moved)
    assert (before.huge, after.pfns, after.writable) == (0, before.pfns, before.writable)
    assert (after.mapcounts, after.refcounts) == (before.mapcounts, before.refcounts)
    assert after.contiguous == [False] * area.pages


@claim(
    "folio.reuse.2",
    "mm/memory.c",
    "Of a large folio that fork() had shared, the page that is written becomes writable and exclusive where it is, and "
    "no other.",
    code="do_wp_page()",
    kernels=">=6.15",
    sabotage=entry_bit("writable", set=True, at=3, page=1),
)
def test_one_page_of_a_folio_is_taken_back(subject: Subject, witness: Witness) -> None:
    area, before = large(subject, witness)
    half = area[: area.pages // 2]
    with subject.fork():
        pass
    shared = witness.pages(half)
    assert (shared.writable, shared.exclusive, shared.mapcounts) == (0, 0, 1)
    half[2:3].store(9)
    after = witness.pages(half)
    if after.pfns != shared.pfns:
        not_applicable("this kernel copies a page of a large folio rather than reuse it")
    written = [page == 2 for page in range(half.pages)]
    assert (after.writable, after.exclusive) == (written, written)
    assert (after.dirty, after.contiguous) == (before.dirty[: half.pages], [False] * half.pages)


@claim(
    "folio.pinned.1",
    "include/linux/rmap.h",
    "If this folio may have been pinned by the parent process, don't allow to duplicate the mappings but instead "
    "require to e.g., copy the subpage immediately for the child so that we'll always guarantee the pinned folio "
    "won't be randomly replaced in the future on write faults.",
    reading="A large folio of which fork() had shared all pages, and one was taken back and pinned.",
    kernels=">=6.15",
    sabotage=entry_pfn(+1, at=4, page=2),
)
def test_the_pinned_page_of_a_shared_folio_stays(subject: Subject, witness: Witness) -> None:
    area, before = large(subject, witness, byte=0x35)
    half = area[: area.pages // 2]
    with subject.fork():
        pass
    with subject.pin_user_pages(half[2:3], write=True) as pins:
        if pins.pfns != before.pfns[2:3]:
            not_applicable("this kernel copies a page of a large folio rather than reuse it")
        with subject.fork() as child:
            ours, theirs = witness.pages(half), witness.pages(half, of=child)
            half[2:3].store(0x36)
            assert (ours.pfns, ours.exclusive[2], ours.exclusive[3]) == (before.pfns[: half.pages], 1, 0)
            assert theirs.pfns.differing(ours.pfns) == (2,)
            assert witness.pages(half).pfns == ours.pfns
            assert child.peek(half.address(2), 1) + child.peek(half.start, 1) == b"\0\x35"


@claim(
    "folio.free.1",
    "madvise(2)",
    "The application no longer requires the pages in the range specified by addr and len.",
    reading="MADV_FREE of a large folio, again after one page was written: no page is dirty, whichever it was.",
    kernels=KERNELS,
    sabotage=entry_bit("dirty", set=True, at=3, page=6),
)
def test_a_folio_is_clean_again(subject: Subject, witness: Witness) -> None:
    area, _ = large(subject, witness)
    subject.madvise(area, "FREE")
    area[5:6].store()
    subject.clear_young()
    assert witness.pages(area).dirty[5] == 1
    subject.madvise(area, "FREE")
    after = witness.pages(area)
    assert (after.present, after.dirty, after.young) == (1, 0, 0)
