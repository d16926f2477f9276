"""Pages that a test leaves pinned are seen from the host."""

from hostwalk.suites.running import pinned, settled


def test_pinned_pages_are_counted_while_they_are_pinned(cell, subject):
    area = subject.mmap(pages=4, prot="rw").touch()
    before = pinned(cell)
    with subject.pin_user_pages(area, write=True):
        assert pinned(cell) == before + 4
    assert settled(cell, before) == before
