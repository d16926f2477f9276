"""Machines that are taken back to their template: every byte of it, and no code of the run before."""

import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from templating import phys, prepared, template

from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, prepare
from hostwalk.guest.code import store_call_store
from hostwalk.kernels.progress import SILENT
from hostwalk.machine import Rewinder
from hostwalk.machine.frozen import BLOCK, RAM_FILE
from hostwalk.options import CheckOptions
from hostwalk.target import Arch
from hostwalk.template import AHEAD_SECONDS, Template, template_of

__all__ = ["prepared", "template"]


def storing(cell: Cell, address: int) -> bytes:
    """Return code that stores a byte at an address: on arm64, that of the address."""
    return store_call_store(cell.target.arch, address, cell.agent.abi["__NR_mprotect"], (0, 0, 0))


@contextmanager
def taken_back(cell: Cell, template: Template) -> Iterator[Rewinder]:
    """Yield what has taken a fork back, the machine held still in the template's state."""
    rewinder = template._rewinder(cell)
    go_on, cell.machine.run_on = cell.machine.run_on, lambda: None  # type: ignore[method-assign]
    try:
        with cell.machine.stopped():
            rewinder.rewind()
            yield rewinder
    finally:
        cell.machine.run_on = go_on  # type: ignore[method-assign]


def difference(cell: Cell, template: Template) -> list[str]:
    """Return the guest physical addresses of the pages that are not the template's."""
    data = memoryview((template.frozen.directory / RAM_FILE).read_bytes())
    return [
        f"{region.start + at:#x}"
        for region in cell.memory.regions
        for at in range(0, region.size, BLOCK)
        if cell.memory.read(region.start + at, BLOCK) != data[region.offset + at : region.offset + at + BLOCK]
    ]


def test_a_reset_gives_every_byte_back(template: Template) -> None:
    cell = template.reset(template.fork())
    try:
        cell.agent.spawn().mmap(pages=300, prot="rw").touch()
        with taken_back(cell, template) as rewinder:
            assert rewinder.warm == (cell.machine.accel.name == "tcg")
            assert difference(cell, template) == []
    finally:
        cell.close()


def test_a_machine_whose_kernel_s_code_was_changed_is_replaced(template: Template) -> None:
    cell = template.reset(template.fork())
    try:
        pid, place = cell.machine.pid, cell.linux.phys(cell.linux.symbols["panic"])
        with cell.machine.stopped():
            first = cell.memory.read(place, 1)
            cell.memory.write(place, bytes((first[0] ^ 1,)))
        cell = template.reset(cell)
        assert cell.machine.pid != pid
        assert cell.memory.read(place, 1) == first
    finally:
        cell.close()


def monotonic(cell: Cell) -> float:
    janitor = cell.janitor
    janitor.call("clock_gettime", 1, janitor.scratch)
    seconds, nanoseconds = struct.unpack("<QQ", janitor.peek(janitor.scratch, 16))
    return float(seconds + nanoseconds / 1e9)


def test_the_guest_s_clock_is_the_template_s_but_for_what_its_machine_has_run(template: Template) -> None:
    cell = template.fork()
    try:
        first, pid = monotonic(cell), cell.machine.pid
        for _ in range(2):
            with cell.machine.stopped():
                select.select([], [], [], 0.6)
            cell = template.reset(cell)
            assert cell.machine.pid == pid
            now = monotonic(cell)
            assert now - first < cell.machine.ran.seconds + 0.1
        if template.prepared.target.arch is Arch.X86_64:
            select.select([], [], [], AHEAD_SECONDS)
            cell = template.reset(cell)
            assert cell.machine.pid != pid
    finally:
        cell.close()


def test_code_of_the_run_before_is_not_run_again(template: Template) -> None:
    cell = template.fork()
    try:
        places = set()
        for number in range(1, 4):
            subject = cell.agent.spawn()
            area = subject.code(storing(cell, subject.scratch + number))
            places.add(phys(cell, subject, area.start))
            subject.execute(area.start)
            written = subject.peek(subject.scratch, 4)
            assert [at for at, byte in enumerate(written) if byte] == [number]
            cell = template.reset(cell)
        assert len(places) == 1, "the code was to lie at the same place each time"
    finally:
        cell.close()


def test_two_processors_are_reset_too(prepared: Prepared) -> None:
    target = replace(prepared.target, cpus=2)
    template = template_of(prepare(target, CheckOptions(), SILENT, Cache.user()))
    cell = template.fork()
    try:
        with taken_back(cell, template) as rewinder:
            assert rewinder.warm == (cell.machine.accel.name == "tcg")
            assert difference(cell, template) == []
    finally:
        cell.close()
