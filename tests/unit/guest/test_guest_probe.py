"""Probes by threads of the real agent, as processes of this host."""

import pytest

from hostwalk.guest import AccessFaulted, probing


def test_a_right_that_is_gone_is_gone_for_every_thread(subject):
    area = subject.mmap(pages=3)
    with probing(subject, area) as probe:
        subject.mprotect(area, "r")
    assert probe.faulted
    assert set(probe.replies) == {"the same thread", "another thread"}
    assert {reply.fault.signal for replies in probe.replies.values() for reply in replies} == {"SIGSEGV"}
    with probing(subject, area, "load") as probe:
        subject.mprotect(area, "none")
    assert probe.faulted


def test_what_still_works_is_told(subject):
    area = subject.mmap(pages=3)
    with probing(subject, area) as probe:
        subject.mprotect(area[:2], "r")
    assert not probe.faulted
    assert probe.let_through == tuple(
        f"store at {area.address(2):#x} by {who}" for who in ("the same thread", "another thread")
    )
    assert str(probe).startswith(
        "stores of 3 pages by the same thread, another thread: let through: store at"
    )


def test_the_right_must_be_there_first(subject):
    area = subject.mmap(pages=1, prot="r")
    with pytest.raises(AccessFaulted), probing(subject, area):
        pass


def test_nothing_probed_is_nothing_proven(subject):
    area = subject.mmap(pages=1)
    with pytest.raises(KeyError), probing(subject, area) as probe:
        raise KeyError
    assert not probe.faulted
