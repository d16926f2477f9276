"""get_user_pages_remote and pin_user_pages_remote: another process's pages, in that process's tables."""

from __future__ import annotations

from hostwalk.claim import claim
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, mm_counter, refcount
from hostwalk.witness import NO_PFN, Witness

DOC = "get_user_pages_remote(9)"
PIN = "pin_user_pages_remote(9)"


@claim(
    "gup.remote.1", DOC,
    "get_user_pages_remote walks a process's page tables and takes a reference to each struct page",
    sabotage=entry_pfn(+1),
)  # fmt: skip
def test_remote_pages_are_those_of_the_other_process(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.fork() as child:
        child.store(area.start, stride=area.page_size, count=2)
        with subject.get_user_pages_remote(child, area) as pins:
            assert witness.pages(area, of=child).pfns == pins.pfns
            assert len(witness.pages(area).pfns.differing(pins.pfns)) == 2


@claim(
    "gup.remote.2",
    DOC,
    "mm: mm_struct of target mm",
    reading="Pages are faulted in over there, and only there.",
    sabotage=entry_bit("present", set=True, at=2),
)
def test_pages_are_faulted_in_over_there_only(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    with subject.fork() as child:
        before = witness.mm(child)
        with subject.get_user_pages_remote(child, area, write=True) as pins:
            there = witness.pages(area, of=child)
            assert there.pfns == pins.pfns
            assert there.refcounts == 2
            assert witness.pages(area).pfns == NO_PFN
            assert witness.mm(child).rss_anon == before.rss_anon + 3


@claim(
    "gup.remote.3",
    DOC,
    "mm: mm_struct of target mm",
    reading="For writing, copy-on-write is broken over there.",
    sabotage=entry_pfn(+1, at=2),
)
def test_a_remote_write_breaks_copy_on_write_over_there(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.fork() as child, subject.get_user_pages_remote(child, area, write=True) as pins:
        assert witness.pages(area).pfns == before.pfns
        there = witness.pages(area, of=child)
        assert there.pfns == pins.pfns
        assert len(there.pfns.differing(before.pfns)) == 2
        assert (there.writable, there.exclusive) == (1, 1)


@claim(
    "gup.remote.4",
    DOC,
    "If nr_pages is >0, but no pages were pinned, returns -errno.",
    reading="The rights are those of the other process's mapping.",
    sabotage=refcount(+1, at=2),
)
def test_the_other_process_has_rights_of_its_own(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.fork() as child:
        child.call("mprotect", area.start, area.length, subject.protection("r"))
        before = witness.pages(area, of=child)
        with subject.get_user_pages_remote(child, area, write=True) as pins:
            after = witness.pages(area, of=child)
            assert (pins.errno, pins.filled) == ("EFAULT", 0)
            assert after.refcounts == before.refcounts


@claim(
    "gup.remote.5", DOC, "Must be called with mmap_lock held for read or write.",
    sabotage=mm_counter("mmap_lock", +1),
)  # fmt: skip
def test_the_other_lock_is_free_again(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.fork() as child, subject.get_user_pages_remote(child, area, write=True) as pins:
        assert witness.mm(child).mmap_lock in (0, -1)
        assert pins.locked == 1
        assert witness.pages(area, of=child).pfns == pins.pfns


@claim(
    "pin.remote.1",
    PIN,
    "Nearly the same as get_user_pages_remote(), except that FOLL_PIN is set.",
    reading="A pin adds the bias.",
    sabotage=refcount(-1),
)
def test_a_remote_pin_adds_the_bias(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.fork() as child, subject.pin_user_pages_remote(child, area, write=True) as pins:
        held = witness.pages(area, of=child)
        assert held.pfns == pins.pfns
        assert held.refcounts == 1 + witness.layout["GUP_PIN_COUNTING_BIAS"]


@claim("pin.remote.2", PIN, "it will not have pins in it", sabotage=refcount(+1024, at=2))
def test_a_remote_pin_leaves_the_zero_page_alone(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").load()
    before = witness.pages(area)
    with subject.pin_user_pages_remote(subject, area) as pins:
        held = witness.pages(area)
        assert pins.pfns == (witness.zero_pfn,)
        assert held.refcounts == before.refcounts
