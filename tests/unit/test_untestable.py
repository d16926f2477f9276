"""What git bisect is to skip: kernels from source that do not build or boot, and no others."""

from __future__ import annotations

import pytest

from hostwalk.cell import untestable_if_built
from hostwalk.errors import (
    BootError,
    BuildError,
    BuildInterruptedError,
    FetchError,
    GuestCrashError,
    HostwalkError,
    KernelBuildError,
    MissingToolError,
)
from hostwalk.report.model import Verdict
from hostwalk.target import Arch, Target
from hostwalk.verdicts import judge_error


def _status(kernel: str, error: HostwalkError) -> int:
    with pytest.raises(type(error)), untestable_if_built(Target(Arch.X86_64, kernel)):
        raise error
    return error.exit_status


@pytest.mark.parametrize("kernel", ["tree:.", "source:7.3"])
@pytest.mark.parametrize("kind", [KernelBuildError, BuildError, BootError, GuestCrashError])
def test_what_keeps_a_built_kernel_from_its_first_answer(kernel: str, kind: type[HostwalkError]) -> None:
    error = kind("no")
    assert _status(kernel, error) == 125
    ending = judge_error(error)
    assert (ending.verdict, ending.untestable) == (Verdict.UNPROVEN, True)


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("debian:6.12", BuildError),
        ("debian:6.12", BootError),
        ("tree:.", FetchError),
        ("tree:.", MissingToolError),
        ("tree:.", BuildInterruptedError),
    ],
)
def test_what_says_nothing_about_a_commit(kernel: str, kind: type[HostwalkError]) -> None:
    error = kind("no")
    assert _status(kernel, error) == 3
    assert not judge_error(error).untestable


def test_a_crash_after_the_boot_breaks_a_claim_as_ever() -> None:
    ending = judge_error(GuestCrashError("oops"))
    assert (ending.verdict, ending.crashed, ending.untestable) == (Verdict.BROKEN, True, False)
