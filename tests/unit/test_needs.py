"""What a claim needs: had, or the claim ends as not applicable with the reason."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hostwalk.needs import huge_page, uffd_wp


def _cell(area: object, huge: int) -> tuple[Any, Any]:
    subject = SimpleNamespace(huge_page=lambda: area)
    return subject, SimpleNamespace(pages=lambda _part: SimpleNamespace(huge=huge))


def test_a_huge_page_is_one_in_the_eyes_of_the_witness() -> None:
    area = list(range(512))
    assert huge_page(*_cell(area, huge=1)) is area


@pytest.mark.parametrize(("area", "huge"), [(None, 1), ([0], 0)])
def test_no_huge_page_ends_the_claim(area: object, huge: int) -> None:
    with pytest.raises(pytest.skip.Exception, match="no huge page"):
        huge_page(*_cell(area, huge))


def test_userfaultfd_is_had_or_ends_the_claim() -> None:
    area: Any = object()
    subject: Any = SimpleNamespace(register_uffd_wp=lambda _area: 0)
    assert uffd_wp(subject, area) == 0
    subject.register_uffd_wp = lambda _area: None
    with pytest.raises(pytest.skip.Exception, match="cannot write-protect"):
        uffd_wp(subject, area)
