"""Leaving one section out of a snapshot, in images made here."""

import os
import struct
from itertools import pairwise

import pytest

from hostwalk.machine.vmstate import Snapshot, at_rest

CLUSTER = 1 << 16
RAM = (
    b"\x04"
    + struct.pack(">I", 2)
    + b"\x03ram"
    + bytes(12)
    + os.urandom(CLUSTER)
    + b"\x7e"
    + struct.pack(">I", 2)
)
CPU = b"\x04" + struct.pack(">I", 5) + b"\x03cpu" + bytes(8) + b"registers" + b"\x7e" + struct.pack(">I", 5)
END = b"\x00"


def common(
    halted: int = 1, interrupts: int = 0, version: int = 1, more: bytes = b"", section: int = 4
) -> bytes:
    head = b"\x04" + struct.pack(">I", section) + b"\x0acpu_common" + struct.pack(">II", 0, version)
    return head + struct.pack(">II", halted, interrupts) + more + b"\x7e" + struct.pack(">I", section)


def stream(*sections: bytes) -> bytes:
    return b"QEVM" + struct.pack(">I", 3) + b"".join(sections) + END


def image(state: bytes, snapshots: int = 1, places: tuple[int, ...] = (7, 5, 6)) -> bytes:
    """Return a qcow2 image of 1 MiB with one snapshot of a state, in clusters at these places."""
    data = bytearray(8 * CLUSTER)
    struct.pack_into(">4sIQIIQ", data, 0, b"QFI\xfb", 3, 0, 0, 16, 1 << 20)
    struct.pack_into(">IQ", data, 60, snapshots, CLUSTER)
    struct.pack_into(">QIHH", data, CLUSTER, 2 * CLUSTER, 2, 1, 5)
    struct.pack_into(">IQQ", data, CLUSTER + 36, 16, len(state), 1 << 20)
    struct.pack_into(">QQ", data, 2 * CLUSTER, 3 * CLUSTER | 1 << 63, 4 * CLUSTER | 1 << 63)
    for number, place in enumerate(places):
        struct.pack_into(">Q", data, 4 * CLUSTER + 8 * number, place * CLUSTER | 1 << 63)
        piece = state[number * CLUSTER : (number + 1) * CLUSTER]
        data[place * CLUSTER : place * CLUSTER + len(piece)] = piece
    return bytes(data)


def test_the_state_is_found_wherever_its_clusters_are() -> None:
    state = stream(RAM, common(), CPU)
    assert Snapshot.of(image(state)).state == state


@pytest.mark.parametrize("more", [(), (common(section=6), CPU)], ids=["one processor", "two"])
def test_the_warm_state_lacks_the_section_and_nothing_else(more: tuple[bytes, ...]) -> None:
    snapshot = Snapshot.of(image(stream(RAM, common(), CPU, *more)))
    without = stream(RAM, CPU, *more[1:])
    assert snapshot.warm is not None
    assert len(snapshot.warm) == len(snapshot.state)
    assert snapshot.warm[: len(without)] == without
    assert not any(snapshot.warm[len(without) :])


@pytest.mark.parametrize(
    "sections",
    [
        (RAM, common(interrupts=2), CPU),
        (RAM, common(version=2), CPU),
        (RAM, common(more=b"\x05sub"), CPU),
        (RAM, common(halted=0), CPU),
        (RAM, common(), CPU, common(halted=0, section=6)),
        (RAM, CPU),
    ],
    ids=["an interrupt waits", "another version", "a subsection", "at work", "the second at work", "none"],
)
def test_a_state_that_says_more_is_loaded_whole(sections: tuple[bytes, ...]) -> None:
    assert Snapshot.of(image(stream(*sections))).warm is None


def test_processors_at_rest() -> None:
    assert at_rest(stream(RAM, common(), CPU, common(section=6), CPU))
    assert not at_rest(stream(RAM, common(), CPU, common(interrupts=16, section=6), CPU))
    assert not at_rest(stream(RAM, CPU))


def test_states_take_each_other_s_place_in_the_image() -> None:
    before = image(stream(RAM, common(), CPU))
    snapshot = Snapshot.of(before)
    assert snapshot.warm is not None
    file = os.memfd_create("test")
    try:
        os.pwrite(file, before, 0)
        for state, next_state in pairwise((snapshot.state, snapshot.warm, snapshot.state)):
            assert Snapshot.of(os.pread(file, len(before), 0)).state == state
            snapshot.put(file, next_state)
        assert os.pread(file, len(before) + 1, 0) == before
    finally:
        os.close(file)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"QFI\xfb",
        image(stream(), snapshots=2),
        image(b"no stream"),
        image(stream())[: 3 * CLUSTER],
        image(stream(RAM), places=(7, 0)),
    ],
    ids=["empty", "cut", "two snapshots", "another stream", "cut in the tables", "a hole"],
)
def test_an_image_that_is_not_understood_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"snapshot|stream|cut"):
        Snapshot.of(damaged)
