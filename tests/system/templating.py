"""What tests of templates, forks and resets share."""

from __future__ import annotations

import pytest

from hostwalk.cache import Cache
from hostwalk.cell import Cell, Prepared, prepare
from hostwalk.guest import Subject
from hostwalk.kernels.progress import SILENT
from hostwalk.options import CheckOptions
from hostwalk.paging import walk
from hostwalk.target import Target
from hostwalk.template import Template, template_of


@pytest.fixture(scope="module")
def prepared(target: Target) -> Prepared:
    return prepare(target, CheckOptions(), SILENT, Cache.user())


@pytest.fixture(scope="module")
def template(prepared: Prepared) -> Template:
    return template_of(prepared)


def phys(cell: Cell, subject: Subject, address: int) -> int:
    """Return where a byte of a subject lies in guest RAM."""
    with cell.machine.stopped():
        moment = cell.moment()
        found = walk(moment.memory, moment.mm(subject.pid).space, address).phys_addr
    assert found is not None
    return found
