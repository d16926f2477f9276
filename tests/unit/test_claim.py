from __future__ import annotations

import pytest

from hostwalk.claim import Kernels, departure, not_applicable_if, version_code
from hostwalk.errors import UsageError
from hostwalk.guest import SyscallFailed


def test_version_codes_order_like_versions() -> None:
    assert version_code("6.1") == 0x60100
    assert version_code("6.1.300") == 0x601FF
    assert version_code("5.19.17") < version_code("6.1") < version_code("6.12.117")


@pytest.mark.parametrize(
    ("text", "kernel", "included"),
    [
        ("", "3.10", True),
        (">=6.1", "6.1", True),
        (">=6.1, <6.12", "6.12", False),
        (">=6.1, <6.12", "6.11.9", True),
        ("<6.12", "6.12.1", False),
        ("==6.1", "6.1", True),
    ],
)
def test_kernels_are_included_by_every_part(text: str, kernel: str, included: bool) -> None:
    assert Kernels(text).include(version_code(kernel)) is included


def test_a_condition_that_cannot_be_read_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="newer than"):
        Kernels("newer than 6.1")


def test_a_departure_explains_only_its_own_failure() -> None:
    known = departure("leaks", cites="commit", shows="returned 1", kernels=">=5.11")
    assert known.explains("it returned 1", version_code("6.1"))
    assert not known.explains("refcounts differ", version_code("6.1"))
    assert not known.explains("it returned 1", version_code("5.10"))


def test_a_call_that_fails_as_expected_ends_the_claim_and_another_failure_is_one() -> None:
    with pytest.raises(pytest.skip.Exception, match="too small"), not_applicable_if("ENOMEM", "too small"):
        raise SyscallFailed("mmap()", "ENOMEM")
    with pytest.raises(SyscallFailed, match="EINVAL"), not_applicable_if("ENOMEM", "too small"):
        raise SyscallFailed("mmap()", "EINVAL")
