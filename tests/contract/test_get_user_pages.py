"""get_user_pages and __get_user_pages: what is returned, what is held, what is refused."""

from __future__ import annotations

from hostwalk.claim import claim, departure
from hostwalk.guest import Subject
from hostwalk.sabotage import entry_bit, entry_pfn, page_flag, refcount, vm_flag
from hostwalk.witness import NO_PFN, Witness

PAGE = "get_user_pages(9)"
OLD_PAGE = "__get_user_pages(9)"


@claim("gup.count.1", OLD_PAGE, "Returns number of pages pinned.", sabotage=refcount(-1, at=2))
def test_returns_the_number_of_pages_pinned(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert pins.returned == (held.refcounts - before.refcounts).count(1) == area.pages


@claim(
    "gup.ref.1", OLD_PAGE, "Each page returned must be released with a put_page call when it is finished with.",
    sabotage=refcount(+1, at=3),
)  # fmt: skip
def test_each_page_holds_one_reference_until_put_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=4, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert held.refcounts == before.refcounts + 1
        pins.put(first=1, count=2)
        some = witness.pages(area)
        assert some.refcounts == before.refcounts + (1, 0, 0, 1)
    assert witness.pages(area).refcounts == before.refcounts


@claim(
    "gup.instant.1", OLD_PAGE,
    "It must match the page that would be there if a user were to access the address at that instant.",
    sabotage=entry_pfn(+1),
)  # fmt: skip
def test_pages_are_those_the_page_tables_map(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=8, prot="rw").touch()
    with subject.get_user_pages(area) as pins:
        assert witness.pages(area).pfns == pins.pfns


@claim("gup.zero.1", OLD_PAGE, "If nr_pages is 0 [...], returns 0.", sabotage=refcount(+1, at=2))
def test_no_pages_asked_for(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area, nr_pages=0) as pins:
        after = witness.pages(area)
        assert (pins.returned, pins.filled) == (0, 0)
        assert after.refcounts == before.refcounts
        assert after.entries == before.entries


@claim("gup.partial.1", OLD_PAGE, "This may be fewer than the number requested.", sabotage=refcount(-1, at=2))
def test_a_hole_ends_the_walk_and_keeps_what_was_pinned(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=6, prot="rw").touch()
    subject.munmap(area[4:])
    mapped = area[:4]
    before = witness.pages(mapped)
    with subject.get_user_pages(area) as pins:
        held = witness.pages(mapped)
        assert (pins.returned, pins.filled) == (4, 4)
        assert held.refcounts == before.refcounts + 1
        assert held.pfns == pins.pfns


@claim(
    "gup.errno.1", OLD_PAGE, "If no pages were pinned, returns -errno.", sabotage=entry_bit("present", set=True),
)  # fmt: skip
def test_an_unmapped_address_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=3, prot="rw").touch()
    hole = area[1:2]
    subject.munmap(hole)
    with subject.get_user_pages(hole) as pins:
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert witness.pages(hole).pfns == NO_PFN


@claim(
    "gup.write.1", PAGE, "FOLL_WRITE: the page is one that a user could write: copy-on-write is broken first.",
    sabotage=entry_bit("writable", set=False, at=2),
)  # fmt: skip
def test_write_breaks_copy_on_write(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").load()
    before = witness.pages(area)
    assert before.pfns == witness.zero_pfn
    with subject.get_user_pages(area, write=True) as pins:
        held = witness.pages(area)
        assert held.pfns == pins.pfns
        assert held.writable == 1
        assert held.anon == 1
        assert held.exclusive == 1
        assert witness.zero_pfn not in held.pfns


@claim(
    "gup.read.1", PAGE, "Without FOLL_WRITE the mapping is left as a read would leave it.",
    sabotage=entry_pfn(+1, at=1),
)  # fmt: skip
def test_read_maps_the_zero_page(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw")
    with subject.get_user_pages(area) as pins:
        held = witness.pages(area)
        assert pins.returned == 2
        assert held.pfns == witness.zero_pfn
        assert held.writable == 0


@claim(
    "gup.access.1", PAGE, "A write to a mapping without VM_WRITE is refused with -EFAULT unless FOLL_FORCE is given.",
    sabotage=entry_bit("writable", set=True, at=2),
)  # fmt: skip
def test_write_to_a_read_only_mapping_is_efault(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="r").load()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.refcounts == before.refcounts
        assert after.writable == 0


@claim(
    "gup.force.1", OLD_PAGE, "force: whether to force access even when user mapping is currently protected.",
    sabotage=entry_bit("writable", set=True, at=2),
)  # fmt: skip
def test_force_writes_a_private_copy_and_leaves_the_mapping_read_only(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="r", fd=subject.memfd(1)).load()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True, force=True) as pins:
        held = witness.pages(area)
        assert pins.returned == 1
        assert held.pfns == pins.pfns
        assert held.pfns != before.pfns
        assert held.anon == 1
        assert held.exclusive == 1
        assert held.writable == 0


@claim(
    "gup.force.2", OLD_PAGE, "force: the page is COWed even in MAP_SHARED mappings.",
    sabotage=entry_bit("writable", set=True, at=2),
    departs=departure(
        "FOLL_FORCE with FOLL_WRITE on a mapping that is not copy-on-write is -EFAULT since 3.15",
        cites="cda540ace6a1 (mm: get_user_pages(write,force) refuse to COW in shared areas)",
        shows="EFAULT",
        kernels=">=3.15",
    ),
)  # fmt: skip
def test_force_in_a_shared_mapping(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="r", shared=True, fd=subject.memfd(1)).load()
    with subject.get_user_pages(area, write=True, force=True) as pins:
        witness.pages(area)
        assert (pins.returned, pins.errno) == (1, None)


@claim(
    "gup.force.3", PAGE, "FOLL_FORCE never puts an anonymous page into a shared mapping: -EFAULT.",
    sabotage=entry_pfn(+1, at=2),
)  # fmt: skip
def test_force_leaves_a_shared_mapping_alone(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=1, prot="r", shared=True, fd=subject.memfd(1)).load()
    before = witness.pages(area)
    with subject.get_user_pages(area, write=True, force=True) as pins:
        after = witness.pages(area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.anon == 0
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts


@claim(
    "gup.pfnmap.1", PAGE, "A VM_IO or VM_PFNMAP mapping is refused with -EFAULT and nothing in it changes.",
    sabotage=entry_bit("dirty", set=True, at=2),
)  # fmt: skip
def test_a_pfn_mapping_is_efault(subject: Subject, witness: Witness) -> None:
    inserted = subject.insert("remap_pfn_range", subject.alloc_pages("order0", nr=1), prot="rw", shared=True)
    before = witness.pages(inserted.area)
    with subject.get_user_pages(inserted.area) as pins:
        after = witness.pages(inserted.area)
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert after.entries == before.entries
        assert after.refcounts == before.refcounts


@claim(
    "gup.stack.1", PAGE, "An address below a stack mapping is -EFAULT: the stack is not grown.",
    sabotage=entry_bit("present", set=True),
)  # fmt: skip
def test_the_stack_is_not_grown(subject: Subject, witness: Witness) -> None:
    stack = subject.mmap(pages=64, prot="rw")
    subject.munmap(stack)
    top = subject.mmap(pages=1, prot="rw", fixed_at=stack[-1:].start, growsdown=True).touch()
    with subject.get_user_pages(stack[-2:-1]) as pins:
        below = witness.pages(stack[-2:-1])
        assert (pins.errno, pins.filled) == ("EFAULT", 0)
        assert below.pfns == NO_PFN
        assert witness.vma(top).start == top.start


@claim(
    "gup.dirty.1", OLD_PAGE,
    "If the page is written to, set_page_dirty (or set_page_dirty_lock, as appropriate) must be called after the "
    "page is finished with, and before put_page is called.",
    sabotage=page_flag("PG_dirty", set=False, at=2),
)  # fmt: skip
def test_set_page_dirty_lock_leaves_the_page_dirty(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw", shared=True, fd=subject.memfd(2)).load()
    before = witness.pages(area)
    with subject.get_user_pages(area) as pins:
        assert before.flag("PG_dirty") == 0
        pins.set_page_dirty_lock(first=0, count=1)
        after = witness.pages(area)
        assert after.flag("PG_dirty") == (1, 0)
        assert after.refcounts == before.refcounts + (0, 1)


@claim(
    "gup.unmapped.1", OLD_PAGE,
    "It does not guarantee that the page exists in the user mappings when __get_user_pages returns [...] but it is "
    "not freed completely.",
    sabotage=refcount(-1, at=2),
)  # fmt: skip
def test_a_held_page_outlives_its_mapping(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.pages(area)
    with subject.get_user_pages(area) as pins:
        subject.munmap(area)
        orphans = witness.frames(pins.pfns)
        assert orphans.pfns == before.pfns
        assert orphans.refcounts == 1
        assert orphans.mapcounts == 0
    assert witness.frames(before.pfns).refcounts == 0


@claim(
    "gup.remote.1", "get_user_pages_remote(9)", "get_user_pages_remote walks another process's page tables.",
    sabotage=entry_pfn(+1),
)  # fmt: skip
def test_remote_pages_are_those_of_the_other_process(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    with subject.fork() as child:
        child.store(area.start, stride=area.page_size, count=2)
        with subject.get_user_pages_remote(child, area) as pins:
            assert witness.pages(area, of=child).pfns == pins.pfns
            assert witness.pages(area).pfns != pins.pfns


@claim(
    "gup.vma.1", PAGE, "Pinning pages changes neither the mapping nor its flags.", sabotage=vm_flag("VM_LOCKED", at=2),
)  # fmt: skip
def test_the_vma_stays_as_it_was(subject: Subject, witness: Witness) -> None:
    area = subject.mmap(pages=2, prot="rw").touch()
    before = witness.vma(area)
    with subject.get_user_pages(area, write=True):
        assert witness.vma(area) == before
