"""Known failures are shown as such, with their reason, and hide nothing else."""

from __future__ import annotations

import pytest

from hostwalk.suites.expected import Known, parsed
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.target import Arch

MANIFEST = """\
[mm.setup]
"huge*" = "echo 32 >/proc/sys/vm/nr_hugepages"

[[mm.expect]]
test = "mm / cow / *"
kernel = "7.3.*"
arch = "x86_64"
reason = "TCG is slow"
"""


def applied(
    outcome: Outcome, name: str = "mm / cow / a", release: str = "7.3.4", arch: Arch = Arch.X86_64
) -> Result:
    (result,) = parsed(MANIFEST, "mm").applied([Result(name, outcome, "said")], release, arch)
    return result


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.TIMEOUT, Outcome.MISMATCH])
def test_a_known_failure_is_expected_and_keeps_what_it_was(outcome: Outcome) -> None:
    assert applied(outcome) == Result("mm / cow / a", Outcome.XFAIL, f"TCG is slow ({outcome}: said)")


@pytest.mark.parametrize("outcome", [Outcome.CRASH, Outcome.LEAK, Outcome.UNPROVEN, Outcome.SKIP])
def test_no_crash_and_no_leak_is_excused(outcome: Outcome) -> None:
    assert applied(outcome) == Result("mm / cow / a", outcome, "said")


def test_what_passes_in_spite_of_it_says_so() -> None:
    assert applied(Outcome.PASS).reason == "passes, though known to fail: TCG is slow"


def test_another_kernel_test_or_architecture_is_not_excused() -> None:
    assert applied(Outcome.FAIL, release="6.12.1").outcome is Outcome.FAIL
    assert applied(Outcome.FAIL, arch=Arch.ARM64).outcome is Outcome.FAIL
    assert applied(Outcome.FAIL, name="mm / mseal_test / a").outcome is Outcome.FAIL


def test_setup_belongs_to_a_category() -> None:
    known = parsed(MANIFEST, "mm")
    assert known.setup_of("hugetlb").startswith("echo 32")
    assert not known.setup_of("mmap")
    assert parsed(MANIFEST, "net") == Known()


def test_each_known_failure_that_comes_with_hostwalk_has_a_reason() -> None:
    assert all(each.reason and each.kernel for each in Known.of("mm").expectations)
    assert Known.of("mm").setup_of("hugetlb")
