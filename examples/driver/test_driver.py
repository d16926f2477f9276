"""The ring driver on every target, as its author would test it: hostwalk is installed, this is another repository."""

import struct
from pathlib import Path

import pytest

from hostwalk.claim import claim
from hostwalk.sabotage import entry_bit, refcount
from hostwalk.witness import NO_PFN

DRIVER = Path(__file__).parent
RING_PAGES = 4


@pytest.fixture
def ring(load_module, subject):
    """Map the ring in the subject; return the mapping and the page frames that the driver claims."""
    load_module(DRIVER)
    fd = subject.open("/dev/ring")
    pfns = struct.unpack(f"<{RING_PAGES}Q", subject.read(fd, 8 * RING_PAGES))
    area = subject.mmap(RING_PAGES, "rw", shared=True, fd=fd)
    subject.close(fd)
    return area, pfns


@claim(
    "ring.map.1", "ring(4)", "mmap() maps each page of the ring, in order, for reading and writing.",
    sabotage=entry_bit("writable", set=False),
)  # fmt: skip
def test_the_whole_ring_is_mapped(ring, witness):
    area, pfns = ring
    mapped = witness.pages(area)
    assert mapped.pfns == pfns
    assert (mapped.writable, mapped.executable, mapped.special) == (1, 0, 0)


@claim(
    "ring.share.1", "ring(4)", "What a user writes to the ring is in the driver's pages, and nowhere else.",
    sabotage=entry_bit("dirty", set=False, page=2),
)  # fmt: skip
def test_a_store_reaches_the_page_of_the_driver(ring, witness):
    area, pfns = ring
    area[2].store(0x5A)
    written = witness.pages(area)
    assert (written.pfns, written.dirty) == (pfns, (0, 0, 1, 0))
    assert [witness.contents(area[page])[0] for page in range(RING_PAGES)] == [0, 0, 0x5A, 0]


@claim(
    "ring.munmap.1", "ring(4)", "munmap() gives back what mmap() took: the driver alone holds its pages.",
    sabotage=refcount(+1, at=3),
)  # fmt: skip
def test_munmap_leaves_the_pages_to_the_driver(ring, subject, witness):
    area, pfns = ring
    mapped = witness.frames(pfns)
    assert (mapped.refcounts, mapped.mapcounts) == (2, 1)
    subject.munmap(area)
    assert witness.pages(area).pfns == NO_PFN
    after = witness.frames(pfns)
    assert (after.refcounts, after.mapcounts) == (1, 0)
