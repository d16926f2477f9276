"""Where a range starts and what it crosses: offsets, tags, tables, mappings, the ends of the address space."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from hostwalk.claim import claim, departure, not_applicable
from hostwalk.guest import Area, Subject
from hostwalk.guest.gup import Pins
from hostwalk.sabotage import entry_bit, entry_pfn, refcount
from hostwalk.target import Arch, Target
from hostwalk.witness import Witness

OLD_PAGE = "__get_user_pages(9)"
DOC = "get_user_pages_remote(9)"
FAST = "get_user_pages_fast(9)"
GUP = "mm/gup.c"
INSTANT = "takes the page that would be accessed if a user thread accesses the given user virtual address"
TAG = 0x5A << 56
TOP = 1 << 64

Call = Callable[..., Pins]


def calls(subject: Subject) -> tuple[Call, ...]:
    """Return the calls that every claim about ranges is made of."""
    return subject.get_user_pages, subject.get_user_pages_fast, subject.get_user_pages_unlocked


@claim(
    "gup.start.1",
    DOC,
    "start: starting user address",
    reading="Any address within a page means the page.",
    sabotage=entry_pfn(+1),
)
def test_any_address_within_a_page_means_the_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    mapped = witness.pages(area)
    for call, offset in product(calls(subject), (1, 8, area.page_size // 2 + 3, area.page_size - 1)):
        with call(area.address(0, offset), 2) as pins:
            assert pins.returned == 2
            assert mapped.pfns[:2] == pins.pfns


@claim("gup.tag.1", GUP, "start = untagged_addr_remote(mm, start);", sabotage=refcount(-1, at=2))
def test_a_tagged_address_means_the_same_page(subject: Subject, witness: Witness, target: Target) -> None:
    if target.arch is not Arch.ARM64:
        not_applicable("this kernel has no address tags for user space: CONFIG_ADDRESS_MASKING is off")
    area = subject.mmap(pages=2, prot="rw").touch()
    for call in calls(subject):
        before = witness.pages(area)
        with call(area.start | TAG, 2) as pins:
            held = witness.pages(area)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 1


def across_tables(subject: Subject, witness: Witness, shift: str) -> Area:
    """Return four touched pages, two on each side of a boundary between tables of a level."""
    layout = witness.layout
    spot = subject.mmap(pages=1, prot="none", aligned=1 << layout[shift])
    subject.munmap(spot)
    area = subject.mmap(pages=4, prot="rw", fixed_at=spot.start - 2 * spot.page_size)
    subject.madvise(area, "NOHUGEPAGE")
    return area.touch()


@claim(
    "gup.table.1",
    OLD_PAGE,
    INSTANT,
    reading="A range over the end of a page table.",
    sabotage=refcount(-1, at=2, page=2),
)
def test_a_range_across_page_tables(subject: Subject, witness: Witness) -> None:
    for call, shift in product(calls(subject), ("PMD_SHIFT", "PUD_SHIFT")):
        area = across_tables(subject, witness, shift)
        before = witness.pages(area)
        assert len({record.entry_phys // area.page_size for record in before.records}) == 2
        with call(area, write=True) as pins:
            held = witness.pages(area)
            assert pins.returned == 4
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 1
        assert witness.pages(area).refcounts == before.refcounts
        subject.munmap(area)


@claim(
    "gup.table.2",
    OLD_PAGE,
    "This may be fewer than the number requested.",
    reading="A hole behind the last entry of a page table.",
    sabotage=refcount(-1, at=2),
)
def test_a_hole_behind_the_last_entry_of_a_table(subject: Subject, witness: Witness) -> None:
    area = across_tables(subject, witness, "PMD_SHIFT")
    subject.munmap(area[2:])
    before = witness.pages(area[:2])
    for call in calls(subject):
        with call(area) as pins:
            held = witness.pages(area[:2])
            assert (pins.returned, pins.filled) == (2, 2)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 1
        assert witness.pages(area[:2]).refcounts == before.refcounts


@claim(
    "gup.vmas.1",
    OLD_PAGE,
    INSTANT,
    reading="A range over several mappings.",
    sabotage=entry_pfn(+1),
)
def test_a_range_across_mappings(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=6, prot="rw").touch()
    subject.mprotect(area[2:4], "r")
    subject.mmap(
        pages=2, prot="rw", shared=True, fd=subject.memfd(2), fixed_at=area[4].start, replace=True
    ).touch()
    for call in calls(subject):
        with call(area) as pins:
            held = witness.pages(area)
            assert pins.returned == 6
            assert held.pfns == pins.pfns
            assert held.anon == (1, 1, 1, 1, 0, 0)


@claim(
    "gup.vmas.2",
    OLD_PAGE,
    "This may be fewer than the number requested.",
    reading="A mapping without the right ends the walk.",
    sabotage=refcount(+1, at=2, page=2),
)
def test_a_mapping_without_the_right_ends_the_walk(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=5, prot="rw").touch()
    subject.mprotect(area[2:3], "r")
    before = witness.pages(area)
    for call in calls(subject):
        with call(area, write=True) as pins:
            held = witness.pages(area)
            assert (pins.returned, pins.filled) == (2, 2)
            assert held.refcounts == before.refcounts + (1, 1, 0, 0, 0)
        assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.mixed.1",
    OLD_PAGE,
    INSTANT,
    reading="A range that is faulted in in part.",
    sabotage=entry_pfn(+1),
)
def test_a_range_partly_faulted_in(subject: Subject, witness: Witness) -> None:
    for call in calls(subject):
        area = subject.mmap(pages=6, prot="rw")
        for page in (0, 2, 5):
            area[page].touch(page + 1)
        area[3].load()
        before = witness.pages(area)
        with call(area, write=True) as pins:
            held = witness.pages(area)
            assert pins.returned == 6
            assert held.pfns == pins.pfns
            assert before.pfns.differing(held.pfns) == (1, 3, 4)
            assert (held.writable, held.exclusive) == (1, 1)


def last_page(subject: Subject, witness: Witness) -> Area:
    """Return the last page of user space, the stack's or a new one, with what was there in it."""
    with witness.moment() as moment:
        mm = moment.mm(subject.pid)
        area = subject.area(mm.get("task_size") - subject.page_size, 1)
        taken = mm.vma(area.start) is not None
    if not taken:
        subject.mmap(pages=1, prot="rw", fixed_at=area.start).touch()
    return area.load()


@claim(
    "gup.top.1",
    OLD_PAGE,
    INSTANT,
    reading="The last page of user space.",
    sabotage=refcount(-1, at=2),
)
def test_the_last_page_of_user_space(subject: Subject, witness: Witness) -> None:
    area = last_page(subject, witness)
    before = witness.pages(area)
    for call in calls(subject):
        with call(area) as pins:
            held = witness.pages(area)
            assert held.pfns == pins.pfns
            assert held.refcounts == before.refcounts + 1


@claim(
    "gup.top.2",
    OLD_PAGE,
    "This may be fewer than the number requested.",
    reading="The end of user space ends the walk.",
    sabotage=refcount(-1, at=2),
)
def test_user_space_ends_the_walk(subject: Subject, witness: Witness) -> None:
    area = last_page(subject, witness)
    before = witness.pages(area)
    with subject.get_user_pages(area, 3) as pins:
        held = witness.pages(area)
        assert (pins.returned, pins.filled) == (1, 1)
        assert held.refcounts == before.refcounts + 1


@claim("fast.top.1", GUP, "if (end > TASK_SIZE_MAX) return -EFAULT;", sabotage=refcount(+1, at=2))
def test_the_fast_call_refuses_a_range_beyond_user_space(subject: Subject, witness: Witness) -> None:
    area = last_page(subject, witness)
    if witness.layout.has("VA_BITS") and area.end < 1 << witness.layout["VA_BITS"]:
        not_applicable(
            "TASK_SIZE_MAX is beyond what this processor translates: the kernel was built for more bits"
        )
    before = witness.pages(area)
    with subject.get_user_pages_fast(area, 3) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.refcounts == before.refcounts


@claim(
    "gup.kernel.1",
    DOC,
    "start: starting user address",
    reading="A kernel address is -EFAULT.",
    sabotage=refcount(+1, at=2),
)
def test_a_kernel_address_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    before = witness.pages(area)
    with witness.moment() as moment:
        kernel = moment.mm(subject.pid).address & -area.page_size
    for call in calls(subject):
        with call(kernel, 1) as pins:
            assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(area).refcounts == before.refcounts


@claim(
    "fast.overflow.1",
    FAST,
    "If no pages were pinned, returns -errno.",
    reading="A range that overflows.",
    sabotage=refcount(+1, at=2),
    departs=departure(
        "a range that runs over the end of all addresses returns 0",
        cites="mm/gup.c, internal_get_user_pages_fast(): if (check_add_overflow(start, len, &end)) return 0",
        shows="a range that overflows returned 0",
        kernels="<6.12",
    ),
)
def test_a_range_that_overflows(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages_fast(TOP - area.page_size, 2) as pins:
        assert witness.pages(area).refcounts == before.refcounts
        assert pins.errno in ("EOVERFLOW", "EFAULT"), f"a range that overflows returned {pins.returned}"


@claim(
    "fast.negative.1",
    FAST,
    "If nr_pages is 0 or negative, returns 0.",
    reading="nr_pages -1.",
    sabotage=refcount(+1, at=2),
    departs=departure(
        "a negative nr_pages becomes a huge length, which overflows: -EOVERFLOW",
        cites="mm/gup.c, gup_fast_fallback(): if (check_add_overflow(start, len, &end)) return -EOVERFLOW",
        shows="nr_pages -1 is EOVERFLOW",
        kernels=">=6.2",
    ),
)
def test_a_negative_number_of_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages_fast(area, -1) as pins:
        after = witness.pages(area)
        assert after.refcounts == before.refcounts
        assert pins.errno is None, f"nr_pages -1 is {pins.errno}"
        assert pins.returned == 0


@claim(
    "fast.negative.2", GUP, "if (check_add_overflow(start, len, &end)) return -EOVERFLOW;", kernels=">=6.12",
    sabotage=entry_bit("dirty", set=False, at=2),
)  # fmt: skip
def test_a_negative_number_of_pages_overflows(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for call in (subject.get_user_pages_fast, subject.pin_user_pages_fast, subject.get_user_pages_fast_only):
        with call(area, -1) as pins:
            assert (pins.errno, pins.filled) == ("EOVERFLOW", 0)
    after = witness.pages(area)
    assert after.refcounts == before.refcounts
    assert after.entries == before.entries
