"""Random mappings, built independently in every format, come back from walk and scan, flags and all."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from table_builder import SHAPES, Builder

from hostwalk.memory import FakeMemory
from hostwalk.paging import AddressSpace, End, Rights, arm64, scan, walk, x86_64

SETTINGS = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
R, W, X = Rights.READ, Rights.WRITE, Rights.EXEC
UR, UW, UX = Rights.USER_READ, Rights.USER_WRITE, Rights.USER_EXEC


@dataclass(frozen=True)
class Mapping:
    virt: int
    phys: int
    level: int
    user: bool
    write: bool
    user_exec: bool
    kernel_exec: bool


def format_of(shape):
    if not shape.arm:
        return x86_64.make_format(5 if shape.va_bits == 57 else 4)
    half = arm64.Half(shape.page_shift, shape.va_bits, shape.wide, shape.phys_bits)
    return arm64.make_format(half)


def space_of(shape, root, upper):
    bits = arm64.linux_bits({}) if shape.arm else x86_64.linux_bits({})
    span = 1 << (shape.va_bits if shape.arm else shape.va_bits - 1)
    start = (1 << 64) - span if upper else 0
    return AddressSpace("test", format_of(shape), root, start, start + span, bits)


def attributes(shape, mapping):
    """Return the permission bits, by hand from the manuals."""
    if shape.arm:
        user = 1 << 6 if mapping.user else 0
        read_only = 0 if mapping.write else 1 << 7
        uxn = 0 if mapping.user_exec else 1 << 54
        pxn = 0 if mapping.kernel_exec else 1 << 53
        return user | read_only | uxn | pxn | 1 << 10
    user, write = (4 if mapping.user else 0), (2 if mapping.write else 0)
    return user | write | (0 if mapping.user_exec else 1 << 63)


def rights(shape, mapping):
    """Return the effective rights that a mapping should have."""
    expected = R | (W if mapping.write else Rights.NONE)
    if mapping.user:
        expected |= UR | (UW if mapping.write else Rights.NONE)
    if shape.arm:
        expected |= UX if mapping.user_exec else Rights.NONE
        expected |= X if mapping.kernel_exec and not (mapping.user and mapping.write) else Rights.NONE
    elif mapping.user_exec:
        expected |= X | (UX if mapping.user else Rights.NONE)
    return expected


@st.composite
def layouts(draw, shape):
    """Draw a half and mappings in it that do not overlap."""
    upper = draw(st.booleans())
    base = space_of(shape, 0, upper).start
    span = shape.va_bits if shape.arm else shape.va_bits - 1
    chosen, taken = [], []
    for _ in range(draw(st.integers(1, 8))):
        level = draw(st.sampled_from(shape.blocks))
        size_bits = shape.page_shift + level * shape.width
        if size_bits >= span:
            continue
        low = draw(st.integers(0, (1 << (span - size_bits)) - 1)) << size_bits
        if any(low < end and start < low + (1 << size_bits) for start, end in taken):
            continue
        taken.append((low, low + (1 << size_bits)))
        phys = draw(st.integers(0, (1 << (shape.phys_bits - size_bits)) - 1)) << size_bits
        chosen.append(Mapping(base + low, phys, level, *(draw(st.booleans()) for _ in range(4))))
    return upper, sorted(chosen, key=lambda m: m.virt)


def build(shape, mappings):
    builder = Builder(shape, FakeMemory())
    places = [
        builder.put(m.virt, m.level, builder.leaf(m.phys, m.level, attributes(shape, m))) for m in mappings
    ]
    return builder, places


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@SETTINGS
@given(data=st.data())
def test_mappings_come_back_from_walk_and_scan(shape, data):
    upper, mappings = data.draw(layouts(shape))
    builder, places = build(shape, mappings)
    space = space_of(shape, builder.root, upper)
    leaves = scan(builder.memory, space)
    assert [leaf.virt_addr for leaf in leaves] == [m.virt for m in mappings]
    for mapping, place, leaf in zip(mappings, places, leaves, strict=True):
        inside = data.draw(st.integers(0, builder.size(mapping.level) - 1))
        seen = walk(builder.memory, space, mapping.virt + inside)
        assert (seen.end, seen.phys_addr, seen.leaf) == (End.MAPPED, mapping.phys + inside, leaf)
        assert (leaf.phys_addr, leaf.entry_phys, leaf.size) == (
            mapping.phys,
            place,
            builder.size(mapping.level),
        )
        assert leaf.rights == rights(shape, mapping)
    assert not leaves.findings
    assert leaves.tables == len(builder.tables)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@SETTINGS
@given(data=st.data())
def test_scan_of_a_range_is_the_walk_of_each_address(shape, data):
    upper, mappings = data.draw(layouts(shape))
    builder, _ = build(shape, mappings)
    space = space_of(shape, builder.root, upper)
    page = 1 << shape.page_shift
    for mapping in mappings:
        start = max(space.start, mapping.virt - 2 * page)
        end = min(space.end, mapping.virt + 3 * page)
        leaves = scan(builder.memory, space, start, end)
        walks = [walk(builder.memory, space, at) for at in range(start, end, page)]
        assert list(leaves) == list(dict.fromkeys(seen.leaf for seen in walks if seen.leaf))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pages=st.integers(1, 6))
def test_garbage_ends_and_scan_agrees_with_walk(shape, seed, pages):
    random = np.random.default_rng(seed)
    memory = FakeMemory()
    table = 1 << shape.page_shift
    entries = random.integers(0, 2**64, (pages, table // 8), dtype=np.uint64)
    entries[random.random(entries.shape) < 0.9] = 0
    near = random.random(entries.shape) < 0.5
    entries[near & (entries != 0)] = random.integers(0, pages) * table | 0x7
    memory.write(0, entries.tobytes())
    space = space_of(shape, 0, upper=bool(seed % 2))
    leaves = scan(memory, space, non_present=True)
    assert memory.reads < 100_000
    for i in random.integers(0, max(1, len(leaves)), 5 if len(leaves) else 0):
        leaf = leaves[int(i)]
        assert walk(memory, space, leaf.virt_addr).leaf == leaf
