"""The gup flags: each one's effect, and the combinations that every call refuses."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, page_flag, refcount
from hostwalk.witness import NO_PFN, Witness

FLAGS = "include/linux/mm_types.h"
GUP = "mm/gup.c"
DOC = "get_user_pages_remote(9)"
FAST = "get_user_pages_fast(9)"
PIN = "pin_user_pages(9)"
RST = "core-api/pin_user_pages.rst"
BAD_ARGS = r"is_valid_gup_args|is_valid_gup_flags|get_user_pages|pin_user_pages"
# mm/internal.h since 6.3, in no header that a module sees.
FOLL_TOUCH, FOLL_PIN = 1 << 16, 1 << 19
RETURNS_0 = departure(
    "pin_user_pages(), _remote() and _unlocked() return 0 for arguments that they refuse, as if nothing were wrong",
    cites="mm/gup.c, pin_user_pages(): if (!is_valid_gup_args(...)) return 0; since the checks were joined in 6.3",
    shows="arguments that were refused returned 0",
    kernels=">=6.3",
)


@claim(
    "gup.nofault.1",
    FLAGS,
    "do not fault in pages",
    reading="FOLL_NOFAULT: an empty page is -EFAULT and stays empty.",
    sabotage=entry_bit("present", set=True),
)
def test_nofault_is_efault_where_nothing_is_mapped(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.get_user_pages(area, nofault=True) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(area).pfns == NO_PFN


@claim(
    "gup.nofault.2",
    FLAGS,
    "do not fault in pages",
    reading="FOLL_NOFAULT: what is there before the first empty page is taken.",
    sabotage=refcount(-1, at=2),
)
def test_nofault_takes_what_is_there(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    mapped = area[:2].touch()
    before = witness.pages(mapped)
    with subject.get_user_pages(area, nofault=True) as pins:
        held = witness.pages(mapped)
        assert pins.returned == 2
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1
        assert witness.pages(area[2]).pfns == NO_PFN


@claim(
    "gup.nofault.3",
    FLAGS,
    "do not fault in pages",
    reading="FOLL_NOFAULT: copy-on-write is not broken either.",
    sabotage=entry_pfn(+1, at=2),
)
def test_nofault_breaks_no_copy_on_write(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="rw").load()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True, nofault=True) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(area).entries == before.entries


@claim(
    "gup.anon.1",
    FLAGS,
    "don't do file mappings",
    reading="FOLL_ANON: a page of a file is -EFAULT.",
    sabotage=refcount(+1, at=2),
)
def test_anon_refuses_a_file(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, anon=True) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.refcounts == before.refcounts
        assert after.entries == before.entries


@claim(
    "gup.anon.2",
    FLAGS,
    "don't do file mappings",
    reading="FOLL_ANON: anonymous memory is taken as ever.",
    sabotage=refcount(-1, at=2),
)
def test_anon_takes_anonymous_memory(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, anon=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1


@claim(
    "gup.dump.1",
    FLAGS,
    "give error on hole if it would be zero",
    reading="FOLL_DUMP: memory that was never touched is -EFAULT and stays empty.",
    sabotage=entry_bit("present", set=True),
)
def test_dump_refuses_a_hole(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw")
    area[:1].touch()
    hole = area[1:]
    with subject.get_user_pages(hole, dump=True) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(hole).pfns == NO_PFN


@claim(
    "gup.dump.2", GUP, "FOLL_DUMP: Avoid special (like zero) pages in core dumps", sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_dump_refuses_the_zero_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").load()
    before = witness.pages(area)
    assert before.pfns == witness.zero_pfn
    with subject.get_user_pages(area, dump=True) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts


@claim(
    "gup.touch.1", GUP, "FOLL_TOUCH: mark page accessed", sabotage=page_flag("PG_referenced", set=False, at=2)
)
def test_get_user_pages_marks_the_page_accessed(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    subject.clear_young()
    before = witness.pages(area)
    assert before.flag("PG_referenced") == 0
    with subject.get_user_pages(area[:1]):
        after = witness.pages(area)
        assert after.flag("PG_referenced") == (1, 0)
        assert after.entries == before.entries


@claim(
    "gup.touch.2",
    "mm/gup.c",
    "FOLL_TOUCH with FOLL_WRITE makes a page dirty whose entry and whose page are clean.",
    code="follow_page_pte(): set_page_dirty()",
    sabotage=page_flag("PG_dirty", set=False, at=2),
)
def test_write_marks_a_clean_page_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).load()
    before = witness.pages(area)
    assert (before.flag("PG_dirty").any, before.dirty.any) == (False, False)
    with subject.get_user_pages(area[:1], write=True) as pins:
        after = witness.pages(area)
        assert pins.returned == 1
        assert after.flag("PG_dirty") == (1, 0)


@claim(
    "gup.get.1", RST, "If FOLL_GET was *not* specified, but the caller passed in a non-null struct pages* array, then "
    "the function sets FOLL_GET for you, and proceeds to pin pages by incrementing the refcount of each page by +1.",
    sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_foll_get_changes_nothing(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area) as unasked, subject.get_user_pages(area, get=True) as asked:
        held = witness.pages(area)
        assert unasked.pfns == asked.pfns
        assert held.refcounts == before.refcounts + 2


@claim(
    "gup.flags.1", GUP, "LONGTERM can only be specified when pinning", warns=BAD_ARGS, sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_longterm_is_for_pins_only(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for call in (subject.get_user_pages, subject.get_user_pages_fast, subject.get_user_pages_unlocked):
        with call(area, longterm=True) as pins:
            assert (pins.errno, pins.filled) == ("EINVAL", 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.flags.2", RST, "FOLL_PIN is internal to gup, meaning that it should not appear at the gup call sites.",
    warns=BAD_ARGS, sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_foll_pin_is_internal(subject: Subject, witness: Witness) -> None:
    flag = witness.layout["FOLL_PIN"] if witness.layout.has("FOLL_PIN") else FOLL_PIN
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, flags=flag) as pins:
        assert (pins.errno, pins.filled) == ("EINVAL", 0)
    with subject.get_user_pages_fast(area, flags=flag) as pins:
        assert (pins.errno, pins.filled) == ("EINVAL", 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.flags.3", GUP, "FOLL_TOUCH/FOLL_PIN/FOLL_TRIED/FOLL_FAST_ONLY are internal only", kernels=">=6.3",
    warns=BAD_ARGS, sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_foll_touch_is_internal(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, flags=FOLL_TOUCH) as pins:
        assert (pins.errno, pins.filled) == ("EINVAL", 0)
    with subject.get_user_pages_remote(subject, area, flags=FOLL_TOUCH) as pins:
        assert (pins.errno, pins.filled) == ("EINVAL", 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.flags.4", GUP, "Pages input must be given if using GET/PIN", kernels=">=6.3", warns=BAD_ARGS,
    sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_a_reference_needs_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for call in (subject.get_user_pages, subject.get_user_pages_fast):
        with call(area, get=True, no_pages=True) as pins:
            assert (pins.errno, pins.filled) == ("EINVAL", 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.flags.5",
    DOC,
    "If nr_pages is >0, but no pages were pinned, returns -errno.",
    reading="FOLL_GET with pin_user_pages().",
    warns=BAD_ARGS,
    sabotage=refcount(+1, at=2),
    departs=RETURNS_0,
)
def test_get_and_pin_exclude_each_other(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages(area, get=True) as pins:
        after = witness.pages(area)
        assert after.refcounts == before.refcounts
        assert pins.errno == "EINVAL", f"arguments that were refused returned {pins.returned}"


@claim(
    "gup.flags.6",
    DOC,
    "If nr_pages is >0, but no pages were pinned, returns -errno.",
    reading="pin_user_pages() without pages.",
    warns=BAD_ARGS,
    sabotage=refcount(+1, at=2),
    departs=RETURNS_0,
)
def test_a_pin_needs_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages_unlocked(area, no_pages=True) as pins:
        after = witness.pages(area)
        assert after.refcounts == before.refcounts
        assert pins.errno == "EINVAL", f"arguments that were refused returned {pins.returned}"


@claim(
    "gup.flags.7",
    "mm/gup.c",
    "pin_user_pages(), _remote() and _unlocked() return 0 for flags that make no sense.",
    code="pin_user_pages(): if (!is_valid_gup_args()) return 0",
    kernels=">=6.3",
    warns=BAD_ARGS,
    sabotage=refcount(+1, at=2),
)
def test_pin_calls_return_0_for_bad_arguments(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    for pins in (
        subject.pin_user_pages(area, get=True),
        subject.pin_user_pages_unlocked(area, get=True),
        subject.pin_user_pages_remote(subject, area, get=True),
    ):
        assert (pins.returned, pins.filled) == (0, 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.flags.8", GUP, "FOLL_GET and FOLL_PIN are mutually exclusive.", warns=BAD_ARGS, sabotage=refcount(+1, at=2),
)  # fmt: skip
def test_get_and_pin_exclude_each_other_in_the_fast_call(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages_fast(area, get=True) as pins:
        assert (pins.errno, pins.filled) == ("EINVAL", 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.flags.9",
    GUP,
    "We want to allow the pgmap to be hot-unplugged at all times",
    reading="So FOLL_LONGTERM with FOLL_PCI_P2PDMA is refused.",
    kernels=">=6.3",
    warns=BAD_ARGS,
    sabotage=refcount(+1, at=2),
)
def test_longterm_excludes_p2pdma(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.pin_user_pages_fast(area, longterm=True, pci_p2pdma=True) as pins:
        assert (pins.errno, pins.filled) == ("EINVAL", 0)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.flags.10",
    FLAGS,
    "allow returning PCI P2PDMA pages",
    reading="FOLL_PCI_P2PDMA changes nothing for ordinary pages.",
    kernels=">=6.3",
    sabotage=refcount(-1, at=2),
)
def test_p2pdma_changes_nothing_for_other_pages(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, pci_p2pdma=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.refcounts == before.refcounts + 1
