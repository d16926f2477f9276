"""Pins and copy-on-write: fork, unsharing, the zero page, longterm reads."""

from __future__ import annotations

from hostwalk.claim import claim, not_applicable
from hostwalk.deadline import Deadline
from hostwalk.guest import Area, Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mm_flag, node_counter, refcount
from hostwalk.witness import Witness

PAGE = "pin_user_pages(9)"
RST = "core-api/pin_user_pages.rst"
GUP = "mm/gup.c"
MM = "include/linux/mm.h"
INTERNAL = "mm/internal.h"
ZERO = "Note that if a zero_page is amongst the returned pages, it will not have pins in it"
KSM = "/sys/kernel/mm/ksm"
KSM_SECONDS = 20.0


@claim(
    "pin.fork.1",
    MM,
    "This should most likely only be called during fork() to see whether we should break the cow "
    "immediately for an anon page on the src mm.",
    reading="fork() gives the child a copy of a pinned page at once; the parent keeps the page.",
    sabotage=entry_pfn(+1),
)
def test_fork_copies_a_pinned_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.pin_user_pages(area[:1], write=True) as pins, subject.fork() as child:
        parents, childs = witness.pages(area), witness.pages(area, of=child)
        assert parents.pfns[:1] == pins.pfns
        assert parents.writable == (1, 0)
        assert parents.exclusive == (1, 0)
        assert childs.pfns.differing(parents.pfns) == (0,)
        assert childs.exclusive == (1, 0)


@claim(
    "pin.fork.2",
    RST,
    "pin_user_pages() write to the data within the pages unpin_user_pages()",
    reading="The parent goes on writing to the page that is pinned, fork() or not.",
    sabotage=entry_pfn(+1),
)
def test_the_parent_goes_on_writing_to_the_pinned_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch(1)
    with subject.pin_user_pages(area, write=True) as pins, subject.fork() as child:
        area.store(2)
        assert witness.pages(area).pfns == pins.pfns
        assert child.peek(area.start, 1) == b"\x01"
        assert witness.contents(area)[:1] == b"\x02"


@claim(
    "pin.fork.3",
    MM,
    "see whether we should break the cow immediately for an anon page on the src mm.",
    reading="A page that is pinned for reading too.",
    sabotage=entry_pfn(+1),
)
def test_fork_copies_a_page_pinned_for_reading(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.pin_user_pages_fast(area) as pins, subject.fork() as child:
        assert witness.pages(area).pfns == pins.pfns
        childs = witness.pages(area, of=child)
        assert len(childs.pfns.differing(pins.pfns)) == 2


@claim(
    "pin.fork.4",
    MM,
    "see whether we should break the cow immediately for an anon page on the src mm.",
    reading="What was unpinned is shared again.",
    sabotage=entry_pfn(+1),
)
def test_fork_shares_what_was_unpinned(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.pin_user_pages(area, write=True):
        pass
    with subject.fork() as child:
        parents, childs = witness.pages(area), witness.pages(area, of=child)
        assert childs.pfns == parents.pfns
        assert (parents.exclusive, parents.mapcounts) == (0, 2)


@claim(
    "pin.mm.2",
    "include/linux/sched/coredump.h",
    "FOLL_PIN has run, never cleared",
    reading="MMF_HAS_PINNED stays when all is unpinned; a child has none.",
    sabotage=mm_flag("MMF_HAS_PINNED"),
)
def test_the_mark_stays_and_is_not_inherited(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    with subject.pin_user_pages(area, write=True):
        pass
    assert witness.mm(subject).has_flag("MMF_HAS_PINNED")
    with subject.fork() as child:
        assert not witness.mm(child).has_flag("MMF_HAS_PINNED")


@claim(
    "pin.mm.3",
    "include/linux/sched/coredump.h",
    "FOLL_PIN has run",
    reading="MMF_HAS_PINNED is not set by get_user_pages().",
    sabotage=mm_flag("MMF_HAS_PINNED"),
)
def test_get_user_pages_does_not_mark_the_mm(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    with subject.get_user_pages(area, write=True), subject.get_user_pages_fast(area):
        assert not witness.mm(subject).has_flag("MMF_HAS_PINNED")


@claim(
    "pin.mm.4",
    "include/linux/sched/coredump.h",
    "FOLL_PIN has run",
    reading="MMF_HAS_PINNED is set in the other mm by a remote pin.",
    sabotage=mm_flag("MMF_HAS_PINNED", at=2),
)
def test_a_remote_pin_marks_the_other_mm(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").touch()
    with subject.fork() as child, subject.pin_user_pages_remote(child, area, write=True):
        assert not witness.mm(subject).has_flag("MMF_HAS_PINNED")
        assert witness.mm(child).has_flag("MMF_HAS_PINNED")


@claim(
    "pin.unshare.1", INTERNAL, "GUP has to trigger unsharing via FAULT_FLAG_UNSHARE such that the GUP pin will remain "
    "consistent with the pages mapped into the page tables of the MM.",
    sabotage=entry_bit("writable", set=True, at=2),
)  # fmt: skip
def test_a_read_pin_unshares_what_fork_shared(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch(9)
    before = witness.pages(area)
    with subject.fork() as child, subject.pin_user_pages(area[:1]) as pins:
        mine = witness.pages(area)
        assert mine.pfns[:1] == pins.pfns
        assert mine.pfns.differing(before.pfns) == (0,)
        assert (mine.exclusive, mine.writable) == ((1, 0), 0)
        assert witness.pages(area, of=child).pfns == before.pfns
        assert witness.contents(area)[0] == 9


@claim(
    "pin.unshare.2",
    INTERNAL,
    "GUP has to trigger unsharing via FAULT_FLAG_UNSHARE",
    sabotage=entry_pfn(+1, at=2),
)
def test_the_fast_call_unshares_too(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.fork() as child, subject.pin_user_pages_fast(area) as pins:
        mine = witness.pages(area)
        assert mine.pfns == pins.pfns
        assert len(mine.pfns.differing(before.pfns)) == 2
        assert mine.exclusive == 1
        assert witness.pages(area, of=child).pfns == before.pfns


@claim(
    "pin.unshare.3", RST, "FOLL_GET is for struct page manipulation, without affecting the data that the struct page "
    "refers to.", sabotage=entry_pfn(+1, at=2),
)  # fmt: skip
def test_a_read_reference_shares_what_fork_shared(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.fork(), subject.get_user_pages(area) as got, subject.get_user_pages_fast(area) as fast:
        mine = witness.pages(area)
        assert mine.pfns == before.pfns
        assert mine.pfns == got.pfns
        assert mine.pfns == fast.pfns
        assert mine.exclusive == 0


@claim(
    "pin.zero.1",
    PAGE,
    ZERO,
    reading="The zero page's count stays.",
    sabotage=refcount(+1024, at=2),
    kernels=">=6.1",
)
def test_the_zero_page_is_not_counted(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").load()
    before = witness.pages(area)
    assert before.pfns == witness.zero_pfn
    for call in (subject.pin_user_pages, subject.pin_user_pages_fast, subject.pin_user_pages_unlocked):
        with call(area) as pins:
            held = witness.pages(area)
            assert pins.returned == 1
            assert held.pfns == pins.pfns
            assert held.pfns == witness.zero_pfn
            assert held.refcounts == before.refcounts
        assert witness.pages(area).refcounts == before.refcounts


@claim(
    "pin.zero.2",
    PAGE,
    ZERO,
    reading="It is no pin in the statistics either.",
    sabotage=node_counter("NR_FOLL_PIN_ACQUIRED", +1, at=2),
)
def test_the_zero_page_is_no_pin_in_the_statistics(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").load()
    before = witness.counters()
    with subject.pin_user_pages(area) as pins:
        held = witness.counters()
        assert witness.pages(area).pfns == pins.pfns
        assert held["NR_FOLL_PIN_ACQUIRED"] == before["NR_FOLL_PIN_ACQUIRED"]
    assert witness.counters()["NR_FOLL_PIN_RELEASED"] == before["NR_FOLL_PIN_RELEASED"]


@claim(
    "pin.zero.3",
    RST,
    "proceeds to pin pages by incrementing the refcount of each page by +1.",
    reading="FOLL_GET counts the zero page too.",
    sabotage=refcount(-1, at=2),
)
def test_a_reference_to_the_zero_page_is_counted(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").load()
    before = witness.pages(area)
    with subject.get_user_pages(area) as pins:
        held = witness.pages(area)
        assert pins.pfns == (witness.zero_pfn,) * 2
        assert held.refcounts == before.refcounts + 2
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "pin.longterm.1",
    INTERNAL,
    "we only care about writable private (COW) mappings where we have to break COW early.",
    reading="A long-term pin for reading replaces the zero page.",
    kernels=">=6.2",
    sabotage=entry_pfn(+1),
)
def test_a_longterm_read_replaces_the_zero_page(subject: Subject, witness: Witness) -> None:
    for call in (subject.pin_user_pages, subject.pin_user_pages_fast):
        area = subject.mmap(pages=2, prot="rw").load()
        with call(area, longterm=True) as pins:
            held = witness.pages(area)
            assert held.pfns == pins.pfns
            assert witness.zero_pfn not in held.pfns
            assert (held.anon, held.exclusive, held.writable) == (1, 1, 0)
            area.store(3)
            assert witness.pages(area).pfns == pins.pfns


@claim(
    "pin.longterm.2",
    INTERNAL,
    "we only care about writable private (COW) mappings where we have to break COW early.",
    reading="A long-term pin for reading leaves the page cache's page, and holds a copy.",
    kernels=">=6.2",
    sabotage=entry_pfn(+1, at=2),
)
def test_a_longterm_read_leaves_the_page_cache(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", fd=subject.memfd(2)).load()
    before = witness.pages(area)
    with subject.pin_user_pages(area, longterm=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert len(held.pfns.differing(before.pfns)) == 2
        assert (held.anon, held.exclusive, held.writable) == (1, 1, 0)


@claim(
    "pin.longterm.3", INTERNAL, "R/O short-term pinning does not have the semantics to observe successive changes "
    "through the process page tables.", sabotage=entry_pfn(+1, at=2),
)  # fmt: skip
def test_a_short_read_takes_the_page_cache(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", fd=subject.memfd(2)).load()
    before = witness.pages(area)
    with subject.pin_user_pages(area) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.pfns == before.pfns
        assert held.anon == 0


@claim(
    "pin.longterm.4",
    RST,
    "this is for pages that will be pinned longterm, and whose data will be accessed.",
    reading="FOLL_LONGTERM pins the pages of a shared file where they are.",
    sabotage=refcount(+1, at=2),
)
def test_a_longterm_pin_of_a_shared_file(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).touch()
    # The first such pin takes them out of CMA, where pages that can be moved may come from.
    subject.pin_user_pages(area, write=True, longterm=True).unpin()
    before = witness.pages(area)
    with subject.pin_user_pages(area, write=True, longterm=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.pfns == before.pfns
        assert held.refcounts == before.refcounts + witness.layout["GUP_PIN_COUNTING_BIAS"]


def merged(subject: Subject) -> Area:
    """Return two pages of equal content that KSM has made one; ends the claim where there is no KSM."""
    if subject.syscall("madvise", 0, 0, subject.agent.abi["MADV_MERGEABLE"]).errno is not None:
        not_applicable("this kernel has no KSM")
    area = subject.mmap(pages=2, prot="rw")
    subject.madvise(area, "MERGEABLE")
    area.store(0x5A)
    for name, value in (("pages_to_scan", b"1000"), ("sleep_millisecs", b"0"), ("run", b"1")):
        fd = subject.open(f"{KSM}/{name}", "O_WRONLY")
        subject.write(fd, value)
        subject.close(fd)
    deadline = Deadline.after(KSM_SECONDS)
    while int(subject.read_file(f"{KSM}/pages_sharing")) < 1:
        if deadline.expired:
            not_applicable("KSM merged nothing in time")
    fd = subject.open(f"{KSM}/run", "O_WRONLY")
    subject.write(fd, b"0")
    subject.close(fd)
    return area


@claim(
    "pin.ksm.1", INTERNAL, "Note that PageKsm() pages cannot be exclusive, and consequently, cannot get pinned.",
    sabotage=entry_pfn(+1, at=2),
)  # fmt: skip
def test_a_merged_page_is_unshared_before_a_pin(subject: Subject, witness: Witness) -> None:
    area = merged(subject)
    before = witness.pages(area)
    assert before.pfns[0] == before.pfns[1]
    with subject.pin_user_pages(area[:1]) as pins:
        held = witness.pages(area)
        assert held.pfns[:1] == pins.pfns
        assert held.pfns.differing(before.pfns) == (0,)
        assert held.exclusive == (1, 0)
