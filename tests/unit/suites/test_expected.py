"""Known failures are shown as such, with their reason, and hide nothing else."""

from __future__ import annotations

import pytest

from hostwalk.suites.expected import Expectation, Known, Needs, parsed
from hostwalk.suites.outcome import Outcome, Result
from hostwalk.suites.plan import Step
from hostwalk.target import Arch

MANIFEST = """\
[[mm.needs]]
test = "huge*"
setup = "echo 32 >/proc/sys/vm/nr_hugepages"
seconds = 60
config = { CONFIG_HUGETLB_PAGE = ["*huge*"] }

[[mm.needs]]
test = "hugetlb_one -x"
setup = "echo 1 >/proc/sys/vm/nr_hugepages"
modules = ["brd rd_nr=1"]
carries = ["test_vmalloc"]
unbounded = true
seconds = 900

[[mm.variables]]
test = "uffd*"
values = { half = "64" }

[mm.commands]
pgrep = "#!/bin/sh"

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


def test_a_program_s_end_by_a_signal_is_excused_only_where_that_one_is_known() -> None:
    known = Known((Expectation("mm / x", "6.12.*", "*", "it has no handler", signal="SIGBUS"),))
    bus, segv, kernel = (
        Result("mm / x", Outcome.CRASH, reason)
        for reason in (
            "killed by SIGBUS (before any result)",
            "killed by SIGSEGV (before any result)",
            "the guest's kernel: BUG (before any result)",
        )
    )
    excused, *others = known.applied((bus, segv, kernel), "6.12.1", Arch.X86_64)
    assert excused.outcome is Outcome.XFAIL
    assert others == [segv, kernel]


def test_what_passes_in_spite_of_it_says_so() -> None:
    assert applied(Outcome.PASS).reason == "passes, though known to fail: TCG is slow"


def test_another_kernel_test_or_architecture_is_not_excused() -> None:
    assert applied(Outcome.FAIL, release="6.12.1").outcome is Outcome.FAIL
    assert applied(Outcome.FAIL, arch=Arch.ARM64).outcome is Outcome.FAIL
    assert applied(Outcome.FAIL, name="mm / mseal_test / a").outcome is Outcome.FAIL


def test_what_a_test_needs_goes_by_category_and_by_name() -> None:
    known = parsed(MANIFEST, "mm")
    usual = known.needs_of(Step("hugetlb", ("./hugetlb_dio",)))
    assert usual == Needs(
        "echo 32 >/proc/sys/vm/nr_hugepages", seconds=60, config=(("CONFIG_HUGETLB_PAGE", "*huge*"),)
    )
    one = known.needs_of(Step("hugetlb", ("./hugetlb_one", "-x")))
    assert one.setup.splitlines() == [
        "echo 32 >/proc/sys/vm/nr_hugepages",
        "echo 1 >/proc/sys/vm/nr_hugepages",
    ]
    assert (one.modules, one.unbounded, one.seconds) == (("brd rd_nr=1",), True, 900)
    assert one.carries == ("test_vmalloc",)
    assert known.needs_of(Step("mmap", ("./map_populate",))) == Needs()
    assert parsed(MANIFEST, "net") == Known()


def test_variables_go_by_program() -> None:
    known = parsed(MANIFEST, "mm")
    assert known.variables_of("uffd-stress") == {"half": "64"}
    assert known.variables_of("cow") == {}


@pytest.mark.parametrize(("manifest", "table"), [("kselftest.toml", "mm"), ("ltp.toml", "ltp")])
def test_each_known_failure_that_comes_with_hostwalk_has_a_reason(manifest: str, table: str) -> None:
    known = Known.of(manifest, table)
    assert all(each.reason and each.kernel for each in known.expectations)
    assert known.needs
    assert all(script.startswith("#!/bin/sh\n") for script in known.commands.values())
